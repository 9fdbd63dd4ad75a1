"""The disk behind each environment's /tmp, as root: a small ext4 image on a loop device, made ahead.

A tmpfs would be charged to the function's memory: filling /tmp would kill it (security report, section 7). An image
has exactly the size asked for, answers ENOSPC beyond it, and its dirty pages can be written back.

Nothing of it needs cleaning up after SIGKILL: the image is unlinked as soon as the loop device holds it, the device
clears itself with its last mount, and the mount is detached: it lives in a descriptor until a child moves it into its
own mount namespace.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ctypes
import errno
import fcntl
import logging
import os
import shutil
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lambent.dataplane.jail import syscalls as sc

log = logging.getLogger(__name__)

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LO_FLAGS_AUTOCLEAR = 4
_LOOP_CONFIG = struct.Struct("=II 52xI176x 64x")
"""fd, block size, then loop_info64 of which only the flags are set, then reserved."""
_FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 1, 6
_TAKEN_BY_ANOTHER = 16  # EBUSY: between GET_FREE and CONFIGURE
_ATTEMPTS = 8
REFILL_DELAY_S = 0.05
_COPY_BYTES = 1 << 20


class ScratchDisk:
    """A detached mount. `release` closes it; what a child has attached lives as long as the child."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def release(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def probe() -> str | None:
    """Why disks cannot be made here, None when they can."""
    if os.geteuid() != 0:
        return "only root can mount disk images; /tmp is a tmpfs"
    if shutil.which("mkfs.ext4") is None:
        return "mkfs.ext4 is missing: apt-get install e2fsprogs"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices: modprobe loop"
    return None


class ScratchDisks:
    """Keeps `spare` disks of the default size ready and makes others when asked."""

    def __init__(self, folder: Path, *, default_mb: int = 512, spare: int = 4) -> None:
        self._folder = folder
        self._default_mb = default_mb
        self._spare = spare
        self._ready: collections.deque[ScratchDisk] = collections.deque()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scratch")
        self._refill: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Make the first disk, so that a machine that cannot says so now. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in self._folder.iterdir():
            leftover.unlink()
        self._ready.append(await self._make(self._default_mb))
        self._fill_up()

    async def acquire(self, size_mb: int) -> ScratchDisk:
        if size_mb != self._default_mb or not self._ready:
            return await self._make(size_mb)
        disk = self._ready.popleft()
        # Not now: the start that takes this one needs the processors for the next few milliseconds.
        asyncio.get_running_loop().call_later(REFILL_DELAY_S, self._fill_up)
        return disk

    async def close(self) -> None:
        self._closed = True
        if self._refill is not None:
            self._refill.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refill
        await asyncio.get_running_loop().run_in_executor(None, self._executor.shutdown)
        while self._ready:
            self._ready.popleft().release()

    def _fill_up(self) -> None:
        if not self._closed and (self._refill is None or self._refill.done()):
            self._refill = asyncio.create_task(self._fill(), name="make scratch disks")

    async def _fill(self) -> None:
        while len(self._ready) < self._spare and not self._closed:
            try:
                self._ready.append(await self._make(self._default_mb))
            except OSError as exc:
                log.error("no scratch disk", extra={"action": "scratch_failed", "reason": str(exc)})
                return

    async def _make(self, size_mb: int) -> ScratchDisk:
        work = asyncio.get_running_loop().run_in_executor(self._executor, make_disk, self._folder, size_mb)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # The thread goes on; its disk must not be lost.
            work.add_done_callback(_release_made)
            raise


def _release_made(work: asyncio.Future[ScratchDisk]) -> None:
    if work.exception() is None:
        work.result().release()


def make_disk(folder: Path, size_mb: int) -> ScratchDisk:
    """Blocks some 2 ms. Raises OSError."""
    template = _template(folder, size_mb)
    image = folder / f"{os.urandom(8).hex()}.img"
    try:
        fd = os.open(image, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    finally:
        image.unlink(missing_ok=True)
    try:
        _copy(template, fd)
        device, device_fd = _attach(fd)
    finally:
        os.close(fd)
    try:
        return ScratchDisk(_mount_detached(device))
    finally:
        os.close(device_fd)


def _copy(template: Path, image_fd: int) -> None:
    """With its holes. Not by `cp`: to start a program costs more than all the rest of a disk."""
    fd = os.open(template, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        os.ftruncate(image_fd, size)
        start, end = 0, 0
        while (start := _find_data(fd, end, size)) < size:
            end = os.lseek(fd, start, os.SEEK_HOLE)
            while start < end:
                data = os.pread(fd, min(end - start, _COPY_BYTES), start)
                if not data:
                    raise OSError(f"{template} became shorter")
                start += os.pwrite(image_fd, data, start)
    finally:
        os.close(fd)


def _find_data(fd: int, offset: int, size: int) -> int:
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as exc:
        # Nothing but a hole up to the end.
        if exc.errno != errno.ENXIO:
            raise
        return size


def _template(folder: Path, size_mb: int) -> Path:
    template = folder / f"template-{size_mb}.ext4"
    if template.exists():
        return template
    making = template.with_suffix(".new")
    making.unlink(missing_ok=True)
    with making.open("wb") as file:
        file.truncate(size_mb << 20)
    features = ["-O", "^has_journal,^resize_inode", "-E", "nodiscard,lazy_itable_init=1", "-m", "0"]
    _run(["mkfs.ext4", "-q", "-F", *features, str(making)])
    making.rename(template)
    return template


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise OSError(f"{command[0]}: {done.stderr.decode(errors='replace').strip()}")


def _attach(image_fd: int) -> tuple[str, int]:
    """(path of the loop device, its descriptor); the device lives until it is neither open nor mounted."""
    config = _LOOP_CONFIG.pack(image_fd, 0, _LO_FLAGS_AUTOCLEAR)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for attempt in range(_ATTEMPTS):
            device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            device_fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device_fd, _LOOP_CONFIGURE, config)
                return device, device_fd
            except OSError as exc:
                os.close(device_fd)
                if exc.errno != _TAKEN_BY_ANOTHER or attempt == _ATTEMPTS - 1:
                    raise
    finally:
        os.close(control)
    raise AssertionError("unreachable")


def _mount_detached(device: str) -> int:
    context = sc.call("fsopen", b"ext4", ctypes.c_uint(1))
    try:
        _configure(context, _FSCONFIG_SET_STRING, b"source", device.encode())
        _configure(context, _FSCONFIG_CMD_CREATE, None, None)
        attributes = sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV
        mount = sc.call("fsmount", ctypes.c_int(context), ctypes.c_uint(1), ctypes.c_uint(attributes))
    finally:
        os.close(context)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir("lost+found", dir_fd=mount)
    Path(f"/proc/self/fd/{mount}").chmod(0o1777)
    return mount


def _configure(context: int, command: int, key: bytes | None, value: bytes | None) -> None:
    sc.call("fsconfig", ctypes.c_int(context), ctypes.c_uint(command), key, value, ctypes.c_int(0))

"""What this kernel and this machine can do for a node, tried rather than guessed, and how to mend what is missing.

Whatever changes the process that tries it (namespaces, filters, mounts) is tried in a child that ends at once; nothing
on the machine is changed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import importlib.util
import os
import platform
import re
import resource
import select
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from lambent.dataplane.jail import landlock, privileges, seccomp
from lambent.dataplane.sandbox import cgroups, scratch
from lambent.dataplane.sandbox.network import probe as network
from lambent.node.config import NODES, PYTHONS, Settings
from lambent.node.runtimes import Runtimes
from lambent.node.tier import try_namespaces

Status = Literal["ok", "warn", "fail"]

_CHILD_TIMEOUT_S = 10
_OPEN_FILES_WANTED = 16_384
_PROCESSES_WANTED = 4_096
_FREE_BYTES_WANTED, _FREE_BYTES_NEEDED = 2 << 30, 200 << 20
_OLDEST_KERNEL = (5, 12)
"""The first with mount_setattr, which makes a tree of mounts read-only in one call."""
_USER_NAMESPACES = (
    "sysctl -w user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1 "
    "kernel.apparmor_restrict_unprivileged_userns=0 (those that exist)"
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    name: str
    status: Status
    """`warn`: functions run, but something of theirs does not; `fail`: the node does not start like this."""
    detail: str
    mend: str = ""


def examine(settings: Settings) -> Iterator[Check]:
    """Every check in turn, for a node with these settings. Takes a second or two, blocking."""
    yield check_kernel(platform.system(), platform.release(), platform.machine())
    if platform.system() == "Linux":
        yield _check_namespaces(settings)
        yield _check_user_namespaces()
        yield _check_limits()
        yield _check_seccomp()
        yield check_landlock(landlock.find_abi())
        yield _check_network()
        yield _check_scratch()
    yield check_open_files(*resource.getrlimit(resource.RLIMIT_NOFILE))
    yield check_processes(*resource.getrlimit(resource.RLIMIT_NPROC))
    yield from _check_runtimes(Runtimes(settings.runtimes))
    yield _check_installer()
    yield from _check_data_folder(Path(settings.data_dir))
    yield check_port(settings.host, settings.port)


def check_kernel(system: str, release: str, machine: str) -> Check:
    detail = f"{system} {release} on {machine}"
    if system != "Linux":
        mend = "only `lambent up --isolation process` runs here: no isolation, for development"
        return Check(name="kernel", status="warn", detail=detail, mend=mend)
    numbers = tuple(int(part) for part in re.split(r"[.-]", release)[:2] if part.isdigit())
    if numbers < _OLDEST_KERNEL:
        return Check(name="kernel", status="fail", detail=detail, mend="Linux 5.12 or newer is needed for isolation")
    if machine not in ("x86_64", "aarch64"):
        mend = "isolation knows the system calls of x86_64 and aarch64 alone"
        return Check(name="kernel", status="fail", detail=detail, mend=mend)
    return Check(name="kernel", status="ok", detail=detail)


def _check_namespaces(settings: Settings) -> Check:
    as_root = os.geteuid() == 0
    problem = try_namespaces(with_user=not as_root)
    who = "as root" if as_root else "as an ordinary user"
    if problem is None:
        return Check(name="isolation", status="ok", detail=f"namespaces can be made {who}")
    mend = "in a container: run it with --privileged" if as_root else f"as root: {_USER_NAMESPACES}"
    status: Status = "warn" if settings.isolation == "process" else "fail"
    return Check(
        name="isolation",
        status=status,
        detail=f"no namespaces {who}: {problem}",
        mend=f"{mend}; or accept none: lambent up --isolation process",
    )


def _check_user_namespaces() -> Check:
    problem = try_namespaces(with_user=True)
    if problem is None:
        return Check(name="user namespaces", status="ok", detail="available")
    needed = "a node that is not root needs them" if os.geteuid() == 0 else "the node needs them"
    return Check(
        name="user namespaces", status="warn", detail=f"{problem}; {needed}", mend=f"as root: {_USER_NAMESPACES}"
    )


def _check_limits() -> Check:
    findings = cgroups.probe()
    usable = [finding for finding in findings if finding.usable]
    if usable:
        return Check(name="cgroups", status="ok", detail=f"{usable[0].name}: {usable[0].detail}")
    detail = "; ".join(f"{finding.name}: {finding.detail}" for finding in findings)
    mends = [finding.hint for finding in findings if finding.hint] or ["mount cgroup2 at /sys/fs/cgroup"]
    detail += ". Memory is limited by rlimit, CPU is not"
    return Check(name="cgroups", status="warn", detail=detail, mend=mends[-1])


def _check_seccomp() -> Check:
    def try_filter() -> None:
        privileges.forbid_new_privileges()
        seccomp.install_filter(seccomp.prepare_filter())

    problem = try_in_child(try_filter)
    if problem is None:
        return Check(name="seccomp", status="ok", detail="system calls can be filtered")
    mend = "a kernel with CONFIG_SECCOMP_FILTER is needed; in a container, allow the seccomp call"
    return Check(name="seccomp", status="fail", detail=problem, mend=mend)


def check_landlock(abi: int) -> Check:
    if abi:
        return Check(name="landlock", status="ok", detail=f"ABI {abi}")
    mend = "Linux 5.13 with landlock in CONFIG_LSM or in lsm= of the kernel's command line"
    return Check(name="landlock", status="warn", detail="missing: one wall fewer around files", mend=mend)


def _check_network() -> Check:
    found = network.probe()
    if found.outgoing:
        detail = "own network with a way out, " + ("IPv4 and IPv6" if found.ipv6 else "IPv4 (no IPv6 route here)")
        return Check(name="network", status="ok", detail=detail)
    what = "own network, no way out" if found.isolated else "no own network"
    return Check(name="network", status="warn", detail=f"{what}: {found.reason}", mend=found.hint)


def _check_scratch() -> Check:
    problem = scratch.probe()
    if problem is None:
        return Check(name="disk images", status="ok", detail="each environment has a disk of its own for /tmp")
    reason, _, mend = problem.partition(": ")
    detail = f"{reason}; /tmp counts as memory" if "tmpfs" not in reason else reason
    return Check(name="disk images", status="warn", detail=detail, mend=mend or "run the node as root to have them")


def check_open_files(soft: int, hard: int) -> Check:
    if hard == resource.RLIM_INFINITY or hard >= _OPEN_FILES_WANTED:
        return Check(name="open files", status="ok", detail=f"{_number(soft)}, up to {_number(hard)}")
    mend = f"ulimit -Hn {_OPEN_FILES_WANTED} before the start, or LimitNOFILE={_OPEN_FILES_WANTED} in its unit"
    return Check(name="open files", status="warn", detail=f"at most {hard}: few environments", mend=mend)


def check_processes(soft: int, hard: int) -> Check:
    if soft == resource.RLIM_INFINITY or soft >= _PROCESSES_WANTED:
        return Check(name="processes", status="ok", detail=f"{_number(soft)} of this user")
    mend = f"ulimit -u {_PROCESSES_WANTED} before the start, or LimitNPROC={_PROCESSES_WANTED} in its unit"
    return Check(name="processes", status="warn", detail=f"at most {soft} of this user (hard limit {hard})", mend=mend)


def _check_runtimes(runtimes: Runtimes) -> Iterator[Check]:
    found = asyncio.run(runtimes.describe())
    for title, names, status in (("python", PYTHONS, "fail"), ("node", NODES, "warn")):
        here = [entry for entry in found if entry["name"] in names and entry["available"]]
        missing = [entry for entry in found if entry["name"] in names and not entry["available"]]
        if here:
            detail = ", ".join(f"{entry['name']} ({entry['version']})" for entry in here)
            yield Check(name=title, status="ok", detail=detail)
        else:
            worst: Status = "fail" if status == "fail" else "warn"
            yield Check(name=title, status=worst, detail="none was found", mend=missing[-1]["hint"])


def _check_installer() -> Check:
    if importlib.util.find_spec("pip") is not None:
        return Check(name="pip", status="ok", detail="installs requirements.txt in `lambent deploy`")
    if shutil.which("uv"):
        return Check(name="pip", status="ok", detail="missing, uv takes its place")
    mend = "python -m ensurepip, or install uv"
    return Check(name="pip", status="warn", detail="missing: `lambent deploy` cannot install packages", mend=mend)


def _check_data_folder(folder: Path) -> Iterator[Check]:
    existing = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        detail = f"{existing} is not writable"
        yield Check(name="data folder", status="fail", detail=detail, mend="choose another: --data-dir DIR")
        return
    yield Check(name="data folder", status="ok", detail=str(folder) + ("" if existing == folder else " (will be made)"))
    yield check_space(shutil.disk_usage(existing).free, str(existing))


def check_space(free_bytes: int, where: str) -> Check:
    detail = f"{free_bytes / (1 << 30):.1f} GB free at {where}"
    if free_bytes >= _FREE_BYTES_WANTED:
        return Check(name="disk space", status="ok", detail=detail)
    status: Status = "warn" if free_bytes >= _FREE_BYTES_NEEDED else "fail"
    return Check(name="disk space", status=status, detail=detail, mend="make room, or choose another --data-dir DIR")


def check_port(host: str, port: int) -> Check:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as exc:
            return _explain_port(host, port, exc)
    return Check(name="port", status="ok", detail=f"{host}:{port} is free")


def _explain_port(host: str, port: int, exc: OSError) -> Check:
    if _is_node(host, port):
        return Check(name="port", status="ok", detail=f"a Lambent node runs on {host}:{port}")
    mend = "stop what has it, or choose another: --port N"
    return Check(name="port", status="fail", detail=f"{host}:{port}: {exc.strerror}", mend=mend)


def _is_node(host: str, port: int) -> bool:
    link = http.client.HTTPConnection(host, port, timeout=2)
    try:
        link.request("GET", "/health")
        answer = link.getresponse().read(1_000)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()
    return b'"status"' in answer and b'"version"' in answer


def try_in_child(attempt: Callable[[], None]) -> str | None:
    """Run `attempt` in a child that ends with it. Returns what went wrong, None when nothing did."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        # Nothing of the parent's may run here: no finally blocks, no flush of its buffers.
        _attempt_and_exit(attempt, write_end)
    os.close(write_end)
    ready: list[int] = []
    try:
        ready, _, _ = select.select([read_end], [], [], _CHILD_TIMEOUT_S)
        answer = os.read(read_end, 4_096).decode(errors="replace") if ready else "it hangs"
    finally:
        os.close(read_end)
        if not ready:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if answer:
        return None if answer == "ok" else answer
    return f"the child that tried it ended with status {status}"


def _attempt_and_exit(attempt: Callable[[], None], write_end: int) -> None:
    try:
        attempt()
        os.write(write_end, b"ok")
    except BaseException as exc:
        os.write(write_end, str(exc).encode()[:4_000] or type(exc).__name__.encode())
    finally:
        os._exit(0)


def _number(limit: int) -> str:
    return "without limit" if limit == resource.RLIM_INFINITY else str(limit)

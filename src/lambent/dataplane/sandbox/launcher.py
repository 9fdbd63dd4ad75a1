"""Makes an environment of a version: gathers what it needs, has it forked, and ties all of it to its life."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lambent.dataplane.sandbox.channel import Channel, InitFailed, TakeReply
from lambent.dataplane.sandbox.deadlines import Deadlines
from lambent.dataplane.sandbox.environment import Environment, Gauge
from lambent.dataplane.sandbox.frame_channel import FrameChannel, StepFailed
from lambent.dataplane.sandbox.leases import Limits, LimitsLease, NetworkLease, Networks, Scratches
from lambent.dataplane.sandbox.log_pipe import LogPipe
from lambent.dataplane.sandbox.shells import Shell, ShellLost, Shells
from lambent.dataplane.sandbox.zygote_link import Spawned, ZygoteLink
from lambent.dataplane.sandbox.zygotes import Zygotes
from lambent.dataplane.wire.frames import Call
from lambent.dataplane.wire.servers import is_server
from lambent.dataplane.wire.spec import EnvironmentSpec
from lambent.model.function import Version
from lambent.model.invocation import Target
from lambent.model.streams import ResponseStream

log = logging.getLogger(__name__)

ON_DEMAND, PROVISIONED, SNAP_STARTED = "on-demand", "provisioned-concurrency", "snap-start"
"""What AWS_LAMBDA_INITIALIZATION_TYPE may be."""

FIRST_UID, LAST_UID = 100_000, 165_535
_STRIDE = 1_009
"""A prime, so that neighbouring process ids begin far apart."""


class UserIds:
    """Host uids, one for each living environment; a freed one is used again as late as possible.

    Each node begins at another place: the kernel counts processes by uid, and two nodes on a machine share the range.
    """

    def __init__(self, first: int = FIRST_UID, last: int = LAST_UID) -> None:
        self._free = collections.deque(range(first, last + 1))
        self._free.rotate(-(os.getpid() * _STRIDE) % len(self._free))

    def take(self) -> int:
        return self._free.popleft()

    def give_back(self, uid: int) -> None:
        self._free.append(uid)


class _LimitsGauge(Gauge):
    """Reading costs as much as a short invocation's bookkeeping, and a peak only grows: see `_FRESH_S`."""

    _FRESH_S = 0.02
    """An invocation that took longer than this always reads anew."""

    def __init__(self, limits: LimitsLease, shared_mb: int) -> None:
        self._limits = limits
        self._shared_mb = shared_mb
        self._peak_mb = 0
        self._read_at = 0.0

    def peak_mb(self) -> int:
        now = time.monotonic()
        if now - self._read_at >= self._FRESH_S:
            self._read_at = now
            # Pages that the environment still shares with its zygote are charged to the zygote, not to it.
            self._peak_mb = self._limits.memory_peak_mb() + self._shared_mb
        return self._peak_mb

    def oom_kills(self) -> int:
        return self._limits.oom_kills()

    def process_count(self) -> int | None:
        return self._limits.process_count()

    def kill(self) -> None:
        self._limits.kill()


class _ProcessGauge(Gauge):
    """Without a cgroup: the kernel's high-water mark of the processes of the session.

    Reading /proc costs more than a short invocation, so it is read anew only after `_FRESH_S`.
    """

    _FRESH_S = 0.1

    def __init__(self) -> None:
        self.pid = 0
        self._peak_mb = 0
        self._read_at = 0.0

    def peak_mb(self) -> int:
        now = time.monotonic()
        if now - self._read_at < self._FRESH_S:
            return self._peak_mb
        self._read_at = now
        total_kb = 0
        for pid in self._family():
            with contextlib.suppress(OSError, IndexError, ValueError):
                text = Path(f"/proc/{pid}/status").read_text()
                total_kb += int(text.split("VmHWM:")[1].split()[0])
        self._peak_mb = max(self._peak_mb, -(-total_kb // 1024))
        return self._peak_mb

    def _family(self) -> list[str]:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return []


class TemplateFrame(Protocol):
    """What a SnapStart template shares with the environments that will be forked from it."""

    uid: int

    @property
    def anchor_fd(self) -> int: ...

    @property
    def commands_fd(self) -> int: ...


class Restorer(Protocol):
    async def restore(self, target: Target) -> Environment | None:
        """A fork of the version's template; None when it has none that can be used now."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How environments are confined on this node, and what each is given to reach the node's API with."""

    confine: str
    """`root`, `user` or `process`."""
    landlock: bool = True
    region: str
    init_limit_ms: float = 10_000
    trees: Path
    """Where the code store keeps unpacked trees; the zygotes see it as /store."""
    credentials: Callable[[Version], Mapping[str, str]] = lambda _version: {}
    """Variables with which a function's SDK acts for its account; made anew for each environment."""


class Launcher:
    """`start` gives a running environment whose init is still going on; `Environment.wait_ready` awaits it."""

    def __init__(
        self,
        placement: Placement,
        zygotes: Zygotes,
        *,
        networks: Networks | None,
        scratches: Scratches | None,
        limits: Limits | None,
        layer_tree: Callable[[Sequence[str]], str],
        open_runtime_api: Callable[[socket.socket], Channel],
        emit_log: Callable[[Environment, list[bytes]], None],
        shells: Shells | None = None,
        fail_step: str = "",
        uids: UserIds | None = None,
    ) -> None:
        """`shells` None: every start forks and confines from the beginning."""
        self._placement = placement
        self.zygotes = zygotes
        self.networks = networks
        self._scratches = scratches
        self._limits = limits
        self._layer_tree = layer_tree
        self._open_runtime_api = open_runtime_api
        self._emit_log = emit_log
        self._shells = shells
        self._fail_step = fail_step
        self.uids = uids or UserIds()
        self.deadlines = Deadlines()
        self.templates: Restorer | None = None

    async def start(self, target: Target) -> Environment:
        """From the version's SnapStart template where there is one, else cold.

        Raises CallerError for a runtime that is missing, PlatformError when it cannot be made.
        """
        if self.templates is not None:
            environment = await self.templates.restore(target)
            if environment is not None:
                return environment
        return await self.start_cold(target)

    async def start_cold(
        self, target: Target, *, frame: TemplateFrame | None = None, initialization: str = ON_DEMAND
    ) -> Environment:
        """`frame`: as a SnapStart template, within it, which no shell can become.

        `initialization` is what the function is told of why it is initialised.
        """
        version = target.version
        zygote = await self.zygotes.get(version.runtime)
        shell = None
        if self._shells is not None and frame is None:
            shell = self._shells.take(version.runtime, zygote, target.network)
        if shell is not None:
            try:
                return await self._start_in(shell, target, initialization)
            except ShellLost as lost:
                log.warning("a shell was lost", extra={"action": "shell_lost", "reason": str(lost)})
        environment_id = uuid.uuid4().hex
        with contextlib.ExitStack() as owned:
            if frame is None:
                uid = self.uids.take()
                owned.callback(self.uids.give_back, uid)
            else:
                uid = frame.uid
            network = await self._acquire_network(target, environment_id, zygote, owned)
            scratch_fd = await self.acquire_scratch(version, owned)
            gauge, cgroup_fds = self.acquire_limits(version, environment_id, owned)
            listener = self._open_listener(version, network)
            stream = stream_name(version, environment_id)
            spec = self.specify(
                target,
                environment_id=environment_id,
                uid=uid,
                stream=stream,
                listener=listener,
                has_cgroup=bool(cgroup_fds),
                template=frame is not None,
                initialization=initialization if frame is None else SNAP_STARTED,
            )
            ours, theirs = socket.socketpair()
            log_read, log_write = os.pipe()
            fds = [("control", theirs.fileno()), ("log", log_write)]
            if network is not None:
                fds.append(("network", network.fd))
            if scratch_fd >= 0:
                fds.append(("scratch", scratch_fd))
            if frame is not None:
                fds += [("anchor", frame.anchor_fd), ("commands", frame.commands_fd)]
            fds += [("cgroup", fd) for fd in cgroup_fds]
            try:
                spawned = zygote.spawn(spec, fds)
            except BaseException:
                ours.close()
                os.close(log_read)
                if listener is not None:
                    listener.close()
                raise
            finally:
                theirs.close()
                os.close(log_write)
                for fd in cgroup_fds:
                    os.close(fd)
            environment = Environment(
                environment_id=environment_id,
                version=version,
                stream=stream,
                trees=frozenset((spec.code, spec.layers)),
                spawned=spawned,
                gauge=gauge,
                deadlines=self.deadlines,
                release=owned.pop_all().close,
            )
        _watch(gauge, spawned)
        return await self.attach(environment, ours, log_read, listener)

    async def _start_in(self, shell: Shell, target: Target, initialization: str) -> Environment:
        """As `start`, in an environment that is confined already. Raises ShellLost too."""
        version = target.version
        owned = contextlib.ExitStack()
        try:
            uid = self.uids.take()
            owned.callback(self.uids.give_back, uid)
            scratch_fd = await self.acquire_scratch(version, owned)
            gauge = self._limit(version, shell.limits)
            stream = stream_name(version, shell.id)
            listener = self._open_listener(version, shell.network)
            if listener is not None:
                owned.callback(listener.close)
            spec = self.specify(
                target,
                environment_id=shell.id,
                uid=uid,
                stream=stream,
                listener=listener,
                has_cgroup=shell.limits is not None,
                initialization=initialization,
            )
            await shell.use(spec, [("scratch", scratch_fd)] if scratch_fd >= 0 else [])
        except BaseException:
            await shell.stop()
            owned.close()
            raise
        owned.callback(shell.release)
        environment = Environment(
            environment_id=shell.id,
            version=version,
            stream=stream,
            trees=frozenset((spec.code, spec.layers)),
            spawned=shell.spawned,
            gauge=gauge,
            deadlines=self.deadlines,
            release=owned.close,
        )
        _watch(gauge, shell.spawned)
        return await self.attach(environment, shell.control, shell.log_fd, listener)

    async def attach(
        self, environment: Environment, control: socket.socket, log_fd: int, listener: socket.socket | None = None
    ) -> Environment:
        """Tie the node's ends of control socket and log pipe to the environment; they become its own."""
        pipe = LogPipe(log_fd, lambda lines: self._emit_log(environment, lines))
        channel = await self._open_channel(control, listener, environment.version.concurrency)
        environment.attach(channel, pipe)
        return environment

    def _limit(self, version: Version, lease: LimitsLease | None) -> Gauge:
        """Before anything of the version is in the group."""
        if self._limits is None or lease is None:
            return _ProcessGauge()
        self._limits.limit(lease, memory_mb=version.memory_mb)
        return _LimitsGauge(lease, self.zygotes.shared_mb(version.runtime))

    async def _acquire_network(
        self, target: Target, environment_id: str, zygote: ZygoteLink, owned: contextlib.ExitStack
    ) -> NetworkLease | None:
        if self.networks is None:
            return None
        source = zygote if self._placement.confine == "user" else None
        network = await self.networks.acquire(target.network, environment_id=environment_id, source=source)
        owned.callback(network.release)
        return network

    async def acquire_scratch(self, version: Version, owned: contextlib.ExitStack) -> int:
        if self._scratches is None:
            return -1
        scratch = await self._scratches.acquire(version.ephemeral_mb)
        owned.callback(scratch.release)
        return scratch.fd

    def acquire_limits(
        self, version: Version, environment_id: str, owned: contextlib.ExitStack, *, shared_mb: int | None = None
    ) -> tuple[Gauge, Sequence[int]]:
        if self._limits is None:
            return _ProcessGauge(), ()
        limits = self._limits.create(environment_id, memory_mb=version.memory_mb)
        owned.callback(limits.release)
        shared_mb = self.zygotes.shared_mb(version.runtime) if shared_mb is None else shared_mb
        return _LimitsGauge(limits, shared_mb), limits.procs_fds()

    def _open_listener(self, version: Version, network: NetworkLease | None) -> socket.socket | None:
        """Becomes the channel's."""
        if version.runtime.startswith("python") or _is_server(version):
            return None
        listener = socket.create_server(("127.0.0.1", 0)) if network is None else network.take_runtime_api()
        listener.setblocking(False)
        return listener

    async def _open_channel(self, ours: socket.socket, listener: socket.socket | None, concurrency: int) -> Channel:
        frames = await FrameChannel.open(ours, most=concurrency)
        if listener is None:
            return frames
        return LaunchedChannel(frames, self._open_runtime_api(listener))

    def credentials(self, target: Target) -> Mapping[str, str]:
        """For one environment. None without a network: there is no way to the API then."""
        return self._placement.credentials(target.version) if target.network != "none" else {}

    def specify(
        self,
        target: Target,
        *,
        environment_id: str,
        uid: int,
        stream: str,
        listener: socket.socket | None,
        has_cgroup: bool,
        template: bool = False,
        initialization: str = ON_DEMAND,
    ) -> EnvironmentSpec:
        version = target.version
        process_tier = self._placement.confine == "process"
        tree = self._placement.trees / version.digest
        layers = self._layer_tree([layer.digest for layer in version.layers])
        task_root = str(tree) if process_tier else "/var/task"
        serves = _is_server(version)
        api = ""
        if listener is not None:
            host, port = listener.getsockname()[:2]
            api = f"127.0.0.1:{port}" if host == "0.0.0.0" else f"{host}:{port}"  # noqa: S104 - compared, not bound
        network = "host" if self.networks is None else "pooled"
        variables = _variables(version, self._placement.region, stream, task_root, api)
        if serves:
            folder = self.zygotes.program_folder(version.runtime)
            variables["PATH"] = f"{folder}:{variables['PATH']}" if folder else variables["PATH"]
        return EnvironmentSpec(
            environment_id=environment_id,
            runtime=version.runtime,
            handler=version.handler,
            code=version.digest,
            layers=layers,
            environment=variables | dict(self.credentials(target)) | {"AWS_LAMBDA_INITIALIZATION_TYPE": initialization},
            memory_mb=version.memory_mb,
            ephemeral_mb=version.ephemeral_mb,
            uid=uid,
            log_format=version.logging.format,
            log_level=version.logging.application_level,
            confine=self._placement.confine,
            network=network,
            function=version.name,
            version=version.version,
            cgroup=has_cgroup,
            task_root=task_root,
            landlock=self._placement.landlock,
            fail_step=self._fail_step,
            template=template,
            argv=None if serves else self.zygotes.argv(version.runtime, task_root, tree),
            server=self.zygotes.server(version.runtime, version.handler, task_root, tree) if serves else "",
            concurrency=version.concurrency,
        )


def _watch(gauge: Gauge, spawned: Spawned) -> None:
    if isinstance(gauge, _ProcessGauge):
        spawned.pidfd.add_done_callback(lambda _: setattr(gauge, "pid", spawned.pid))


def _is_server(version: Version) -> bool:
    return is_server(version.runtime, version.handler, version.environment)


def stream_name(version: Version, environment_id: str) -> str:
    return time.strftime(f"%Y/%m/%d/[{version.version}]{environment_id}", time.gmtime())


def _variables(version: Version, region: str, stream: str, task_root: str, api: str) -> dict[str, str]:
    """The function's variables and the reserved ones (developer guide, "Defined runtime environment variables")."""
    variables = {
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
        "LD_LIBRARY_PATH": f"{task_root}:{task_root}/lib:/opt/lib",
        # Without it tracing libraries raise where nothing is traced.
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        **({"PYTHONPATH": "/var/runtime"} if version.runtime.startswith("python") else {}),
        **version.environment,
        "_HANDLER": version.handler,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{version.runtime}",
        "AWS_LAMBDA_FUNCTION_NAME": version.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(version.memory_mb),
        "AWS_LAMBDA_FUNCTION_VERSION": version.version,
        "AWS_LAMBDA_LOG_GROUP_NAME": version.logging.log_group or f"/aws/lambda/{version.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": stream,
        "LAMBDA_TASK_ROOT": task_root,
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
    }
    if version.logging.format == "JSON":
        variables["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
        variables["AWS_LAMBDA_LOG_LEVEL"] = version.logging.application_level
    if version.runtime.startswith("nodejs"):
        major = version.runtime.removeprefix("nodejs").partition(".")[0]
        variables.setdefault(
            "NODE_PATH",
            f"/opt/nodejs/node{major}/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules",
        )
    if api:
        variables["AWS_LAMBDA_RUNTIME_API"] = api
    elif version.concurrency > 1:
        variables["AWS_LAMBDA_MAX_CONCURRENCY"] = str(version.concurrency)
    return variables


class LaunchedChannel:
    """A Runtime API channel whose program is still to be executed: a failure before that comes as a frame."""

    def __init__(self, frames: FrameChannel, api: Channel) -> None:
        self._frames = frames
        self._api = api

    concurrency = 1

    async def wait_ready(self) -> float | None:
        try:
            await self._frames.wait_launched()
        except StepFailed as failed:
            if failed.step != "exec":
                raise
            document = {"errorType": "Runtime.InvalidEntrypoint", "errorMessage": str(failed.cause)}
            raise InitFailed("Runtime.InvalidEntrypoint", json.dumps(document).encode()) from failed
        return await self._api.wait_ready()

    def send(self, call: Call, take: TakeReply, stream: ResponseStream | None = None) -> int:
        return self._api.send(call, take, stream)

    def abandon(self, number: int) -> None:
        self._api.abandon(number)

    def close(self) -> None:
        self._frames.close()
        self._api.close()

"""The fork server of one runtime: waits, small and single-threaded, and forks an environment when it is told to.

It never reads a byte of user code. As root and as an ordinary user it is the first process of a pid namespace of
its own, so that its death, or the node's, takes every environment with it.

Messages over the link, a SOCK_SEQPACKET pair; one message each, descriptors alongside (SCM_RIGHTS):

    to zygote   first of all, before any code of this package is loaded: JSON {"source": str, "config": {...}}
                'S' JSON {"spec": {...}, "fds": ["control", "log", "variables", "network", "scratch", "cgroup", ...]}
                    the spec without the function's variables: those are in a file that only the child reads
                'A' JSON {"id": str}: make a pid namespace for a SnapStart template and its environments
                'L' JSON {"spec": {...}, "network": str, "fds": ["anchor", "scratch", "cgroup", ...]}: make a slot for
                    an environment of a template (jail/slot.py)
                'W' as 'S': a shell, which waits for the rest of its spec (`shell.py`)
                'N' JSON {"kind": "outgoing" | "none"}: make a network namespace (user tier)
    to node     'Z' JSON {"pid": int} + pidfd: the zygote itself, as the node sees it
                'R' JSON {"landlock": int}: ready to fork
                'B' JSON {"step": str, "reason": str}: could not start; exits
                'P' JSON {"id": str} + pidfd: forked; of a slot, also its namespaces, where the runtime tells that it
                    has joined, and the sockets of its network
                'E' JSON {"id": str, "reason": str}: could not fork
                'X' JSON {"id": str, "status": int | null}: ended, with the runtime's wait status if it is known
                'M' JSON {"error": str} or {} + descriptors: the answer to 'N'
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
from typing import Any, Dict, List, NamedTuple, NoReturn, Tuple

from lambent.dataplane.jail import contain, landlock, privileges, root, seccomp, slot
from lambent.dataplane.jail import syscalls as sc
from lambent.dataplane.runtime import shell
from lambent.dataplane.wire import frames
from lambent.dataplane.wire.spec import EnvironmentSpec

CONTROL_FD, EXIT_FD, COMMAND_FD = 3, 4, 5
_PIDS_APART = 8
CONFINEMENT_FAILED = 70
"""Exit status of a child that a confinement step stopped."""
_STATUS = struct.Struct("!i")
_MESSAGE_BYTES = 256 * 1024
_MAX_FDS = 16


class ZygoteConfig(NamedTuple):
    confine: str
    python: bool
    """Preload what runs Python handlers; False for a launcher of other programs."""
    base: str
    prefixes: List[str]
    store: str
    runtime: List[str]


class Child(NamedTuple):
    environment_id: str
    exit_fd: int


def main(link: socket.socket, config_fields: Dict[str, Any]) -> NoReturn:
    """`sys.path[0]` is where this package lies; it is forgotten before anything is forked.

    What the node tells comes over the link and not as arguments, which every environment could read in /proc.
    """
    link = _reserve_descriptors(link)
    config = ZygoteConfig(**config_fields)
    step = "preload"
    try:
        # First: in the new root the package's files are out of sight.
        preload(python=config.python, makes_networks=config.confine == "user")
        step = "namespaces"
        if config.confine == "process":
            _announce(link, os.getpid())
        else:
            _enter_namespaces(link, config)
            step = "root"
            root.build_root(root.RootPlan(config.base, config.prefixes, config.store, config.runtime))
        zygote = Zygote(link, config)
    except Exception as exc:
        _send(link, b"B", {"step": step, "reason": "{}: {}".format(type(exc).__name__, exc)})
        os._exit(CONFINEMENT_FAILED)
    gc.collect()
    gc.freeze()
    # Inherited by every environment: a batch task that wakes up does not push the node off its processor in the
    # middle of a send, which costs both of them more than the wait.
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    zygote.serve()


def preload(*, python: bool, makes_networks: bool) -> None:
    """Bring into memory what children run."""
    if makes_networks:
        importlib.import_module("lambent.dataplane.jail.netns")
    preloaded = importlib.import_module("lambent.dataplane.runtime.preload")
    if python:
        preloaded.load()
    else:
        preloaded.load_server()
    del sys.path[0]
    sys.argv[:] = [""]


def _reserve_descriptors(link: socket.socket) -> socket.socket:
    """Move the link up and fill 3 to 5, which are the child's, so that no received descriptor lands on them."""
    fd = fcntl.fcntl(link.fileno(), fcntl.F_DUPFD_CLOEXEC, 10)
    link.close()
    os.dup2(0, CONTROL_FD)
    os.dup2(0, EXIT_FD)
    os.dup2(0, COMMAND_FD)
    return socket.socket(fileno=fd)


def _enter_namespaces(link: socket.socket, config: ZygoteConfig) -> None:
    if config.confine == "user":
        privileges.enter_user_namespace()
    sc.unshare(sc.CLONE_NEWNS | sc.CLONE_NEWPID)
    pid = os.fork()
    if pid:
        # The node adopts the zygote (it is a subreaper), so nothing has to stay here to wait for it.
        _announce(link, pid)
        os._exit(0)


def _announce(link: socket.socket, pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    _send(link, b"Z", {"pid": pid}, [pidfd])
    os.close(pidfd)


def _send(link: socket.socket, kind: bytes, body: Dict[str, Any], fds: Tuple[int, ...] | List[int] = ()) -> None:
    socket.send_fds(link, [kind + json.dumps(body).encode()], list(fds))


class Zygote:
    """Owns the link and the exit reports of living environments."""

    def __init__(self, link: socket.socket, config: ZygoteConfig) -> None:
        self._config = config
        self._link = link
        self._children: Dict[int, Child] = {}
        self._slots: Dict[int, str] = {}
        """Environments in slots by the descriptor at which their init reports their end."""
        self._poll = select.poll()
        self._filter = seccomp.prepare_filter()
        self._template_filter = seccomp.prepare_filter(template=True)
        self._landlock_abi = landlock.find_abi() if config.confine != "process" else 0
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> NoReturn:
        signal.signal(signal.SIGCHLD, _note_child)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        # The node's terminal signals are not ours to act on: the node stops us by closing the link.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        poll = self._poll
        poll.register(self._link, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        _send(self._link, b"R", {"landlock": self._landlock_abi})
        while True:
            for fd, _ in poll.poll():
                if fd == self._wake_read:
                    self._reap()
                elif fd in self._slots:
                    self._report_slot(fd)
                else:
                    self._receive()

    def _receive(self) -> None:
        message, fds, _, _ = socket.recv_fds(self._link, _MESSAGE_BYTES, _MAX_FDS)
        if not message:
            self._end()
        kind, body = message[:1], json.loads(message[1:])
        if kind in (b"S", b"W"):
            self._spawn(EnvironmentSpec(**body["spec"]), body["fds"], fds, waits=kind == b"W")
        elif kind == b"N":
            self._make_namespace(body["kind"])
        elif kind == b"A":
            self._make_anchor(body["id"])
        elif kind == b"L":
            self._make_slot(EnvironmentSpec(**body["spec"]), body["network"], body["fds"], fds)

    def _end(self) -> NoReturn:
        # The node is gone or wants us gone. In a pid namespace the kernel ends the rest with us.
        if self._config.confine == "process":
            for pid in self._children:
                _kill_group(pid)
        os._exit(0)

    def _spawn(self, spec: EnvironmentSpec, names: List[str], fds: List[int], *, waits: bool) -> None:
        exit_read, exit_write = os.pipe()
        try:
            pid = self._fork(spec, names, fds, exit_write, waits=waits)
        except OSError as exc:
            os.close(exit_read)
            _send(self._link, b"E", {"id": spec.environment_id, "reason": str(exc)})
        else:
            self._children[pid] = Child(spec.environment_id, exit_read)
            pidfd = os.pidfd_open(pid)
            _send(self._link, b"P", {"id": spec.environment_id}, [pidfd])
            os.close(pidfd)
        finally:
            os.close(exit_write)
            for fd in fds:
                os.close(fd)

    def _fork(self, spec: EnvironmentSpec, names: List[str], fds: List[int], exit_write: int, *, waits: bool) -> int:
        if "anchor" in names:
            sc.setns(fds[names.index("anchor")], sc.CLONE_NEWPID)
        elif spec.confine != "process":
            self._unshare_pid_namespace()
        # No signal may reach the child while it still has our handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = os.fork()
        if pid == 0:
            self._become_environment(spec, names, fds, exit_write, waits=waits)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return pid

    def _unshare_pid_namespace(self) -> None:
        # unshare(NEWPID) is refused while an earlier one is pending, so first back to our own.
        own = os.pidfd_open(os.getpid())
        try:
            sc.setns(own, sc.CLONE_NEWPID)
            sc.unshare(sc.CLONE_NEWPID)
        finally:
            os.close(own)

    def _make_anchor(self, anchor_id: str) -> None:
        """The first process of a pid namespace that outlives the template in it: no user code ever runs in it."""
        exit_read, exit_write = os.pipe()
        try:
            self._unshare_pid_namespace()
            pid = os.fork()
        except OSError as exc:
            os.close(exit_read)
            os.close(exit_write)
            _send(self._link, b"E", {"id": anchor_id, "reason": str(exc)})
            return
        if pid == 0:
            _hold_pid_namespace()
        os.close(exit_write)
        self._children[pid] = Child(anchor_id, exit_read)
        pidfd = os.pidfd_open(pid)
        _send(self._link, b"P", {"id": anchor_id}, [pidfd])
        os.close(pidfd)

    def _make_slot(self, spec: EnvironmentSpec, network: str, names: List[str], fds: List[int]) -> None:
        """Not waited for: the maker answers the node itself."""
        given = dict(zip(names, fds))
        cgroup_fds = tuple(fd for name, fd in zip(names, fds) if name == "cgroup")
        exit_read, exit_write = os.pipe2(os.O_CLOEXEC)
        try:
            sc.setns(given["anchor"], sc.CLONE_NEWPID)
            pid = os.fork()
            if pid == 0:
                means = slot.SlotMeans(spec, network, cgroup_fds, given.get("scratch", -1), exit_write)
                self._answer_slot(means)
        except OSError as exc:
            os.close(exit_read)
            _send(self._link, b"E", {"id": spec.environment_id, "reason": str(exc)})
        else:
            self._slots[exit_read] = spec.environment_id
            self._poll.register(exit_read, select.POLLIN)
        finally:
            os.close(exit_write)
            for fd in fds:
                os.close(fd)

    def _answer_slot(self, means: slot.SlotMeans) -> NoReturn:
        status = CONFINEMENT_FAILED
        try:
            signal.set_wakeup_fd(-1)
            made = slot.make(means)
            pidfd = os.pidfd_open(made.init_pid)
            fds = [pidfd, *made.namespace_fds, made.joined_fd, *(item.fileno() for item in made.sockets)]
            _send(self._link, b"P", {"id": means.spec.environment_id}, fds)
            status = 0
        except BaseException as exc:
            reason = "{}: {}".format(type(exc).__name__, exc)
            _send(self._link, b"E", {"id": means.spec.environment_id, "reason": reason})
        finally:
            os._exit(status)

    def _report_slot(self, fd: int) -> None:
        written = os.read(fd, _STATUS.size)
        self._poll.unregister(fd)
        os.close(fd)
        environment_id = self._slots.pop(fd)
        status = _STATUS.unpack(written)[0] if len(written) == _STATUS.size else None
        _send(self._link, b"X", {"id": environment_id, "status": status})

    def _become_environment(
        self, spec: EnvironmentSpec, names: List[str], fds: List[int], exit_write: int, *, waits: bool
    ) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            given = dict(zip(names, fds))
            spec = spec._replace(environment=_read_variables(given["variables"]))
            os.dup2(given["control"], CONTROL_FD)
            os.dup2(exit_write, EXIT_FD)
            os.dup2(given["log"], 1)
            os.dup2(given["log"], 2)
            if spec.template:
                _keep_commands(given["commands"])
                template: Any = sys.modules["lambent.dataplane.runtime.template"]
                template.Confinement.filter = self._filter
                template.Confinement.landlock_abi = self._landlock_abi
            means = contain.Means(
                spec,
                tuple(fd for name, fd in zip(names, fds) if name == "cgroup"),
                given.get("network", -1),
                given.get("scratch", -1),
                self._filter,
                self._landlock_abi,
                self._template_filter,
            )
            if waits:
                spec = shell.wait_and_contain(means, CONTROL_FD)
            else:
                contain.contain(means)
            _split_from_init(spec)
            _run(spec)
        except contain.StepFailed as exc:
            body = exc.step.encode() + b"\0" + exc.reason.encode("utf-8", "replace")
            os.write(CONTROL_FD, frames.encode(frames.STEP, body))
        except BaseException as exc:
            body = b"start\0" + "{}: {}".format(type(exc).__name__, exc).encode("utf-8", "replace")
            os.write(CONTROL_FD, frames.encode(frames.STEP, body))
        finally:
            os._exit(CONFINEMENT_FAILED)

    def _make_namespace(self, kind: str) -> None:
        try:
            fd, sockets = sys.modules["lambent.dataplane.jail.netns"].make_namespace(kind)
        except OSError as exc:
            _send(self._link, b"M", {"error": str(exc)})
            return
        _send(self._link, b"M", {}, [fd, *(item.fileno() for item in sockets)])
        os.close(fd)
        for item in sockets:
            item.close()

    def _reap(self) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.pop(pid, None)
            if child is not None:
                self._report(child, pid, status)

    def _report(self, child: Child, pid: int, status: int) -> None:
        written = os.read(child.exit_fd, _STATUS.size)
        os.close(child.exit_fd)
        if self._config.confine == "process":
            _kill_group(pid)
        if len(written) == _STATUS.size:
            status = _STATUS.unpack(written)[0]
        _send(self._link, b"X", {"id": child.environment_id, "status": status})


def _keep_commands(fd: int) -> None:
    if fd != COMMAND_FD:
        os.dup2(fd, COMMAND_FD)


def _hold_pid_namespace() -> NoReturn:
    """Reap what ends in the namespace, until the node ends it."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        # Undumpable from its own choice: what lives in the namespace may have come to the same uid.
        sc.prctl(sc.PR_SET_DUMPABLE, 0)
        sc.close_from(0)
        while True:
            signal.pause()
    finally:
        os._exit(0)


def _read_variables(fd: int) -> Dict[str, str]:
    data = os.pread(fd, os.fstat(fd).st_size, 0)
    variables: Dict[str, str] = json.loads(data)
    return variables


def _note_child(_signal: int, _frame: object) -> None:
    """The wake-up descriptor does the work; without a Python handler nothing would be written to it."""


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _split_from_init(spec: EnvironmentSpec) -> None:
    """Return in a second process; the first stays as init, reaps orphans and reports how the runtime ended.

    Without it the runtime would be process 1, which ignores the signals that it sends to itself: `os.abort()` and
    `os.kill(os.getpid(), SIGKILL)` would not end it.
    """
    if spec.confine == "process":
        sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
    if spec.template:
        # Its environments' pids start at 1 in namespaces of their own; libraries know a fork by another pid.
        for _ in range(_PIDS_APART):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
    pid = os.fork()
    if pid == 0:
        os.close(EXIT_FD)
        # Changing the uid made the process undumpable, which hides its own /proc/self from it.
        sc.prctl(sc.PR_SET_DUMPABLE, 1)
        if spec.confine == "process" or spec.template:
            sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)
        return
    # Only the runtime may hold the channel and the log open: their end is the sign of its end.
    os.closerange(0, EXIT_FD)
    if spec.template:
        os.close(COMMAND_FD)
    while True:
        ended, status = os.wait()
        if ended == pid:
            os.write(EXIT_FD, _STATUS.pack(status))
            os._exit(0)


def _run(spec: EnvironmentSpec) -> NoReturn:
    os.environ.clear()
    os.environ.update(spec.environment)
    if spec.confine == "process":
        os.chdir(spec.task_root)
    if spec.argv is None:
        bootstrap = sys.modules["lambent.dataplane.runtime.bootstrap"]
        bootstrap.serve(socket.socket(fileno=CONTROL_FD), spec)
    else:
        os.set_inheritable(CONTROL_FD, False)
        # Python ignores it, and an ignored signal would stay ignored across exec.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        try:
            os.execve(spec.argv[0], spec.argv, dict(os.environ))
        except OSError as exc:
            body = b"exec\0" + "{}: {}".format(spec.argv[0], exc.strerror).encode()
            os.write(CONTROL_FD, frames.encode(frames.STEP, body))
            os._exit(CONFINEMENT_FAILED)
    os._exit(0)

"""A SnapStart template: an initialised runtime that waits and forks an environment of itself whenever it is told to.

Commands come over descriptor 5, a SOCK_SEQPACKET pair, one message each with descriptors alongside:

    to template   JSON {"variables": {str: str}, "fds": ["control", "log", "joined", "namespace", ..., "cgroup", ...]}

The answer is the environment's own: READY or FAILED on its control channel, whose end tells that there will be none.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import random
import socket
import stat
import sys
import time
from typing import Any, Callable, Dict, List, NoReturn, Tuple

from lambent.dataplane.jail import descriptors, forks
from lambent.dataplane.runtime import bootstrap, context, exits, faults, logs, snapshot_hooks
from lambent.dataplane.runtime.handler import Handler
from lambent.dataplane.wire import frames
from lambent.dataplane.wire.spec import EnvironmentSpec

_MESSAGE_BYTES = 4096
_MAX_FDS = 24


class Confinement:
    """What forks need to confine themselves; set by the zygote before the template is forked from it."""

    filter = b""
    landlock_abi = 0


def pause(control: socket.socket, spec: EnvironmentSpec, handler: Handler, began: float) -> NoReturn:
    """Init is over: run the hooks, say so, and wait. Returns in no process."""
    try:
        snapshot_hooks.run_before_snapshot()
    except BaseException as exc:
        fail(control, spec, "Runtime.BeforeSnapshotError", exc)
    _let_libraries_end_their_threads()
    commands = socket.socket(fileno=forks.COMMAND_FD)
    os.set_inheritable(forks.COMMAND_FD, False)
    forker = forks.Forker()
    _settle_memory()
    init_ms = (time.perf_counter() - began) * 1000
    control.sendall(frames.encode(frames.READY, json.dumps({"init_ms": init_ms}).encode()))
    while True:
        message, fds = descriptors.receive(commands, _MESSAGE_BYTES, _MAX_FDS)
        if not message:
            os._exit(0)
        told = json.loads(message)

        def go_on(told: Dict[str, Any] = told) -> NoReturn:
            # Closed already; the object must not do it again, to whatever has its number by then.
            commands.detach()
            os.environ.update(told["variables"])
            _serve(spec, handler)

        _fork(forker, spec, list(zip(told["fds"], fds)), go_on)
        descriptors.close_all(fds)


def fail(control: socket.socket, spec: EnvironmentSpec, error_type: str, exc: BaseException) -> NoReturn:
    described = faults.describe(exc, "")
    fault = described._replace(error_type=error_type, message="{}: {}".format(described.error_type, described.message))
    logs.log_fault(fault, spec.log_format, faults.format_for_log(fault))
    control.sendall(frames.encode_error(frames.FAILED, error_type, fault.encode()))
    os._exit(1)


def _let_libraries_end_their_threads() -> None:
    """A fork for nothing: those that can be forked (OpenBLAS beneath numpy) end their pools before it, and start them
    again when they are next used. Threads that are left have nobody who looks after forks."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _settle_memory() -> None:
    """Let pages stay shared: a collection would write to the head of every object that it visits."""
    gc.collect()
    gc.freeze()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        pass


def _fork(
    forker: forks.Forker, spec: EnvironmentSpec, given: List[Tuple[str, int]], go_on: Callable[[], NoReturn]
) -> None:
    def all_of(name: str) -> List[int]:
        return [fd for kind, fd in given if kind == name]

    try:
        forker.fork_into(
            forks.ForkMeans(
                all_of("control")[0],
                all_of("log")[0],
                all_of("joined")[0],
                all_of("namespace"),
                all_of("cgroup"),
                spec.task_root,
                Confinement.filter,
                Confinement.landlock_abi if spec.landlock else 0,
            ),
            go_on,
        )
    except OSError as exc:
        # Its control channel ends with our copy of it, which is answer enough.
        logs.write_line("[lambent] fork: {}".format(exc))


def _serve(spec: EnvironmentSpec, handler: Handler) -> NoReturn:
    control = socket.socket(fileno=forks.CONTROL_FD)
    _sever_sockets()
    reseed()
    context.describe_function()
    try:
        snapshot_hooks.run_after_restore()
    except BaseException as exc:
        fail(control, spec, "Runtime.AfterRestoreError", exc)
    exits.flush()
    bootstrap.serve_calls(control, spec, handler, {})


def reseed() -> None:
    """What of the standard library, and of the libraries beneath it, remembers random state from before the fork."""
    random.seed()
    uuid: Any = sys.modules.get("uuid")
    if uuid is not None:
        # The C library behind uuid1 keeps clock and node in its memory; Python's own way draws the rest anew.
        uuid._generate_time_safe = None
        uuid._last_timestamp = None
        uuid._node = int.from_bytes(os.urandom(6), "big") | (1 << 40)
    tempfile: Any = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile._name_sequence = None
    ssl: Any = sys.modules.get("_ssl")
    if ssl is not None:
        ssl.RAND_add(os.urandom(48), 48.0)


def _sever_sockets() -> None:
    """Sockets that init left are closed at their other end: siblings must not speak over one connection."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd <= forks.CONTROL_FD:
            continue
        try:
            is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
        except OSError:
            continue
        if is_socket:
            ours, theirs = socket.socketpair()
            theirs.close()
            os.dup2(ours.fileno(), fd, inheritable=False)
            ours.close()

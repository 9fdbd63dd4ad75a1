"""Runs a Python handler inside an environment: import it, then answer one invocation after the other.

Confinement is over when `serve` is called, and the package's files are out of sight: everything used here was imported
by the zygote.
"""

from __future__ import annotations

import gc
import json
import os
import random
import socket
import sys
import time
from typing import Any, Dict, NoReturn, Optional, TextIO

from lambent.dataplane.runtime import concurrent, context, exits, faults, logs, marshal, snapshot_hooks, streaming
from lambent.dataplane.runtime.applications.asgi import AsgiHandler
from lambent.dataplane.runtime.faults import Fault, Refused
from lambent.dataplane.runtime.handler import Handler, HandlerNotLoaded, load_handler, start_server
from lambent.dataplane.wire import frames
from lambent.dataplane.wire.frames import Call
from lambent.dataplane.wire.spec import EnvironmentSpec


def serve(sock: socket.socket, spec: EnvironmentSpec) -> NoReturn:
    """Never returns: the process ends with its socket, or as user code ends it."""
    began = time.perf_counter()
    reseed()
    _forget_host(spec)
    logs.set_up_logging(spec.log_format, spec.log_level)
    context.describe_function()
    snapshot_hooks.offer()
    try:
        if spec.server:
            handler = start_server(spec.server, shares_loopback=spec.network == "host", is_template=spec.template)
        else:
            handler = load_handler(spec.handler, is_template=spec.template)
    except HandlerNotLoaded as failed:
        logs.warn_of_unhandled()
        logs.log_fault(failed.fault, spec.log_format, faults.format_for_log(failed.fault))
        sock.sendall(frames.encode_error(frames.FAILED, failed.fault.error_type, failed.fault.encode()))
        os._exit(1)
    except BaseException as exc:
        exits.leave(exc)
    exits.flush()
    if spec.template:
        sys.modules["lambent.dataplane.runtime.template"].pause(sock, spec, handler, began)
    init_ms = (time.perf_counter() - began) * 1000
    serve_calls(sock, spec, handler, {"init_ms": init_ms})


def serve_calls(sock: socket.socket, spec: EnvironmentSpec, handler: Handler, told: Dict[str, Any]) -> NoReturn:
    """Say that the environment is ready, then answer. `told`: what READY says."""
    if spec.concurrency > 1 and isinstance(handler, AsgiHandler):
        concurrent.serve(sock, handler, spec, told)
    if spec.concurrency > 1:
        logs.write_line(
            "[lambent] LAMBENT_CONCURRENCY is for ASGI applications (main:app): this handler takes one at a time"
        )
    sock.sendall(frames.encode(frames.READY, json.dumps(told).encode()))
    Loop(sock, handler, spec.log_format).run()


def reseed() -> None:
    """Siblings of one zygote share its memory, so its random state too, until each takes its own."""
    random.seed()


def _forget_host(spec: EnvironmentSpec) -> None:
    # Collected from here on; what came from the zygote stays frozen and shared.
    gc.enable()
    # Made anew: the zygote's own streams stood on other descriptors, and remember what those could do.
    sys.stdout = _open_stream(1)
    sys.stderr = _open_stream(2)
    version = "python{}.{}".format(*sys.version_info[:2])
    opt = ["/opt/python/lib/{}/site-packages".format(version), "/opt/python"]
    sys.path[:] = [spec.task_root, *opt, "/var/runtime", *sys.path]
    if "TZ" in os.environ:
        time.tzset()


def _open_stream(fd: int) -> TextIO:
    return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


class Loop:
    """The invocations of one environment, one at a time."""

    def __init__(self, sock: socket.socket, handler: Handler, log_format: str) -> None:
        self._sock = sock
        self._handler = handler
        context.LambdaContext._sock = sock
        self._log_format = log_format
        self._pid = os.getpid()
        self._view = memoryview(bytearray(65_536))

    def run(self) -> NoReturn:
        while True:
            call = self._receive()
            answer = self._answer(call)
            if os.getpid() != self._pid:
                # User code forked and its child returned from the handler; the answer is the parent's to give.
                os._exit(0)
            exits.flush()
            # One send of one buffer: the node is woken once.
            self._sock.sendall(answer)

    def _receive(self, got: int = 0) -> Call:
        """Nearly always one read: the node sends a whole frame at once, and the next only after our answer."""
        view = self._view
        if not got:
            got = self._read_into(view)
        while got < frames.HEAD.size:
            got += self._read_into(view[got:])
        kind, length = frames.HEAD.unpack_from(view)
        if kind == frames.CANCEL:
            # It was on its way when the answer was complete.
            rest = bytes(view[frames.HEAD.size : got])
            view[: len(rest)] = rest
            return self._receive(len(rest))
        end = frames.HEAD.size + length
        if kind not in (frames.INVOKE, frames.STREAM) or got > end:
            os._exit(1)
        if end > len(view):
            # Used once: an environment does not stay as large as its largest event.
            view = memoryview(bytearray(end))
            view[:got] = self._view[:got]
        while got < end:
            got += self._read_into(view[got:end])
        call = frames.decode_call(view[frames.HEAD.size : end].tobytes())
        return call if kind == frames.INVOKE else call._replace(streamed=True)

    def _read_into(self, view: memoryview) -> int:
        count = self._sock.recv_into(view)
        if not count:
            os._exit(0)
        return count

    def _answer(self, call: Call) -> bytes:
        logs.Requests.current = call.request_id
        if call.trace_id:
            os.environ["_X_AMZN_TRACE_ID"] = call.trace_id
        else:
            os.environ.pop("_X_AMZN_TRACE_ID", None)
        lambda_context = None
        try:
            lambda_context = context.LambdaContext(call)
            result = self._handler(marshal.decode_event(call.event), lambda_context)
            writer = lambda_context._writer
            if writer is None and type(result) not in streaming.STREAMED:
                return frames.encode(frames.RESULT, marshal.encode_result(result))
            if writer is None:
                writer = lambda_context.response_stream()
            if type(result) in streaming.STREAMED:
                streaming.write_pieces(result, writer)
            writer.close()
            return frames.encode(frames.RESULT, b"" if call.streamed else marshal.encode_result(writer.collected()))
        except streaming.ReaderGone:
            # Not a fault of the function's: whoever asked has left.
            _close_stream(lambda_context)
            return frames.encode(frames.RESULT, b"")
        except Refused as exc:
            fault = Fault(exc.error_type, str(exc), call.request_id, [])
        except marshal.ResponseTooLarge as exc:
            return frames.encode_error(frames.ERROR, *logs.refuse_size(str(exc)))
        except Exception as exc:
            fault = faults.describe(exc, call.request_id)
        except BaseException as exc:
            exits.leave(exc)
        _close_stream(lambda_context)
        logs.log_fault(fault, self._log_format, faults.format_for_log(fault))
        return frames.encode_error(frames.ERROR, fault.error_type, fault.encode())


def _close_stream(lambda_context: Optional[context.LambdaContext]) -> None:
    """A thread that still has the writer must not write into the next invocation's answer."""
    if lambda_context is not None and lambda_context._writer is not None:
        lambda_context._writer.close()

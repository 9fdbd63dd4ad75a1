"""Any HTTP server as a function: started as a program beside us, asked over the loopback for each event.

The variables are Lambda Web Adapter's (github.com/aws/aws-lambda-web-adapter), so that what is packaged for it runs
unchanged. Its extension is not needed, and not run.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional

from lambent.dataplane.runtime.applications.requests import (
    Header,
    NotHttp,
    Request,
    Response,
    read_request,
    write_head,
    write_response,
)

HOST = "127.0.0.1"
READINESS_INTERVAL_S = 0.01
"""The convention's own: a server cannot tell when it is ready otherwise."""
PIECE_BYTES = 65_536
_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))


class ServerNotStarted(Exception):
    """The program cannot be run, or ended before it was ready."""


class ServerFailed(Exception):
    """The server answered with a status that stands for a failure of the function."""


class Settings(NamedTuple):
    port: int
    readiness_port: int
    readiness_path: str
    readiness_protocol: str
    """`http` or `tcp`."""
    healthy: FrozenSet[int]
    base_path: str
    """Taken off the path; empty for none."""
    events_path: str
    """Where events that are no HTTP requests are posted."""
    error_statuses: FrozenSet[int]


def read_settings(variables: Dict[str, str], *, shares_loopback: bool) -> Settings:
    """Raises ServerNotStarted. With `shares_loopback` a port that nobody names is one that is free now."""

    def find(name: str, default: str) -> str:
        # Releases before 0.9 had the names without the prefix.
        return variables.get("AWS_LWA_" + name) or variables.get(name) or default

    try:
        port = int(find("PORT", "0"))
        port = port or (_find_port() if shares_loopback else 8080)
        least_unhealthy = int(find("READINESS_CHECK_MIN_UNHEALTHY_STATUS", "500"))
        return Settings(
            port=port,
            readiness_port=int(find("READINESS_CHECK_PORT", str(port))),
            readiness_path=find("READINESS_CHECK_PATH", "/"),
            readiness_protocol=find("READINESS_CHECK_PROTOCOL", "http").lower(),
            healthy=_read_statuses(
                variables.get("AWS_LWA_READINESS_CHECK_HEALTHY_STATUS") or "100-{}".format(least_unhealthy - 1)
            ),
            base_path=(variables.get("AWS_LWA_REMOVE_BASE_PATH") or variables.get("REMOVE_BASE_PATH") or "").rstrip(
                "/"
            ),
            events_path=variables.get("AWS_LWA_PASS_THROUGH_PATH") or "/events",
            error_statuses=_read_statuses(variables.get("AWS_LWA_ERROR_STATUS_CODES") or ""),
        )
    except ValueError as exc:
        raise ServerNotStarted("a setting of AWS_LWA_* is no number: {}".format(exc)) from exc


def _read_statuses(text: str) -> FrozenSet[int]:
    """`500,502-504`."""
    found: List[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first:
            found += range(int(first), int(last or first) + 1)
    return frozenset(found)


def _find_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


class ServerHandler:
    """`startup` starts the program and waits until it is ready; each call hands one event on.

    A server that has ended is started again by the next event.
    """

    def __init__(self, program: str, settings: Settings) -> None:
        self._program = program
        self._settings = settings
        self._pid = 0
        self._connection: Any = None

    def startup(self) -> None:
        """Raises ServerNotStarted. There is no limit here: the node has one for init."""
        settings = self._settings
        _keep_descriptors()
        variables = {**os.environ, "PORT": str(settings.port), "AWS_LWA_PORT": str(settings.port)}
        try:
            self._pid = os.posix_spawn(self._program, [self._program], variables, setsigdef=_HANDLED)
        except OSError as exc:
            raise ServerNotStarted(_explain(self._program, exc)) from exc
        while not self._is_ready():
            status = self._ended()
            if status is not None:
                raise ServerNotStarted("the server ended with {} before it was ready".format(status))
            time.sleep(READINESS_INTERVAL_S)

    def stop(self) -> None:
        self._disconnect()
        if self._pid and self._ended() is None:
            os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def __call__(self, event: Any, context: Any) -> Any:
        if not self._pid or self._ended() is not None:
            self._disconnect()
            self.startup()
        try:
            request = read_request(event)
        except NotHttp:
            return self._pass_through(event, context)
        path = request.raw_path
        base = self._settings.base_path
        if base and (path == base or path.startswith(base + "/")):
            path = path[len(base) :] or "/"
        target = path + ("?" + request.query if request.query else "")
        headers = [*request.headers, ("x-amzn-request-context", _write_json(event.get("requestContext")))]
        try:
            response = self._ask(request.method, target, headers, request.body, context)
        except (OSError, *_protocol_errors()) as exc:
            return write_response(request, self._refuse(exc))
        if response.status in self._settings.error_statuses:
            self._disconnect()
            raise ServerFailed("the server answered {} to {} {}".format(response.status, request.method, path))
        return self._answer(request, response, context)

    def _answer(self, request: Request, response: Any, context: Any) -> Any:
        headers = _read_headers(response)
        if not context.streams_response:
            try:
                body = b"" if request.method == "HEAD" else response.read()
            except (OSError, *_protocol_errors()) as exc:
                return write_response(request, self._refuse(exc))
            return write_response(request, Response(response.status, headers, body))
        head = write_head(response.status, headers)
        writer = context.response_stream()
        writer.begin(status_code=response.status, headers=head["headers"], cookies=head.get("cookies"))
        try:
            while True:
                piece = response.read1(PIECE_BYTES)
                if not piece:
                    return None
                writer.write(piece)
        except BaseException:
            # What is left of this answer must not become the next one's.
            self._disconnect()
            raise

    def _pass_through(self, event: Any, context: Any) -> Any:
        headers = [("host", HOST), ("content-type", "application/json")]
        body = json.dumps(event).encode()
        response = self._ask("POST", self._settings.events_path, headers, body, context)
        data = response.read()
        if response.status >= 400 or response.status in self._settings.error_statuses:
            raise ServerFailed(
                "the server answered {} to an event: {}".format(response.status, data[:500].decode("utf-8", "replace"))
            )
        try:
            return json.loads(data) if data else None
        except ValueError:
            return data.decode("utf-8", "replace")

    def _ask(self, method: str, target: str, headers: List[Header], body: bytes, context: Any) -> Any:
        is_reused = self._connect()
        sent = [*headers, ("x-amzn-lambda-context", _describe(context))]
        try:
            return self._send(method, target, sent, body)
        except (ConnectionError, *_protocol_errors()):
            # The server may close what it kept in the very moment in which we use it.
            self._disconnect()
            if not is_reused or method not in _REPEATABLE:
                raise
        self._connect()
        return self._send(method, target, sent, body)

    def _send(self, method: str, target: str, headers: List[Header], body: bytes) -> Any:
        connection = self._connection
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            if name not in _HOP_BY_HOP and name != "content-length":
                connection.putheader(name, value.encode("latin-1", "replace"))
        if body or method not in ("GET", "HEAD", "OPTIONS", "DELETE"):
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body or None)
        return connection.getresponse()

    def _connect(self) -> bool:
        """Whether the connection is one that was kept."""
        connection = self._connection
        if connection is not None and connection.sock is not None:
            if not select.select([connection.sock], [], [], 0)[0]:
                return True
            self._disconnect()
        # Here: most functions do without it, and it brings `ssl` with it.
        import http.client  # noqa: PLC0415

        connection = self._connection = http.client.HTTPConnection(HOST, self._settings.port)
        connection.sock = _open(self._settings.port)
        return False

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _refuse(self, exc: BaseException) -> Response:
        self._disconnect()
        print("The server did not answer: {}: {}".format(type(exc).__name__, exc), file=sys.stderr)
        return Response(502, [("content-type", "text/plain; charset=utf-8")], b"Bad Gateway")

    def _is_ready(self) -> bool:
        settings = self._settings
        try:
            sock = _open(settings.readiness_port)
        except OSError:
            return False
        with sock:
            if settings.readiness_protocol == "tcp":
                return True
            request = "GET {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n"
            try:
                sock.sendall(request.format(settings.readiness_path, HOST).encode("latin-1", "replace"))
                line = sock.makefile("rb").readline(1024)
            except OSError:
                return False
        parts = line.split()
        return len(parts) > 1 and parts[1].isdigit() and int(parts[1]) in settings.healthy

    def _ended(self) -> Optional[str]:
        """How, where it has."""
        if not self._pid:
            return "an earlier status"
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if not pid:
            return None
        self._pid = 0
        code = os.waitstatus_to_exitcode(status)
        return "status {}".format(code) if code >= 0 else "signal {}".format(-code)


# Python ignores them, and an ignored signal would stay ignored in the program.
_HANDLED = (13, 25)


def _keep_descriptors() -> None:
    """To ourselves: the channel to the node is none of the program's."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:
                # The one that listed them.
                continue


def _open(port: int) -> socket.socket:
    # Not create_connection: it encodes names, with a codec that may be out of sight by now.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.connect((HOST, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _protocol_errors() -> Any:
    module = sys.modules.get("http.client")
    return (module.HTTPException,) if module is not None else ()


def _read_headers(response: Any) -> List[Header]:
    return [
        (name.lower(), value)
        for name, value in response.getheaders()
        if name.lower() not in _HOP_BY_HOP and name.lower() != "content-length"
    ]


def _describe(context: Any) -> str:
    return _write_json(
        {
            "request_id": getattr(context, "aws_request_id", ""),
            "deadline": getattr(context, "_epoch_deadline_time_in_ms", 0),
            "invoked_function_arn": getattr(context, "invoked_function_arn", ""),
            "xray_trace_id": os.environ.get("_X_AMZN_TRACE_ID", ""),
            "env_config": {
                "function_name": getattr(context, "function_name", ""),
                "memory": int(getattr(context, "memory_limit_in_mb", 0) or 0),
                "version": getattr(context, "function_version", ""),
            },
        }
    )


def _write_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _explain(program: str, exc: OSError) -> str:
    fix = {13: ": make it executable (chmod +x)", 8: ": its first line must be #!/bin/sh or the like"}
    return "{} cannot be started: {}{}".format(program, exc.strerror, fix.get(exc.errno or 0, ""))

"""WSGI applications (PEP 3333) as handlers."""

from __future__ import annotations

import io
import sys
import traceback
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from lambent.dataplane.runtime.applications.requests import (
    Header,
    Request,
    Response,
    read_request,
    write_head,
    write_response,
)
from lambent.dataplane.runtime.streaming import ReaderGone, ResponseWriter


class WsgiHandler:
    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def startup(self) -> None:
        """Nothing: such an application has no start of its own."""

    def __call__(self, event: Any, context: Any) -> Any:
        request = read_request(event)
        exchange = _Exchange(request, context)
        try:
            exchange.run(self._app, build_environ(request, event, context))
        except ReaderGone:
            raise
        except Exception:
            traceback.print_exc(file=sys.stderr)
            if exchange.has_begun:
                raise
            return write_response(request, _FAILED)
        return exchange.answer()


_FAILED = Response(500, [("content-type", "text/plain; charset=utf-8")], b"Internal Server Error")


def build_environ(request: Request, event: Any, context: Any) -> Dict[str, Any]:
    environ: Dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": request.root_path,
        # Bytes as latin-1, as the PEP has it.
        "PATH_INFO": request.path.encode("utf-8", "replace").decode("latin-1"),
        "RAW_URI": request.root_path + request.raw_path + ("?" + request.query if request.query else ""),
        "QUERY_STRING": request.query,
        "SERVER_NAME": request.host,
        "SERVER_PORT": str(request.port),
        "SERVER_PROTOCOL": request.protocol,
        "REMOTE_ADDR": request.client,
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "aws.event": event,
        "aws.context": context,
    }
    for name, value in request.headers:
        if name == "content-length":
            continue
        key = name.upper().replace("-", "_")
        if key != "CONTENT_TYPE":
            key = "HTTP_" + key
        environ[key] = environ[key] + "," + value if key in environ else value
    return environ


class _Exchange:
    def __init__(self, request: Request, context: Any) -> None:
        self._request = request
        self._context = context
        self._status = 0
        self._headers: List[Header] = []
        self._body = bytearray()
        self._writer: Optional[ResponseWriter] = None

    @property
    def has_begun(self) -> bool:
        return self._writer is not None

    def run(self, app: Callable[..., Iterable[bytes]], environ: Dict[str, Any]) -> None:
        pieces = app(environ, self._start)
        is_whole = isinstance(pieces, (list, tuple))
        try:
            for piece in pieces:
                if piece:
                    self._write(piece, streams=not is_whole)
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
        if not self._status:
            raise RuntimeError("the application returned without having called start_response")

    def answer(self) -> Any:
        if self._writer is not None:
            return None
        body = b"" if self._request.method == "HEAD" else bytes(self._body)
        return write_response(self._request, Response(self._status, self._headers, body))

    def _start(
        self, status: str, headers: List[Tuple[str, str]], exc_info: Optional[Tuple[Any, Any, Any]] = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None:
            if self.has_begun:
                raise exc_info[1].with_traceback(exc_info[2])
            self._body.clear()
        elif self._status:
            raise RuntimeError("start_response was called twice")
        self._status = int(status.split(" ", 1)[0])
        self._headers = [(name.lower(), value) for name, value in headers]
        return lambda data: self._write(data, streams=True)

    def _write(self, data: bytes, *, streams: bool) -> None:
        if not self._status:
            raise RuntimeError("the application wrote before it had called start_response")
        if self._writer is None and streams and self._context.streams_response:
            head = write_head(self._status, self._headers)
            self._writer = self._context.response_stream()
            self._writer.begin(status_code=self._status, headers=head["headers"], cookies=head.get("cookies"))
        if self._writer is None:
            self._body += data
        elif self._request.method != "HEAD":
            self._writer.write(data)

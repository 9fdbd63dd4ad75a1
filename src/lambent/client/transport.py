"""One signed request over HTTP and what came back. A connection for each: nothing is shared, nothing goes stale."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from urllib.parse import quote, urlencode, urlsplit

from lambent.awsapi.sigv4 import sign
from lambent.client.connection import Connection
from lambent.client.errors import ApiError, BadConnection, Unreachable

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 120.0
_CHUNK_BYTES = 65_536


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def request_id(self) -> str:
        return self.headers.get("x-amzn-requestid", "")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    service: str = "lambda"

    @property
    def target(self) -> str:
        return self.path + ("?" + urlencode(self.query, quote_via=quote) if self.query else "")


class Transport:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float = ANSWER_TIMEOUT_S,
        service: str = "lambda",
    ) -> Answer:
        """`service` is what the request is signed for. Raises ApiError for an answer of 300 and above, Unreachable when
        none came."""
        request = _Request(
            method=method, path=path, query=query or {}, headers=headers or {}, body=body, service=service
        )
        with self._open(request, timeout_s) as response:
            answer = self._read(response)
        _raise_for(answer)
        return answer

    def stream_lines(self, path: str, *, query: Mapping[str, str], timeout_s: float | None) -> Iterator[bytes]:
        """The lines of an answer as they come; `timeout_s` None waits for ever between two of them."""
        with self._open(_Request(method="GET", path=path, query=query), timeout_s) as response:
            if response.status >= 300:
                _raise_for(self._read(response))
            try:
                yield from _split_lines(response)
            except (OSError, http.client.HTTPException) as exc:
                raise self._broken() from exc

    def _read(self, response: http.client.HTTPResponse) -> Answer:
        try:
            body = response.read()
        except (OSError, http.client.HTTPException) as exc:
            raise self._broken() from exc
        return Answer(status=response.status, headers=response.headers, body=body)

    def _broken(self) -> Unreachable:
        return Unreachable(self.connection.endpoint, "the connection broke while it answered")

    @contextlib.contextmanager
    def _open(self, request: _Request, timeout_s: float | None) -> Iterator[http.client.HTTPResponse]:
        endpoint = self.connection.endpoint
        link = _connect(endpoint)
        try:
            try:
                link.connect()
                link.sock.settimeout(timeout_s)
                target = urlsplit(endpoint).path + request.target
                link.request(request.method, target, request.body or None, dict(self._sign(request)))
                response = link.getresponse()
            except TimeoutError as exc:
                raise Unreachable(endpoint, "it took too long") from exc
            except (OSError, http.client.HTTPException) as exc:
                raise Unreachable(endpoint, _explain(exc)) from exc
            yield response
        finally:
            link.close()

    def _sign(self, request: _Request) -> Mapping[str, str]:
        credentials = self.connection.credentials
        given = {"user-agent": "lambent", **request.headers}
        if credentials is None:
            return given
        return sign(
            method=request.method,
            url=self.connection.endpoint + request.target,
            headers=given,
            body=request.body,
            access_key=credentials.access_key,
            secret=credentials.secret,
            region=self.connection.region,
            service=request.service,
        )


def _connect(endpoint: str) -> http.client.HTTPConnection:
    parts = urlsplit(endpoint)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        return kind(parts.hostname or "", parts.port, timeout=CONNECT_TIMEOUT_S)
    except ValueError as exc:
        raise BadConnection(f"{endpoint} is not a URL that can be called: {exc}.") from exc


def _explain(exc: Exception) -> str:
    if isinstance(exc, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(exc, socket.gaierror):
        return "there is no such host"
    if isinstance(exc, (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected)):
        return "it closed the connection"
    if isinstance(exc, http.client.HTTPException):
        return "what listens there does not speak HTTP"
    return str(exc)


def _split_lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    # read1, not readline: it hands on what has come instead of waiting for a full buffer.
    rest = b""
    while chunk := response.read1(_CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line)
    if rest:
        yield rest


def _raise_for(answer: Answer) -> None:
    if answer.status < 300:
        return
    try:
        told = json.loads(answer.body)
    except ValueError:
        told = {}
    if not isinstance(told, dict):
        told = {}
    code = answer.headers.get("x-amzn-errortype") or told.get("__type") or f"HTTP {answer.status}"
    message = told.get("message") or told.get("Message") or answer.body[:200].decode(errors="replace")
    raise ApiError(
        str(code).split(":")[0].split("#")[-1], str(message), status=answer.status, request_id=answer.request_id
    )

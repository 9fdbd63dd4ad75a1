"""A request of the front door and its answer, as plain values: what sites, authorizers and payloads work on."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from lambent.awsapi.http import Headers, HttpRequest

_TEXTUAL = re.compile(
    rb"\s*(?:text/[^;]*|application/(?:json|xml|javascript|ecmascript|x-www-form-urlencoded|graphql|sql|yaml|x-yaml"
    rb"|[^;\s]+\+(?:json|xml))|image/svg\+xml|multipart/alternative)\s*(?:;|$)",
    re.I,
)
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
HOP_BY_HOP = frozenset(
    (
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    )
)
"""What belongs to one connection: a function's answer does not decide it."""


class HttpCall(msgspec.Struct, kw_only=True, dict=True):
    """`raw_path` is percent-encoded as it came, without what only led to the site (a base path, `/_lambent/...`).

    Header names are lower-case; values are latin-1.
    """

    method: str
    raw_path: bytes
    query_string: bytes = b""
    headers: Headers
    body: bytes = b""
    host: str = ""
    """Of the request, without the port, in lower case."""
    port: int = 80
    source_ip: str = ""
    protocol: str = "HTTP/1.1"
    scheme: str = "http"
    request_id: str
    trace_id: str = ""
    received_at_ms: int = 0
    """Milliseconds since 1970."""
    client_certificate: Mapping[str, Any] | None = None
    """Of mutual TLS, as the event shows it."""
    request: HttpRequest | None = None
    """As it came, which is what a signature covers."""

    @cached_property
    def path(self) -> str:
        """Decoded; bytes that are no UTF-8 are replaced."""
        return unquote_to_bytes(self.raw_path).decode("utf-8", "replace")

    @cached_property
    def header_lists(self) -> dict[str, list[str]]:
        """Values by lower-case name, in order."""
        lists: dict[str, list[str]] = {}
        for name, value in self.headers:
            lists.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        return lists

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """Decoded pairs, in order."""
        return parse_qsl(self.query_string.decode("latin-1"), keep_blank_values=True, errors="replace")

    def header(self, name: str) -> str | None:
        """The first value, by lower-case name."""
        values = self.header_lists.get(name)
        return values[0] if values else None

    @cached_property
    def is_text(self) -> bool:
        """Whether the body is put into an event as it is, not in base64."""
        if not self.body:
            return True
        encoding = (self.header("content-encoding") or "identity").lower()
        kind = (self.header("content-type") or "").encode("latin-1")
        if encoding != "identity" or not _TEXTUAL.match(kind):
            return False
        try:
            self.body.decode("utf-8")
        except UnicodeDecodeError:
            return False
        return True


Body = bytes | AsyncIterator[bytes]


class HttpAnswer(msgspec.Struct, kw_only=True):
    """`headers` without what belongs to the connection. A body that comes in pieces is an iterator: it is closed when
    the client has left."""

    status: int = 200
    headers: list[tuple[str, str]] = []
    body: Any = b""
    """`Body`"""


def answer_json(status: int, document: bytes, headers: Iterable[tuple[str, str]] = ()) -> HttpAnswer:
    return HttpAnswer(status=status, headers=[("content-type", "application/json"), *headers], body=document)


def is_field(name: str, value: str) -> bool:
    """Whether it may be written as a header: nothing that a function says breaks out of its line."""
    return _FIELD_NAME.fullmatch(name) is not None and _FIELD_VALUE.fullmatch(value) is not None


def is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True

"""A request and a response as plain values: what the codec, the signatures and the operations work on."""

from __future__ import annotations

import msgspec

Headers = list[tuple[bytes, bytes]]


class HttpRequest(msgspec.Struct, kw_only=True):
    """`raw_path` is percent-encoded as it came; header names are lower-case bytes (as ASGI gives them)."""

    method: str
    raw_path: bytes
    query_string: bytes = b""
    headers: Headers
    body: bytes = b""

    fields: dict[bytes, bytes] = {}
    """The last value of each header; made of `headers`."""

    def __post_init__(self) -> None:
        self.fields = dict(self.headers)

    def header(self, name: bytes) -> str | None:
        """The last value of a header, by its lower-case name."""
        value = self.fields.get(name)
        return value.decode("latin-1") if value is not None else None


class HttpResponse(msgspec.Struct, kw_only=True):
    status: int = 200
    headers: Headers = []
    body: bytes = b""

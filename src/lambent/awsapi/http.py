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

    def header(self, name: bytes) -> str | None:
        """The last value of a header, by its lower-case name."""
        for key, value in reversed(self.headers):
            if key == name:
                return value.decode("latin-1")
        return None


class HttpResponse(msgspec.Struct, kw_only=True):
    status: int = 200
    headers: Headers = []
    body: bytes = b""

"""A request and a response as plain values: what the codec, the signatures and the operations work on."""

from __future__ import annotations

import dataclasses

Headers = list[tuple[bytes, bytes]]


@dataclasses.dataclass(slots=True, kw_only=True)
class HttpRequest:
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


@dataclasses.dataclass(slots=True, kw_only=True)
class HttpResponse:
    status: int = 200
    headers: Headers = dataclasses.field(default_factory=list)
    body: bytes = b""

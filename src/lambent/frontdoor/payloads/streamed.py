"""What stands before a streamed answer: status and headers as JSON, eight NUL bytes, then the body.

Source: Lambda developer guide, "Response streaming", `awslambda.HttpResponseStream`. A function that names any other
content type streams the body alone.
"""

from __future__ import annotations

import msgspec

from lambent.frontdoor.payloads.v2 import Malformed, read_head
from lambent.model.streams import ResponseStream

INTEGRATION_TYPE = "application/vnd.awslambda.http-integration-response"
SEPARATOR = b"\0" * 8
MAX_PRELUDE_BYTES = 65_536
_DEFAULT_TYPE = "application/octet-stream"


class Prelude(msgspec.Struct, kw_only=True):
    status: int = 200
    headers: list[tuple[str, str]] = []
    rest: bytes = b""
    """What came of the body with it."""


class PreludeReader:
    def __init__(self, stream: ResponseStream) -> None:
        self._stream = stream

    async def read(self) -> Prelude | None:
        """None when the answer ended before there was anything of it. Raises `v2.Malformed`."""
        stream = self._stream
        if stream.content_type != INTEGRATION_TYPE:
            kind = stream.content_type or _DEFAULT_TYPE
            return Prelude(headers=[("content-type", kind)])
        held = b""
        while SEPARATOR not in held:
            piece = await stream.read()
            if not piece:
                return None
            held += piece
            if len(held) > MAX_PRELUDE_BYTES and SEPARATOR not in held[: MAX_PRELUDE_BYTES + len(SEPARATOR)]:
                raise Malformed("what stands before the body is longer than 64 KiB")
        document, _, rest = held.partition(SEPARATOR)
        try:
            head = msgspec.json.decode(document)
        except (ValueError, RecursionError) as exc:
            raise Malformed("what stands before the body is no JSON") from exc
        if not isinstance(head, dict):
            raise Malformed("what stands before the body is no object")
        status, headers = read_head(head)
        if not any(name == "content-type" for name, _ in headers):
            headers.append(("content-type", _DEFAULT_TYPE))
        return Prelude(status=status, headers=headers, rest=rest)

"""The frames between members: length, kind of frame, id, body. Several questions share one connection."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from lambent.model.errors import CallerError, PlatformError

QUESTION, ANSWER, ERROR = 1, 2, 3
MAX_FRAME_BYTES = 512 * 1_048_576
_HEAD = struct.Struct("!IBI")


class BrokenFrame(Exception):
    """What came is no frame; the connection is of no use any more."""


def pack(frame: int, number: int, body: bytes) -> bytes:
    return _HEAD.pack(len(body), frame, number) + body


def pack_question(number: int, kind: str, body: bytes) -> bytes:
    name = kind.encode("ascii")
    return b"%b%c%b%b" % (_HEAD.pack(1 + len(name) + len(body), QUESTION, number), len(name), name, body)


def split_question(body: bytes) -> tuple[str, bytes]:
    end = 1 + body[0]
    return body[1:end].decode("ascii"), body[end:]


class FrameReader:
    """Gathers bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """The frames (kind, id, body) that are complete with `data`. Raises BrokenFrame."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _HEAD.size:
            length, frame, number = _HEAD.unpack_from(buffer)
            if length > MAX_FRAME_BYTES or frame not in (QUESTION, ANSWER, ERROR):
                raise BrokenFrame
            end = _HEAD.size + length
            if len(buffer) < end:
                return
            with memoryview(buffer) as view:
                body = bytes(view[_HEAD.size : end])
            del buffer[:end]
            yield frame, number, body


class _Error(msgspec.Struct, kw_only=True):
    code: str = ""
    """Empty for a PlatformError."""
    message: str
    status: int = 500
    members: dict[str, str] = {}
    headers: dict[str, str] = {}
    retry_safe: bool = False


def encode_error(exc: Exception) -> bytes:
    if isinstance(exc, CallerError):
        error = _Error(
            code=exc.code,
            message=exc.message,
            status=exc.status,
            members=dict(exc.members),
            headers=dict(exc.headers),
        )
    elif isinstance(exc, PlatformError):
        error = _Error(message=str(exc), retry_safe=exc.retry_safe)
    else:
        error = _Error(message="Internal error in another process of the node; its log has the details.")
    return msgspec.msgpack.encode(error)


def decode_error(body: bytes) -> CallerError | PlatformError:
    error = msgspec.msgpack.decode(body, type=_Error)
    if not error.code:
        return PlatformError(error.message, retry_safe=error.retry_safe)
    return CallerError(error.code, error.message, status=error.status, members=error.members, headers=error.headers)

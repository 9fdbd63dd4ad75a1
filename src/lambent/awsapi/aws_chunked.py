# The content encoding `aws-chunked`: a body in chunks that may be signed, with trailers that may hold its checksum.
#
#   400;chunk-signature=SIG\r\n  (bytes)  \r\n   ...   0;chunk-signature=SIG\r\n  name:value\r\n ...  \r\n
#
# Rule 1: this file reads nothing. It is given what came and gives what it means.
# Rule 2: bytes of a chunk are given out before its signature is known to hold. `finish` alone says that all of it does:
#         nothing may come of the bytes before.
from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from lambent.awsapi.sigv4 import ChunkSignatures
from lambent.model.errors import CallerError

LONGEST_LINE = 8_192
MOST_TRAILERS = 32
_HEAD = re.compile(rb"([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-fA-F]{64}))?")
_SIGNATURE = "x-amz-trailer-signature"


class ChunkedDecoder:
    """`signatures` None: the chunks are not signed, or nobody looks."""

    def __init__(self, signatures: ChunkSignatures | None) -> None:
        self.trailers: dict[str, str] = {}
        """By lower-case name, when `finish` has returned."""
        self._signatures = signatures
        self._buffer = bytearray()
        self._left = 0
        self._state = "head"
        self._digest = hashlib.sha256()
        self._signature = ""
        self._trailer_lines = b""
        self._trailer_signature = ""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bytes of the body that are in what came. Raises CallerError."""
        self._buffer += data
        while self._step():
            if self._state == "data" and self._left and self._buffer:
                piece = bytes(self._buffer[: self._left])
                del self._buffer[: self._left]
                self._left -= len(piece)
                if self._signatures is not None:
                    self._digest.update(piece)
                yield piece

    def finish(self) -> None:
        """No more will come. Raises CallerError unless it was whole and every signature holds."""
        if self._state != "end":
            raise CallerError("IncompleteBody", "The request body ended before its last chunk.")

    def _step(self) -> bool:
        """Whether there may be more to do with what is there."""
        if self._state == "data":
            return (self._left > 0 and bool(self._buffer)) or (self._left == 0 and self._end_chunk())
        if self._state == "end":
            if self._buffer:
                raise _malformed("there is something after the last chunk")
            return False
        line = self._take_line()
        if line is None:
            return False
        if self._state == "head":
            self._begin_chunk(line)
        else:
            self._take_trailer(line)
        return True

    def _take_line(self) -> bytes | None:
        at = self._buffer.find(b"\n")
        if at < 0:
            if len(self._buffer) > LONGEST_LINE:
                raise _malformed("a line of it is too long")
            return None
        line = bytes(self._buffer[:at]).removesuffix(b"\r")
        del self._buffer[: at + 1]
        return line

    def _begin_chunk(self, line: bytes) -> None:
        matched = _HEAD.fullmatch(line)
        if matched is None:
            raise _malformed("a chunk does not begin with its size")
        if self._signatures is not None and matched[2] is None:
            raise _malformed("a chunk is not signed")
        self._left = int(matched[1], 16)
        self._signature = (matched[2] or b"").decode().lower()
        self._digest = hashlib.sha256()
        if self._left == 0:
            self._check_chunk()
            self._state = "trailers"
        else:
            self._state = "data"

    def _end_chunk(self) -> bool:
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise _malformed("a chunk is longer than it says")
        del self._buffer[:2]
        self._check_chunk()
        self._state = "head"
        return True

    def _check_chunk(self) -> None:
        if self._signatures is not None:
            self._signatures.check_chunk(self._digest.hexdigest(), self._signature)

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            if self.trailers and self._signatures is not None:
                self._signatures.check_trailer(self._trailer_lines, self._trailer_signature)
            self._state = "end"
            return
        name, colon, value = line.partition(b":")
        if not colon or len(self.trailers) >= MOST_TRAILERS:
            raise _malformed("a trailer is not NAME:VALUE")
        key, text = name.strip().lower().decode("latin-1"), value.strip().decode("latin-1")
        if key == _SIGNATURE:
            self._trailer_signature = text.lower()
            return
        self.trailers[key] = text
        self._trailer_lines += f"{key}:{text}\n".encode("latin-1")


def _malformed(reason: str) -> CallerError:
    return CallerError("InvalidRequest", f"The body is not aws-chunked as it says: {reason}.")

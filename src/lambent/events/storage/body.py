"""The body of a request of S3 as it comes: decoded, and checked against all that the request says of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from lambent.awsapi.aws_chunked import ChunkedDecoder
from lambent.awsapi.http import HttpRequest
from lambent.awsapi.sigv4 import UNSIGNED_PAYLOAD, StreamedIdentity
from lambent.events.storage import checksums
from lambent.events.storage.checksums import Checksum
from lambent.model.errors import CallerError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

LARGEST_PART = 5 * 1024**3
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_SIGNED = ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")
_UNSIGNED = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


class Body:
    """Iterate it once; when that ends without an error, the body is whole and is what was signed."""

    def __init__(self, request: HttpRequest, receive: Receive, signed: StreamedIdentity | None) -> None:
        """`signed` None: nobody looks at signatures (`--dev`). Raises CallerError for a form that is not served."""
        self._receive = receive
        self._decoder: ChunkedDecoder | None = None
        self._sha256 = ""
        self._seen: Checksum = hashlib.sha256()
        stated = signed.payload if signed is not None else request.header(b"x-amz-content-sha256") or ""
        if stated in _SIGNED:
            self._decoder = ChunkedDecoder(signed.chunks if signed is not None else None)
        elif stated == _UNSIGNED:
            self._decoder = ChunkedDecoder(None)
        elif _HEX.fullmatch(stated):
            self._sha256 = stated.lower()
        elif stated not in ("", UNSIGNED_PAYLOAD):
            raise CallerError("InvalidRequest", f"x-amz-content-sha256 '{stated[:80]}' is not served by Lambent.")
        self.length = _read_length(request, decoded=self._decoder is not None)
        """Bytes that it will have; None when that is not known."""
        self._checks = _Checks(request)

    @property
    def checks(self) -> list[Checksum]:
        """To be given every byte, by whoever iterates; `verify` then compares."""
        return list(self._checks.running.values())

    def want(self, algorithm: str) -> None:
        """Compute a checksum although the request has none of it."""
        self._checks.add(algorithm)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for data in self._decoded():
            size += len(data)
            if size > LARGEST_PART:
                raise CallerError("EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.")
            if self._sha256:
                self._seen.update(data)
            yield data
        if self.length is not None and size != self.length:
            raise CallerError(
                "IncompleteBody", f"The request has {size} bytes and not the {self.length} that its header states."
            )
        if self._sha256 and self._seen.digest().hex() != self._sha256:
            raise CallerError(
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            )

    async def read(self, limit_bytes: int) -> bytes:
        """All of it, checked. Raises CallerError."""
        found = bytearray()
        async for data in self:
            found += data
            if len(found) > limit_bytes:
                raise CallerError("MaxMessageLengthExceeded", "Your request was too big.", status=400)
        for check in self.checks:
            check.update(bytes(found))
        self.verify(hashlib.md5(found, usedforsecurity=False).digest())
        return bytes(found)

    def verify(self, md5: bytes) -> dict[str, str]:
        """The checksums, by algorithm, when it has been iterated. Raises CallerError when one does not fit."""
        return self._checks.verify(md5, self._decoder.trailers if self._decoder is not None else {})

    async def _decoded(self) -> AsyncIterator[bytes]:
        async for data in self._received():
            if self._decoder is None:
                yield data
            else:
                for piece in self._decoder.feed(data):
                    yield piece
        if self._decoder is not None:
            self._decoder.finish()

    async def _received(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise CallerError("IncompleteBody", "The client went away before its request was complete.")
            more = message.get("more_body", False)
            if data := message.get("body", b""):
                yield data


class _Checks:
    """What the request says in its headers, or says that its trailers will say."""

    def __init__(self, request: HttpRequest) -> None:
        self.running: dict[str, Checksum] = {}
        self._stated: dict[str, str] = {}
        self._trailing: set[str] = set()
        self._wanted: set[str] = set()
        content_md5 = request.header(b"content-md5")
        self._md5 = _decode_md5(content_md5) if content_md5 is not None else None
        for name, value in _read_headers(request).items():
            algorithm = checksums.check_algorithm(name)
            self._stated[algorithm] = value
            self.running[algorithm] = checksums.ALGORITHMS[algorithm]()
        trailer = (request.header(b"x-amz-trailer") or "").strip().lower()
        if trailer.startswith(checksums.PREFIX):
            algorithm = checksums.check_algorithm(trailer.removeprefix(checksums.PREFIX))
            self._trailing.add(algorithm)
            self.running[algorithm] = checksums.ALGORITHMS[algorithm]()

    def add(self, algorithm: str) -> None:
        self.running.setdefault(algorithm, checksums.ALGORITHMS[algorithm]())
        self._wanted.add(algorithm)

    def verify(self, md5: bytes, trailers: dict[str, str]) -> dict[str, str]:
        if self._md5 is not None and self._md5 != md5:
            raise CallerError("BadDigest", "The Content-MD5 you specified did not match what we received.")
        found = {}
        for algorithm, running in self.running.items():
            computed = checksums.encode(running.digest())
            stated = self._stated.get(algorithm)
            if algorithm in self._trailing:
                stated = trailers.get(checksums.PREFIX + algorithm.lower(), "")
            if stated is not None and stated != computed:
                raise CallerError("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")
            if algorithm in self._wanted or stated is not None:
                found[algorithm] = computed
        return found


_NOT_A_CHECKSUM = ("type", "algorithm", "mode")


def _read_headers(request: HttpRequest) -> dict[str, str]:
    found = {}
    for raw_name, raw_value in request.headers:
        name = raw_name.decode("latin-1")
        if name.startswith(checksums.PREFIX) and name.removeprefix(checksums.PREFIX) not in _NOT_A_CHECKSUM:
            found[name.removeprefix(checksums.PREFIX)] = raw_value.decode("latin-1").strip()
    return found


def _read_length(request: HttpRequest, *, decoded: bool) -> int | None:
    text = request.header(b"x-amz-decoded-content-length" if decoded else b"content-length")
    if text is None and decoded:
        raise CallerError("MissingContentLength", "You must provide the x-amz-decoded-content-length.", status=411)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise CallerError("InvalidArgument", "The length of the body is not a number.")
    if int(text) > LARGEST_PART:
        raise CallerError("EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.")
    return int(text)


def _decode_md5(text: str) -> bytes:
    try:
        value = checksums.decode(text)
    except CallerError:
        value = b""
    if len(value) != 16:
        raise CallerError("InvalidDigest", "The Content-MD5 you specified was invalid.")
    return value

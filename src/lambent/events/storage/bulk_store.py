"""The S3-compatible store behind buckets that are for bulk: signed requests over kept connections, streamed."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree

from lambent.awsapi.http import Headers
from lambent.awsapi.sigv4 import UNSIGNED_PAYLOAD, sign
from lambent.model.errors import CallerError, PlatformError

if TYPE_CHECKING:
    import httpcore2

LARGEST_DOCUMENT = 8 * 1024**2
"""The most that is read of an answer that is XML."""
_TIMEOUTS_S = {"connect": 5.0, "read": 120.0, "write": 120.0, "pool": 60.0}
_CONNECTIONS = 64
_NOT_OURS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "InvalidToken"})
"""What a store says of credentials that are not right: the node's, which the caller has nothing to do with."""


class StoreSettings(NamedTuple):
    endpoint_url: str
    access_key_id: str
    secret_access_key: str
    region: str
    buckets: Sequence[str]
    """Names, or patterns such as `bulk-*`, of the buckets whose objects lie there."""

    def __repr__(self) -> str:
        """Without the secret, so that no log or traceback can show it."""
        return f"StoreSettings(endpoint_url={self.endpoint_url!r}, buckets={list(self.buckets)!r})"


class Answer(NamedTuple):
    status: int
    headers: Headers
    """Names in lower case."""
    body: AsyncIterator[bytes]

    def header(self, name: bytes) -> str:
        return next((value.decode("latin-1") for known, value in self.headers if known == name), "")

    async def read(self) -> bytes:
        """All of a document. Raises PlatformError when it is too long to be one."""
        found = bytearray()
        async for data in self.body:
            found += data
            if len(found) > LARGEST_DOCUMENT:
                raise PlatformError("The store's answer is too long.")
        return bytes(found)


class Unreachable(PlatformError):
    """The store cannot be reached, or hung up. `sent`: it may have done what it was asked for."""

    def __init__(self, url: str, reason: str, *, sent: bool) -> None:
        super().__init__(f"The store behind this bucket ({url}) does not answer: {reason}", retry_safe=True)
        self.sent = sent


class BulkStore:
    """Use as a context manager, or `close` it."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._pool: httpcore2.AsyncConnectionPool | None = None

    async def __aenter__(self) -> BulkStore:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()

    def owns(self, bucket: str) -> bool:
        """Whether a bucket of this name is made there."""
        return any(fnmatch.fnmatchcase(bucket, pattern) for pattern in self._settings.buckets)

    @contextlib.asynccontextmanager
    async def send(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        content: bytes | AsyncIterable[bytes] = b"",
        length: int | None = None,
    ) -> AsyncIterator[Answer]:
        """`path` is /BUCKET or /BUCKET/KEY, percent-encoded; `length` must be given for a stream.

        Raises Unreachable, PlatformError when the store refuses the node's credentials, and what the content raises.
        """
        import httpcore2  # noqa: PLC0415 - a node without such a store does without it

        if self._pool is None:
            self._pool = httpcore2.AsyncConnectionPool(max_connections=_CONNECTIONS, keepalive_expiry=30.0)
        settings = self._settings
        url = settings.endpoint_url.rstrip("/") + path + (f"?{query}" if query else "")
        signed = sign(
            method=method,
            url=url,
            headers={**(headers or {}), "x-amz-content-sha256": UNSIGNED_PAYLOAD},
            body=b"",
            payload_hash=UNSIGNED_PAYLOAD,
            access_key=settings.access_key_id,
            secret=settings.secret_access_key,
            region=settings.region,
            service="s3",
        )
        if length is None and isinstance(content, bytes):
            length = len(content)
        if method in ("PUT", "POST"):
            signed["content-length"] = str(length)
        sending = _Sending(content)
        async with contextlib.AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(
                    self._pool.stream(
                        method,
                        url,
                        headers=list(signed.items()),
                        content=aiter(sending) if method in ("PUT", "POST") else None,
                        extensions={"timeout": _TIMEOUTS_S},
                    )
                )
            except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError) as exc:
                if sending.failure is not None:
                    raise sending.failure from None
                connecting = isinstance(exc, (httpcore2.ConnectError, httpcore2.ConnectTimeout))
                raise Unreachable(settings.endpoint_url, str(exc) or type(exc).__name__, sent=not connecting) from exc
            answer = Answer(
                response.status,
                [(name.lower(), value) for name, value in response.headers],
                _translated(response.aiter_stream(), settings.endpoint_url),
            )
            if answer.status == 403:
                answer = await self._check_refusal(answer)
            yield answer

    async def create_bucket(self, bucket: str) -> None:
        """Make it, or take over the one that is there. Raises CallerError when it is another's."""
        async with self.send("PUT", f"/{bucket}") as answer:
            if answer.status < 300:
                return
            found = await answer.read()
        code = read_code(found)
        if code == "BucketAlreadyOwnedByYou":
            return
        if code == "BucketAlreadyExists":
            async with self.send("HEAD", f"/{bucket}") as answer:
                if answer.status == 200:
                    return
            text = "The store behind this node has such a bucket, and it is another's."
            raise CallerError("BucketAlreadyExists", text, status=409)
        raise PlatformError(f"The store behind this bucket answered {answer.status} {code} when it was to be made.")

    async def delete_bucket(self, bucket: str) -> None:
        """One that is gone is no error. Raises CallerError `BucketNotEmpty`."""
        async with self.send("DELETE", f"/{bucket}") as answer:
            found = await answer.read()
        if answer.status >= 300 and answer.status != 404:
            code = read_code(found)
            if code == "BucketNotEmpty":
                raise CallerError(
                    "BucketNotEmpty",
                    "The bucket you tried to delete is not empty",
                    status=409,
                    members={"BucketName": bucket},
                )
            raise PlatformError(
                f"The store behind this bucket answered {answer.status} {code} when it was to be removed."
            )

    async def _check_refusal(self, answer: Answer) -> Answer:
        found = await answer.read()
        code = read_code(found)
        # HEAD has no body that would tell.
        if code in _NOT_OURS or not found:
            raise PlatformError(
                f"The store behind this bucket ({self._settings.endpoint_url}) refuses the node's credentials "
                f"({code or answer.status}); correct [storage.s3] in lambent.toml."
            )
        return answer._replace(body=_once(found))


class _Sending:
    """What is sent, and what went wrong on our side of it: the connection's error does not tell."""

    def __init__(self, content: bytes | AsyncIterable[bytes]) -> None:
        self._content = content
        self.failure: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if isinstance(self._content, bytes):
            yield self._content
            return
        try:
            async for data in self._content:
                yield data
        except Exception as exc:
            self.failure = exc
            raise


def quote_key(key: str) -> str:
    return quote(key, safe="/-_.~")


def read_code(document: bytes) -> str:
    """The code of an error document; empty for anything else."""
    try:
        root = ElementTree.fromstring(document)  # noqa: S314 - of the operator's own store, and expat expands nothing here
    except ElementTree.ParseError:
        return ""
    return next((child.text or "" for child in root if child.tag.rpartition("}")[2] == "Code"), "")


async def _translated(body: AsyncIterable[bytes], url: str) -> AsyncIterator[bytes]:
    import httpcore2  # noqa: PLC0415 - as above

    try:
        async for data in body:
            yield data
    except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError) as exc:
        raise Unreachable(url, str(exc) or type(exc).__name__, sent=True) from exc


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data

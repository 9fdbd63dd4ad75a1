# Buckets whose objects lie in another store: the front checks who asks and tells what happened, the store keeps bytes.
#
# Rule 1: whose a bucket is, whom it notifies and its tags stand in our tables; of its objects nothing does.
# Rule 2: a body is passed on as it comes, but its last piece only when all of it has been checked: one that is not
#         what was signed never becomes an object.
# Rule 3: what is to be told is written down before the store is asked (an intent), and becomes an event when the store
#         has done it. What is left over after a kill, or when the answer was lost, is settled by looking at the store;
#         so a change is told at least once.
from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from lambent.awsapi.context import RequestContext
from lambent.awsapi.http import Headers, HttpRequest, HttpResponse
from lambent.events.storage import refusals, store
from lambent.events.storage.body import Body
from lambent.events.storage.bulk_store import Answer, BulkStore, Unreachable, quote_key
from lambent.events.storage.calls import Call
from lambent.events.storage.model import Bucket, Intent, StoredObject
from lambent.events.storage.notifications import Change, announce
from lambent.events.storage.objects import parse_source
from lambent.model.errors import CallerError, PlatformError
from lambent.model.identifiers import new_hex, new_request_id
from lambent.substrate.ports import Connection, Tables

log = logging.getLogger(__name__)

FORWARDED = frozenset(
    {
        "PutObject", "GetObject", "HeadObject", "DeleteObject", "DeleteObjects", "CopyObject", "GetObjectAttributes",
        "GetObjectTagging", "PutObjectTagging", "DeleteObjectTagging", "ListObjects", "ListObjectsV2",
        "CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload", "AbortMultipartUpload",
        "ListParts", "ListMultipartUploads",
    }
)  # fmt: skip
_CREATED = {
    "PutObject": "ObjectCreated:Put",
    "CopyObject": "ObjectCreated:Copy",
    "CompleteMultipartUpload": "ObjectCreated:CompleteMultipartUpload",
}
_REMOVED = "ObjectRemoved:Delete"
_STREAMED = frozenset({"GetObject"})
_OF_SIGNATURES = frozenset(
    {
        "authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "x-amz-decoded-content-length",
        "x-amz-trailer", "x-amz-expected-bucket-owner", "x-amz-sdk-checksum-algorithm",
    }
)  # fmt: skip
_PASSED_ON = (
    "x-amz-", "if-", "content-type", "content-md5", "content-encoding", "content-language", "content-disposition",
    "cache-control", "expires", "range",
)  # fmt: skip
_OF_THE_CONNECTION = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"server", b"date", b"x-amz-request-id", b"x-amz-id-2"}
)
_OF_PRESIGNING = frozenset(
    {
        "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signedheaders", "x-amz-signature",
        "x-amz-security-token", "x-id", "awsaccesskeyid", "signature", "expires",
    }
)  # fmt: skip
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0

Ring = Callable[[str], None]
Also = Callable[[Connection], None]


class Own(NamedTuple):
    """A change by the node's own services. `also` is written when the store has it."""

    call: Call
    bucket: Bucket
    key: str
    also: Also


class _Asked(NamedTuple):
    """A request, as far as it is to be told of."""

    operation: str
    call: Call
    bucket: Bucket
    intents: Sequence[Intent]


class Reply(NamedTuple):
    """`stream` None: the response is whole."""

    response: HttpResponse
    stream: AsyncGenerator[bytes, None] | None = None


class StorageFront:
    """Started, it settles what was left over."""

    def __init__(self, tables: Tables, bulk: BulkStore, ring: Ring, *, now: Callable[[], float] = time.time) -> None:
        """`ring` is told the lanes of the outbox in which something new is."""
        self._tables = tables
        self._bulk = bulk
        self._ring = ring
        self._now = now
        self._unsettled = asyncio.Event()
        self._settling: asyncio.Task[None] | None = None
        self._busy: set[str] = set()
        """Intents of requests that are under way."""

    def start(self) -> None:
        self._unsettled.set()
        self._settling = asyncio.create_task(self._settle(), name="settle changes in the store")

    async def stop(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._settling
        await self._bulk.close()

    async def find(self, account: str, name: str) -> Bucket | None:
        """The bucket, where its objects lie in the store. Raises CallerError for one that is not the account's."""
        bucket = await self._tables.read(lambda connection: store.find_bucket(connection, account, name))
        return bucket if bucket.bulk else None

    @contextlib.asynccontextmanager
    async def forward(
        self, operation: str, call: Call, bucket: Bucket, parameters: Mapping[str, Any], request: HttpRequest
    ) -> AsyncIterator[Reply]:
        """The store's answer; inside the block its stream may be read. Raises CallerError, PlatformError."""
        headers = _choose_headers(request)
        if "CopySource" in parameters:
            source, _ = parse_source(parameters["CopySource"])
            if await self.find(call.context.account, source) is None:
                raise refusals.not_implemented("Copying from a bucket of this node into one of the store behind it")
        content, length = self._content(call, request)
        async with contextlib.AsyncExitStack() as stack:
            intents = await self._intend(operation, call, bucket, parameters)
            answer = None
            try:
                answer = await stack.enter_async_context(
                    self._bulk.send(
                        request.method,
                        request.raw_path.decode("latin-1"),
                        query=_choose_query(request.query_string),
                        headers=headers,
                        content=content,
                        length=length,
                    )
                )
                if operation in _STREAMED and answer.status < 300:
                    yield Reply(_respond(answer, b"", keeps_length=True), _pass_on(answer))
                    return
                document = await answer.read()
                if intents:
                    await self._conclude(_Asked(operation, call, bucket, intents), answer, document)
            except BaseException as exc:
                # A body that failed has not sent its last piece. Of everything else nobody knows what the store did.
                before = isinstance(exc, CallerError) or (isinstance(exc, Unreachable) and not exc.sent)
                await self._doubt(intents, nothing_happened=answer is None and before)
                raise
            is_head = request.method == "HEAD"
            yield Reply(_respond(answer, document, keeps_length=is_head))

    # For the node's own services.

    async def put(self, change: Own, data: AsyncIterator[bytes], size: int) -> None:
        """Raises CallerError, PlatformError, and what `data` raises."""
        call, bucket, key, also = change
        path = f"/{bucket.name}/{quote_key(key)}"
        async with self._bulk.send("PUT", path, content=data, length=size) as answer:
            _check(answer, await answer.read())
            etag = answer.header(b"etag").strip('"')
        stored = StoredObject(size=size, etag=etag, modified_at=self._now(), pieces=())
        await self._tell(call, [Change(_CREATED["PutObject"], bucket, key, stored, self._now())], [], also)

    async def delete(self, change: Own) -> None:
        """Raises CallerError, PlatformError."""
        call, bucket, key, also = change
        async with self._bulk.send("DELETE", f"/{bucket.name}/{quote_key(key)}") as answer:
            _check(answer, await answer.read())
        await self._tell(call, [Change(_REMOVED, bucket, key, None, self._now())], [], also)

    async def read(self, bucket: Bucket, key: str, limit_bytes: int) -> bytes:
        async with self._bulk.send("GET", f"/{bucket.name}/{quote_key(key)}") as answer:
            if answer.status == 404:
                raise refusals.no_key(key)
            if answer.status >= 300:
                _check(answer, await answer.read())
            found = bytearray()
            async for data in answer.body:
                found += data
                if len(found) >= limit_bytes:
                    break
            return bytes(found[:limit_bytes])

    # What is told.

    async def _intend(self, operation: str, call: Call, bucket: Bucket, parameters: Mapping[str, Any]) -> list[Intent]:
        if not bucket.rules and not bucket.to_bus:
            return []
        if operation in _CREATED:
            keys, name = [parameters["Key"]], _CREATED[operation]
        elif operation == "DeleteObject":
            keys, name = [parameters["Key"]], _REMOVED
        elif operation == "DeleteObjects":
            keys, name = [entry["Key"] for entry in parameters["Delete"]["Objects"]], _REMOVED
        else:
            return []
        now = self._now()
        intents = [
            Intent(id=new_hex(), bucket=bucket.name, account=bucket.account, key=key, name=name, at=now) for key in keys
        ]
        self._busy |= {intent.id for intent in intents}
        await self._tables.write(lambda connection: store.put_intents(connection, intents))
        return intents

    async def _conclude(self, asked: _Asked, answer: Answer, document: bytes) -> None:
        operation, call, bucket, intents = asked
        root = _parse(document)
        # Completing and copying may begin with 200 and fail in what follows.
        if answer.status >= 300 or (root is not None and _tag(root) == "Error"):
            # A store that failed may have done it all the same.
            await self._doubt(intents, nothing_happened=answer.status < 500)
            return
        changes = []
        failed = _failed_keys(root) if operation == "DeleteObjects" else set()
        for intent in intents:
            if intent.name == _REMOVED:
                if intent.key not in failed:
                    changes.append(Change(_REMOVED, bucket, intent.key, None, self._now()))
                continue
            stored = await self._look(bucket, intent.key)
            if stored is not None:
                changes.append(Change(intent.name, bucket, intent.key, stored, self._now()))
        await self._tell(call, changes, intents)

    async def _tell(
        self,
        call: Call,
        changes: Sequence[Change],
        intents: Sequence[Intent],
        also: Also = lambda _connection: None,
    ) -> None:
        def work(connection: Connection) -> list[str]:
            also(connection)
            store.drop_intents(connection, [intent.id for intent in intents])
            return [lane for change in changes for lane in announce(connection, call, change)]

        for lane in await self._tables.write(work):
            self._ring(lane)
        self._busy -= {intent.id for intent in intents}

    async def _doubt(self, intents: Sequence[Intent], *, nothing_happened: bool) -> None:
        """What the store did is looked at later, unless it is known that it did nothing."""
        ids = {intent.id for intent in intents}
        self._busy -= ids
        if ids and nothing_happened:
            await self._tables.write(lambda connection: store.drop_intents(connection, ids))
        elif ids:
            self._unsettled.set()

    async def _look(self, bucket: Bucket, key: str) -> StoredObject | None:
        """What is there now; None when nothing is."""
        async with self._bulk.send("HEAD", f"/{bucket.name}/{quote_key(key)}") as answer:
            if answer.status == 404:
                return None
            _check(answer, b"")
            size = answer.header(b"content-length") or "0"
            etag = answer.header(b"etag").strip('"')
            return StoredObject(size=int(size), etag=etag, modified_at=self._now(), pieces=())

    async def _settle(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            await self._unsettled.wait()
            self._unsettled.clear()
            if await self._settle_all():
                pause_s = FIRST_PAUSE_S
            else:
                asyncio.get_running_loop().call_later(pause_s, self._unsettled.set)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _settle_all(self) -> bool:
        """Whether none is left that could not be settled; one does not hold up the others."""
        try:
            intents = await self._tables.read(store.list_intents)
        except PlatformError as exc:
            log.error("changes in the store are not settled", extra={"action": "settle_failed", "reason": str(exc)})
            return False
        settled = True
        for intent in intents:
            if intent.id in self._busy:
                continue
            try:
                await self._settle_one(intent)
            except (CallerError, PlatformError) as exc:
                settled = False
                said = {"action": "settle_failed", "bucket": intent.bucket, "key": intent.key, "reason": str(exc)}
                log.error("a change in the store is not settled", extra=said)
                if isinstance(exc, Unreachable):
                    break
        return settled

    async def _settle_one(self, intent: Intent) -> None:
        """Tells what is so now: that the change was this one cannot be known."""
        call = Call(RequestContext(account=intent.account, region="", access_key="", request_id=new_request_id()))
        changes = []
        try:
            bucket = await self.find(intent.account, intent.bucket)
        except CallerError:
            bucket = None
        if bucket is not None:
            stored = await self._look(bucket, intent.key)
            if (stored is None) == (intent.name == _REMOVED):
                changes.append(Change(intent.name, bucket, intent.key, stored, self._now()))
        await self._tell(call, changes, [intent])

    @staticmethod
    def _content(call: Call, request: HttpRequest) -> tuple[bytes | AsyncIterator[bytes], int | None]:
        if call.body is None:
            return request.body, None
        if call.body.length is None:
            raise CallerError("MissingContentLength", "You must provide the Content-Length HTTP header.", status=411)
        return _checked(call.body), call.body.length


async def _checked(body: Body) -> AsyncIterator[bytes]:
    md5 = hashlib.md5(usedforsecurity=False)
    checks = [md5, *body.checks]
    held = b""
    async for data in body:
        for check in checks:
            await asyncio.to_thread(check.update, data) if len(data) > _LARGE else check.update(data)
        if held:
            yield held
        held = data
    body.verify(md5.digest())
    if held:
        yield held


_LARGE = 65_536
"""What takes long enough to be digested on a thread."""


def _choose_headers(request: HttpRequest) -> dict[str, str]:
    found = {}
    for raw_name, raw_value in request.headers:
        name = raw_name.decode("latin-1").lower()
        if name in _OF_SIGNATURES or not name.startswith(_PASSED_ON):
            continue
        value = raw_value.decode("latin-1")
        if name == "content-encoding":
            value = ",".join(part.strip() for part in value.split(",") if part.strip() != "aws-chunked")
            if not value:
                continue
        found[name] = value
    return found


def _choose_query(query: bytes) -> str:
    parts = query.decode("latin-1").split("&")
    return "&".join(
        part for part in parts if part and unquote_plus(part.partition("=")[0]).lower() not in _OF_PRESIGNING
    )


def _respond(answer: Answer, body: bytes, *, keeps_length: bool) -> HttpResponse:
    dropped = _OF_THE_CONNECTION if keeps_length else _OF_THE_CONNECTION | {b"content-length"}
    headers: Headers = [(name, value) for name, value in answer.headers if name not in dropped]
    return HttpResponse(status=answer.status, headers=headers, body=body)


async def _pass_on(answer: Answer) -> AsyncGenerator[bytes, None]:
    async for data in answer.body:
        yield data


def _check(answer: Answer, document: bytes) -> None:
    """Raises CallerError for what the store refuses, PlatformError for what it cannot."""
    if answer.status < 300:
        return
    root = _parse(document)
    texts = {_tag(child): child.text or "" for child in root} if root is not None else {}
    code, message = texts.get("Code", "InternalError"), texts.get("Message", "")
    if answer.status >= 500:
        raise PlatformError(f"The store behind this bucket answered {answer.status} {code}.", retry_safe=True)
    raise CallerError(code, message or f"The store behind this bucket answered {answer.status}.", status=answer.status)


def _parse(document: bytes) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(document)  # noqa: S314 - of the operator's own store, and expat expands nothing here
    except ElementTree.ParseError:
        return None


def _failed_keys(root: ElementTree.Element | None) -> set[str]:
    errors = [child for child in root if _tag(child) == "Error"] if root is not None else []
    return {child.text or "" for error in errors for child in error if _tag(child) == "Key"}


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]

"""What is told of buckets that lie in another store, whatever becomes of the node, the store or the way between."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.unit.events.storage.test_storage import ADAPTERS, ME, OTHER, QUEUE, body_of

from lambent.awsapi.context import RequestContext
from lambent.awsapi.http import HttpRequest
from lambent.events.deliveries import Deliveries, Delivery
from lambent.events.storage import front as fronts
from lambent.events.storage import store
from lambent.events.storage.body import Body
from lambent.events.storage.bulk_store import Answer, BulkStore, StoreSettings, Unreachable
from lambent.events.storage.calls import Call
from lambent.events.storage.model import Intent
from lambent.events.storage.storage import StorageService
from lambent.model.errors import CallerError, PlatformError
from lambent.substrate.ports import Tables

URL = "http://store"


class FakeBulk(BulkStore):
    """Keeps objects in memory; `fail` may replace an answer, before or after the request was carried out."""

    def __init__(self) -> None:
        super().__init__(StoreSettings(URL, "key", "secret", "us-east-1", ["bulk-*"]))
        self.objects: dict[str, bytes] = {}
        self.before: Callable[[str, str], None] = lambda _method, _path: None
        self.after: Callable[[str, str], tuple[int, bytes] | None] = lambda _method, _path: None
        self.asked: list[tuple[str, str, Mapping[str, str]]] = []

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
        self.before(method, path)
        self.asked.append((method, path, headers or {}))
        data = content if isinstance(content, bytes) else b"".join([piece async for piece in content])
        status, found = self._carry_out(method, path, data)
        replaced = self.after(method, path)
        if replaced is not None:
            status, found = replaced
        size = len(self.objects.get(path, b"")) if method == "HEAD" else len(found)
        known = [(b"etag", b'"tag"'), (b"content-length", b"%d" % size)]
        yield Answer(status, known, _once(b"" if method == "HEAD" else found))

    def _carry_out(self, method: str, path: str, data: bytes) -> tuple[int, bytes]:
        if path.count("/") == 1:
            return 200, b""
        if method == "PUT":
            self.objects[path] = data
            return 200, b""
        if method == "DELETE":
            self.objects.pop(path, None)
            return 204, b""
        if method == "POST":
            return 200, b"<CompleteMultipartUploadResult><ETag>tag</ETag></CompleteMultipartUploadResult>"
        found = self.objects.get(path)
        return (404, b"") if found is None else (200, found)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


class World:
    def __init__(self, tables: Tables, root: Path) -> None:
        self.tables = tables
        self.bulk = FakeBulk()
        self.told: list[tuple[str, str, int | None]] = []
        deliveries = Deliveries()

        async def deliver(delivery: Delivery) -> None:
            for record in json.loads(delivery.body).get("Records", []):
                shown = record["s3"]["object"]
                self.told.append((record["eventName"], shown["key"], shown.get("size")))

        async def exists(_account: str, _arn: str) -> bool:
            return True

        deliveries.serve("sqs", deliver, exists)
        self.storage = StorageService(tables, deliveries, root, bulk=self.bulk)

    async def ask(self, operation: str, *, account: str = ME, **parameters: Any) -> Any:
        context = RequestContext(account=account, region="us-east-1", access_key="k", request_id="r")
        return (await self.storage.operations[operation](Call(context), parameters)).values

    async def prepare(self) -> None:
        await self.ask("CreateBucket", Bucket="bulk-own")
        events = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
        rules = {"QueueConfigurations": [{"QueueArn": QUEUE, "Events": events}]}
        await self.ask(
            "PutBucketNotificationConfiguration",
            Bucket="bulk-own",
            NotificationConfiguration=rules,
            SkipDestinationValidation=True,
        )

    async def forward(
        self, operation: str, method: str, *, body: Body | None = None, document: bytes = b"", **parameters: Any
    ) -> int:
        assert self.storage.front is not None
        bucket = await self.storage.front.find(ME, "bulk-own")
        assert bucket is not None
        key = parameters.get("Key", "")
        request = HttpRequest(method=method, raw_path=f"/bulk-own/{key}".encode(), headers=[], body=document)
        context = RequestContext(account=ME, region="us-east-1", access_key="k", request_id="r")
        call = Call(context, body)
        async with self.storage.front.forward(operation, call, bucket, parameters, request) as reply:
            return reply.response.status

    async def put(self, key: str, data: bytes = b"12345") -> int:
        body = body_of([data], {"content-length": str(len(data))})
        return await self.forward("PutObject", "PUT", body=body, Key=key)

    async def wait_told(self, *expected: tuple[str, str, int | None]) -> None:
        async with asyncio.timeout(20):
            while len(self.told) < len(expected):
                await asyncio.sleep(0.01)
        assert sorted(self.told) == sorted(expected)

    async def intents(self) -> list[Intent]:
        return await self.tables.read(store.list_intents)

    async def settled(self) -> None:
        async with asyncio.timeout(20):
            while await self.intents():
                await asyncio.sleep(0.01)

    async def leave(self, key: str, name: str) -> None:
        """What a node leaves that is killed while the store does what it was asked for."""
        intent = Intent(id=key + name, account=ME, bucket="bulk-own", key=key, name=name, at=1.0)
        await self.tables.write(lambda connection: store.put_intents(connection, [intent]))


@pytest.fixture(params=ADAPTERS)
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    monkeypatch.setattr(fronts, "FIRST_PAUSE_S", 0.05)
    tables = ADAPTERS[request.param](tmp_path)
    world = World(tables, tmp_path / "storage")
    await world.prepare()
    yield world
    await world.storage.stop()
    await tables.close()


async def test_what_the_store_has_done_is_told_and_no_intent_is_left(world: World) -> None:
    await world.storage.start()
    assert await world.put("a") == 200
    assert await world.forward("DeleteObject", "DELETE", Key="a") == 204
    await world.wait_told(("ObjectCreated:Put", "a", 5), ("ObjectRemoved:Delete", "a", None))
    assert await world.intents() == []


async def test_an_intent_stands_before_the_store_is_asked(world: World) -> None:
    await world.storage.start()
    seen: list[list[Intent]] = []

    async def look() -> None:
        seen.append(await world.intents())

    async def pieces() -> AsyncIterator[bytes]:
        await look()
        yield b"12345"

    body = body_of([b""], {"content-length": "5"})
    body._decoded = pieces  # type: ignore[method-assign]
    await world.forward("PutObject", "PUT", body=body, Key="a")
    assert [(intent.key, intent.name) for intent in seen[0]] == [("a", "ObjectCreated:Put")]


async def test_what_was_under_way_when_the_node_was_killed_is_settled_by_what_is_there(world: World) -> None:
    world.bulk.objects["/bulk-own/done"] = b"123"
    world.bulk.objects["/bulk-own/kept"] = b"1"
    await world.leave("done", "ObjectCreated:Put")
    await world.leave("never", "ObjectCreated:Put")
    await world.leave("kept", "ObjectRemoved:Delete")
    await world.leave("gone", "ObjectRemoved:Delete")
    await world.storage.start()
    await world.wait_told(("ObjectCreated:Put", "done", 3), ("ObjectRemoved:Delete", "gone", None))
    await world.settled()


async def test_an_answer_that_was_lost_is_settled_when_the_store_is_back(world: World) -> None:
    await world.storage.start()

    def hang_up(method: str, _path: str) -> tuple[int, bytes] | None:
        if method in ("PUT", "HEAD"):
            raise Unreachable(URL, "hung up", sent=True)
        return None

    world.bulk.after = hang_up
    with pytest.raises(Unreachable):
        await world.put("a")
    assert world.told == []
    assert len(await world.intents()) == 1
    world.bulk.after = lambda _method, _path: None
    await world.wait_told(("ObjectCreated:Put", "a", 5))
    await world.settled()


@pytest.mark.parametrize("how", ["refuses", "fails", "cancels"])
async def test_what_was_done_is_told_although_it_could_not_be_looked_at(world: World, how: str) -> None:
    await world.storage.start()
    looks = 0

    def disturb(method: str, _path: str) -> None:
        nonlocal looks
        if method != "HEAD" or looks:
            return
        looks += 1
        if how == "refuses":
            raise Unreachable(URL, "nobody there", sent=False)
        if how == "fails":
            raise PlatformError("503", retry_safe=True)
        raise asyncio.CancelledError

    world.bulk.before = disturb
    with pytest.raises((PlatformError, asyncio.CancelledError)):
        await world.put("a")
    await world.wait_told(("ObjectCreated:Put", "a", 5))
    await world.settled()


async def test_one_change_that_cannot_be_settled_does_not_hold_up_the_others(world: World) -> None:
    for key in ("odd", "even"):
        world.bulk.objects[f"/bulk-own/{key}"] = b"1"
        await world.leave(key, "ObjectCreated:Put")
    odd = True
    world.bulk.after = lambda _method, path: (400, b"") if odd and path.endswith("/odd") else None
    await world.storage.start()
    await world.wait_told(("ObjectCreated:Put", "even", 1))
    odd = False
    await world.wait_told(("ObjectCreated:Put", "even", 1), ("ObjectCreated:Put", "odd", 1))
    await world.settled()


async def test_a_store_that_could_not_be_asked_leaves_nothing_to_settle(world: World) -> None:
    await world.storage.start()

    def refuse(_method: str, _path: str) -> None:
        raise Unreachable(URL, "nobody there", sent=False)

    world.bulk.before = refuse
    with pytest.raises(Unreachable, match="http://store"):
        await world.put("a")
    assert await world.intents() == []


async def test_what_the_store_refuses_is_not_told(world: World) -> None:
    await world.storage.start()
    refusal = (412, b"<Error><Code>PreconditionFailed</Code></Error>")
    world.bulk.after = lambda method, _path: refusal if method == "PUT" else None
    assert await world.put("a") == 412
    assert await world.intents() == []
    assert world.told == []


async def test_what_a_store_did_that_says_it_failed_is_told(world: World) -> None:
    await world.storage.start()
    world.bulk.after = lambda method, _path: (500, b"") if method == "PUT" else None
    assert await world.put("a") == 500
    await world.wait_told(("ObjectCreated:Put", "a", 5))
    await world.settled()


async def test_a_completion_that_fails_after_its_200_is_not_told(world: World) -> None:
    await world.storage.start()
    failed = b'<?xml version="1.0"?>\n<Error><Code>InternalError</Code></Error>'
    world.bulk.after = lambda method, _path: (200, failed) if method == "POST" else None
    await world.forward("CompleteMultipartUpload", "POST", Key="a", UploadId="u")
    assert await world.intents() == []
    world.bulk.after = lambda _method, _path: None
    world.bulk.objects["/bulk-own/a"] = b"1234567"
    await world.forward("CompleteMultipartUpload", "POST", Key="a", UploadId="u")
    await world.wait_told(("ObjectCreated:CompleteMultipartUpload", "a", 7))


async def test_of_many_that_are_removed_those_that_failed_are_not_told(world: World) -> None:
    await world.storage.start()
    partly = b'<DeleteResult xmlns="x"><Error><Key>b</Key><Code>AccessDenied</Code></Error></DeleteResult>'
    world.bulk.after = lambda method, _path: (200, partly) if method == "POST" else None
    await world.forward("DeleteObjects", "POST", Delete={"Objects": [{"Key": "a"}, {"Key": "b"}]})
    await world.wait_told(("ObjectRemoved:Delete", "a", None))
    assert await world.intents() == []


async def test_the_last_piece_of_a_body_is_held_back_until_all_of_it_is_checked(world: World) -> None:
    await world.storage.start()
    body = body_of([b"first", b"last"], {"content-length": "9", "content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="})
    sent: list[bytes] = []
    with pytest.raises(CallerError) as caught:
        async for piece in fronts._checked(body):
            sent += [piece]
    assert caught.value.code == "BadDigest"
    assert sent == [b"first"]


async def test_another_accounts_bucket_is_not_reached(world: World) -> None:
    assert world.storage.front is not None
    with pytest.raises(CallerError) as caught:
        await world.storage.front.find(OTHER, "bulk-own")
    assert caught.value.code == "AccessDenied"
    with pytest.raises(CallerError) as caught:
        await world.ask("CreateBucket", account=OTHER, Bucket="bulk-own")
    assert caught.value.code == "BucketAlreadyExists"
    assert [path for _, path, _ in world.bulk.asked] == ["/bulk-own"]


async def test_the_callers_signature_and_token_do_not_reach_the_store(world: World) -> None:
    await world.storage.start()
    headers = [
        (b"authorization", b"AWS4-HMAC-SHA256 secret"),
        (b"x-amz-security-token", b"secret"),
        (b"x-amz-date", b"20260101T000000Z"),
        (b"cookie", b"secret"),
        (b"content-encoding", b"aws-chunked,gzip"),
        (b"x-amz-meta-who", b"me"),
    ]
    request = HttpRequest(method="PUT", raw_path=b"/bulk-own/a", headers=headers)
    assert fronts._choose_headers(request) == {"content-encoding": "gzip", "x-amz-meta-who": "me"}
    query = b"X-Amz-Signature=secret&partNumber=1&X-Amz-Security-Token=secret&uploadId=u&x-id=UploadPart"
    assert fronts._choose_query(query) == "partNumber=1&uploadId=u"


async def test_the_nodes_own_services_use_the_store_too(world: World) -> None:
    await world.storage.start()
    await world.storage.put_object(ME, "bulk-own", "mail/1", b"raw")
    assert world.bulk.objects == {"/bulk-own/mail/1": b"raw"}
    assert await world.storage.read_object(ME, "bulk-own", "mail/1", 2) == b"ra"
    await world.storage.delete_object(ME, "bulk-own", "mail/1")
    await world.wait_told(("ObjectCreated:Put", "mail/1", 3), ("ObjectRemoved:Delete", "mail/1", None))
    with pytest.raises(CallerError) as caught:
        await world.storage.read_object(ME, "bulk-own", "mail/1", 2)
    assert caught.value.code == "NoSuchKey"

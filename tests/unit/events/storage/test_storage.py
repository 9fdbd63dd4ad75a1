"""Buckets and objects on both kinds of tables, without HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from lambent.awsapi.context import RequestContext
from lambent.awsapi.http import HttpRequest
from lambent.events import outbox
from lambent.events.deliveries import Deliveries, Delivery
from lambent.events.storage import store
from lambent.events.storage.body import Body
from lambent.events.storage.calls import Call
from lambent.events.storage.edge import may_ask
from lambent.events.storage.storage import StorageService
from lambent.model.errors import CallerError
from lambent.substrate.memory.tables import MemoryTables
from lambent.substrate.ports import Tables
from lambent.substrate.sqlite.tables import open_tables

SCHEMAS = (outbox.SCHEMA, store.SCHEMA)
ADAPTERS: dict[str, Callable[[Path], Tables]] = {
    "memory": lambda _folder: MemoryTables(SCHEMAS),
    "sqlite": lambda folder: open_tables(folder / "events.db", SCHEMAS),
}
ME, OTHER = "111111111111", "222222222222"
QUEUE = f"arn:aws:sqs:us-east-1:{ME}:q"


class World:
    def __init__(self, tables: Tables, root: Path) -> None:
        self.tables = tables
        self.root = root
        self.got: list[Delivery] = []
        deliveries = Deliveries()

        async def deliver(delivery: Delivery) -> None:
            self.got.append(delivery)

        async def exists(_account: str, arn: str) -> bool:
            return arn.endswith((":q", ":default"))

        deliveries.serve("sqs", deliver, exists)
        deliveries.serve("events", deliver, exists)
        self.storage = StorageService(tables, deliveries, root, now=lambda: 1_000_000.0)

    async def ask(self, operation: str, *, account: str = ME, body: Body | None = None, **parameters: Any) -> Any:
        context = RequestContext(account=account, region="us-east-1", access_key="k", request_id="r")
        return (await self.storage.operations[operation](Call(context, body), parameters)).values

    async def put(self, key: str, data: bytes, bucket: str = "own", account: str = ME, **parameters: Any) -> Any:
        return await self.ask("PutObject", account=account, body=body_of([data]), Bucket=bucket, Key=key, **parameters)

    async def read(self, key: str) -> bytes:
        return await self.storage.read_object(ME, "own", key, 1_000_000)

    def files(self) -> list[Path]:
        return [file for folder in self.root.iterdir() for file in folder.iterdir()]


def body_of(pieces: list[bytes], headers: dict[str, str] | None = None, *, breaks: bool = False) -> Body:
    request = HttpRequest(
        method="PUT",
        raw_path=b"/own/k",
        headers=[(name.encode(), value.encode()) for name, value in (headers or {}).items()],
    )
    messages: list[MutableMapping[str, Any]] = []
    for at, piece in enumerate(pieces):
        messages.append({"type": "http.request", "body": piece, "more_body": breaks or at < len(pieces) - 1})
    messages.append({"type": "http.disconnect"})

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0)

    return Body(request, receive, None)


@pytest.fixture(params=ADAPTERS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    made = World(ADAPTERS[request.param](tmp_path), tmp_path / "storage")
    await made.storage.start()
    await made.ask("CreateBucket", Bucket="own")
    yield made
    await made.storage.stop()
    await made.tables.close()


async def refused(coroutine: Any) -> str:
    with pytest.raises(CallerError) as caught:
        await coroutine
    return caught.value.code


async def test_equal_bytes_are_one_file_which_goes_with_the_last_object_that_uses_it(world: World) -> None:
    await world.put("one", b"same")
    await world.put("two", b"same")
    await world.ask("CopyObject", Bucket="own", Key="three", CopySource="own/one")
    assert len(world.files()) == 1
    await world.ask("DeleteObject", Bucket="own", Key="one")
    await world.put("two", b"other")
    assert (await world.read("three"), len(world.files())) == (b"same", 2)
    await world.ask("DeleteObjects", Bucket="own", Delete={"Objects": [{"Key": "two"}, {"Key": "three"}]})
    assert world.files() == []


async def test_writers_and_deleters_of_the_same_bytes_at_once_lose_none(world: World) -> None:
    async def churn(name: str) -> None:
        for _ in range(10):
            await world.put(name, b"same bytes")
            await world.ask("DeleteObject", Bucket="own", Key=name)
        await world.put(name, b"same bytes")

    await asyncio.gather(*(churn(str(number)) for number in range(6)))
    assert [await world.read(str(number)) for number in range(6)] == [b"same bytes"] * 6
    await asyncio.gather(*(world.ask("DeleteObject", Bucket="own", Key=str(number)) for number in range(6)))
    assert world.files() == []


async def test_an_object_that_is_being_read_is_read_to_its_end_though_it_is_deleted(world: World) -> None:
    await world.put("k", b"x" * 3_000_000)
    stored = await world.tables.read(lambda connection: store.find_object(connection, "own", "k"))
    assert stored is not None
    async with world.storage.files.holding(stored.pieces) as whole:
        assert whole
        pieces = [piece async for piece in world.storage.files.read(stored.pieces, 0, 1_500_000)]
        await world.ask("DeleteObject", Bucket="own", Key="k")
        pieces += [piece async for piece in world.storage.files.read(stored.pieces, 1_500_000, 1_500_000)]
    assert (len(b"".join(pieces)), world.files()) == (3_000_000, [])


async def test_a_body_that_is_not_what_it_says_leaves_nothing(world: World) -> None:
    bodies = {
        "IncompleteBody": body_of([b"half"], breaks=True),
        "BadDigest": body_of([b"bytes"], {"content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="}),
        "XAmzContentSHA256Mismatch": body_of([b"bytes"], {"x-amz-content-sha256": "0" * 64}),
    }
    for code, body in bodies.items():
        assert await refused(world.ask("PutObject", body=body, Bucket="own", Key="k")) == code
    assert await refused(world.read("k")) == "NoSuchKey"
    assert world.files() == []


async def test_a_trailing_checksum_is_compared(world: World) -> None:
    headers = {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "5",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }

    def chunks(checksum: str) -> Body:
        return body_of([b"3\r\nhel\r\n2", f"\r\nlo\r\n0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n".encode()], headers)

    good = await world.ask("PutObject", body=chunks("NhCmhg=="), Bucket="own", Key="k")
    assert (good["ChecksumCRC32"], await world.read("k")) == ("NhCmhg==", b"hello")
    assert await refused(world.ask("PutObject", body=chunks("AAAAAA=="), Bucket="own", Key="k")) == "BadDigest"


async def test_an_account_sees_nothing_of_anothers_bucket(world: World) -> None:
    await world.put("k", b"mine")
    questions: dict[str, dict[str, Any]] = {
        "HeadBucket": {},
        "ListObjectsV2": {},
        "GetObject": {"Key": "k"},
        "DeleteObject": {"Key": "k"},
        "DeleteBucket": {},
        "CreateMultipartUpload": {"Key": "k"},
        "GetBucketNotificationConfiguration": {},
    }
    for operation, parameters in questions.items():
        assert await refused(world.ask(operation, account=OTHER, Bucket="own", **parameters)) == "AccessDenied"
    assert await refused(world.put("k", b"theirs", account=OTHER)) == "AccessDenied"
    assert await refused(world.ask("CreateBucket", account=OTHER, Bucket="own")) == "BucketAlreadyExists"
    await world.ask("CreateBucket", account=OTHER, Bucket="theirs")
    copy = world.ask("CopyObject", account=OTHER, Bucket="theirs", Key="k", CopySource="own/k")
    assert await refused(copy) == "AccessDenied"
    assert (await world.ask("ListBuckets", account=OTHER))["Buckets"][0]["Name"] == "theirs"


async def test_a_notification_is_sent_though_the_node_stopped_before_it(world: World) -> None:
    rule = {"QueueArn": QUEUE, "Events": ["s3:ObjectCreated:*"]}
    configuration = {"QueueConfigurations": [rule], "EventBridgeConfiguration": {}}
    await world.ask("PutBucketNotificationConfiguration", Bucket="own", NotificationConfiguration=configuration)
    world.got.clear()
    await world.storage.stop()
    await world.put("a b", b"x")
    assert world.got == []
    again = World(world.tables, world.root)
    await again.storage.start()
    while len(again.got) < 2:
        await asyncio.sleep(0)
    assert sorted(delivery.target.split(":")[2] for delivery in again.got) == ["events", "sqs"]
    assert b'"key":"a+b"' in next(delivery.body for delivery in again.got if delivery.target == QUEUE)
    await again.storage.stop()


async def test_rules_that_cannot_be_told_apart_are_refused(world: World) -> None:
    def rule(prefix: str, suffix: str, event: str) -> dict[str, Any]:
        rules = [{"Name": "prefix", "Value": prefix}, {"Name": "suffix", "Value": suffix}]
        return {"QueueArn": QUEUE, "Events": [event], "Filter": {"Key": {"FilterRules": rules}}}

    def configure(*rules: dict[str, Any]) -> Any:
        return world.ask(
            "PutBucketNotificationConfiguration",
            Bucket="own",
            NotificationConfiguration={"QueueConfigurations": list(rules)},
        )

    created = "s3:ObjectCreated:*"
    overlapping = configure(rule("in/", "", created), rule("in/a", ".x", "s3:ObjectCreated:Put"))
    assert await refused(overlapping) == "InvalidArgument"
    await configure(rule("in/", ".x", created), rule("in/", ".y", created), rule("in/", ".x", "s3:ObjectRemoved:*"))
    assert await refused(configure(rule("", "", "s3:ObjectTagging:*"))) == "NotImplemented"


async def test_a_function_may_ask_for_objects_and_not_for_buckets(world: World) -> None:
    denied = {name for name in world.storage.operations if not may_ask("arn:aws:sts::1:assumed-role/f", name)}
    assert {"CreateBucket", "DeleteBucket", "ListBuckets", "PutBucketNotificationConfiguration"} <= denied
    allowed = world.storage.operations.keys() - denied
    assert all("Object" in name or "Multipart" in name or "Part" in name for name in allowed - OF_BUCKETS)
    assert {"PutObject", "GetObject", "UploadPart", "ListObjectsV2", "CompleteMultipartUpload"} <= allowed
    assert all(may_ask("", name) for name in world.storage.operations)


OF_BUCKETS = {"HeadBucket", "GetBucketLocation"}

"""Names become targets, by what the control plane wrote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from lambent.dataplane.dispatch.directory import Directory
from lambent.model.errors import CallerError
from lambent.model.function import Alias, Function, Version
from lambent.substrate.memory.documents import MemoryDocuments
from lambent.substrate.ports import Write

ACCOUNT, REGION = "1" * 12, "us-east-1"


def put(collection: str, key: str, record: msgspec.Struct | None) -> Write:
    value = None if record is None else msgspec.json.encode(record)
    return Write(collection=collection, key=f"{ACCOUNT}/{key}", value=value)


def version(number: str, *, revision: str = "r") -> Version:
    return Version(
        account=ACCOUNT,
        region=REGION,
        name="f",
        version=number,
        runtime="python3.11",
        digest="d",
        code_size=1,
        last_modified="",
        revision_id=f"{revision}{number}",
    )


def function(**fields: object) -> Function:
    return Function(account=ACCOUNT, name="f", **fields)  # type: ignore[arg-type]


@pytest.fixture
async def documents() -> MemoryDocuments:
    documents = MemoryDocuments()
    await documents.commit(
        [
            put("functions", "f", function()),
            put("versions", "f/$LATEST", version("$LATEST")),
            put("versions", "f/1", version("1")),
            put("versions", "f/2", version("2")),
            put(
                "aliases",
                "f/live",
                Alias(account=ACCOUNT, function="f", name="live", version="1", weights={"2": 0.25}, revision_id="x"),
            ),
        ]
    )
    return documents


@pytest.fixture
async def directory(documents: MemoryDocuments) -> AsyncIterator[Directory]:
    directory = Directory(documents, choose=lambda: 0.9)
    await directory.start()
    yield directory
    await directory.stop()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def resolve(directory: Directory, qualifier: str = "", name: str = "f") -> str:
    return directory.resolve(ACCOUNT, REGION, name, qualifier).version.version


async def test_no_qualifier_means_latest(directory: Directory) -> None:
    target = directory.resolve(ACCOUNT, REGION, "f", "")
    assert (target.version.version, target.invoked_arn) == ("$LATEST", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f")


async def test_a_number_and_an_alias_are_part_of_the_arn(directory: Directory) -> None:
    assert directory.resolve(ACCOUNT, REGION, "f", "1").invoked_arn.endswith(":f:1")
    assert directory.resolve(ACCOUNT, REGION, "f", "live").invoked_arn.endswith(":f:live")


async def test_an_alias_divides_by_its_weights(documents: MemoryDocuments) -> None:
    shares = iter([number / 100 for number in range(100)])
    directory = Directory(documents, choose=lambda: next(shares))
    await directory.start()
    drawn = [resolve(directory, "live") for _ in range(100)]
    await directory.stop()
    assert (drawn.count("2"), drawn.count("1")) == (25, 75)


@pytest.mark.parametrize(("name", "qualifier"), [("g", ""), ("f", "3"), ("f", "gone")])
async def test_what_is_not_there_is_not_found(directory: Directory, name: str, qualifier: str) -> None:
    with pytest.raises(CallerError) as caught:
        resolve(directory, qualifier, name)
    assert (caught.value.code, caught.value.status) == ("ResourceNotFoundException", 404)


async def test_another_account_sees_nothing(directory: Directory) -> None:
    with pytest.raises(CallerError):
        directory.resolve("2" * 12, REGION, "f", "")


async def test_changes_are_followed_and_told(documents: MemoryDocuments, directory: Directory) -> None:
    told: list[tuple[str, str | None]] = []
    directory.on_version = lambda arn, revision: told.append((arn.rpartition(":")[2], revision))
    await documents.commit([put("versions", "f/$LATEST", version("$LATEST", revision="new"))])
    await documents.commit([put("versions", "f/1", None)])
    await settle()
    assert told == [("$LATEST", "new$LATEST"), ("1", None)]
    assert directory.resolve(ACCOUNT, REGION, "f", "").version.revision_id == "new$LATEST"


async def test_reserved_concurrency_and_tags_hold_at_once(documents: MemoryDocuments, directory: Directory) -> None:
    tags = {"lambent:network": "none", "lambent:max-wait-seconds": "5"}
    await documents.commit([put("functions", "f", function(reserved_concurrency=0, tags=tags))])
    await settle()
    target = directory.resolve(ACCOUNT, REGION, "f", "")
    assert (target.network, target.max_wait_ms, target.reserved_concurrency) == ("none", 5000, 0)
    with pytest.raises(CallerError):
        directory.admission(ACCOUNT).take("f")

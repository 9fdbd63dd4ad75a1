"""Names become targets, by what the control plane wrote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from lambent.dataplane.dispatch.directory import Directory
from lambent.model.errors import CallerError
from lambent.model.function import Alias, Function, Provisioned, Version
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


def provisioned(qualifier: str, executions: int) -> Write:
    record = Provisioned(account=ACCOUNT, function="f", qualifier=qualifier, executions=executions, last_modified="")
    return put("provisioned", f"f/{qualifier}", record)


@pytest.fixture
def told(directory: Directory) -> list[tuple[str, dict[str, int]]]:
    told: list[tuple[str, dict[str, int]]] = []
    directory.on_shares = lambda function, shares: told.append((function, {s.id: s.slots for s in shares}))
    return told


def share_of(directory: Directory, qualifier: str) -> str:
    return directory.resolve(ACCOUNT, REGION, "f", qualifier).provisioned


PREFIX = f"{ACCOUNT}/f/"


async def test_what_is_provisioned_for_an_alias_is_divided_as_it_divides_invocations(
    documents: MemoryDocuments, directory: Directory, told: list[tuple[str, dict[str, int]]]
) -> None:
    await documents.commit([provisioned("live", 4)])
    await settle()
    assert told == [(f"{ACCOUNT}/f", {f"{PREFIX}live@1": 3, f"{PREFIX}live@2": 1})]
    assert share_of(directory, "live") == f"{PREFIX}live@1"
    assert share_of(directory, "1") == ""
    assert share_of(directory, "") == ""


async def test_what_is_provisioned_for_a_version_serves_its_aliases_too(
    documents: MemoryDocuments, directory: Directory
) -> None:
    await documents.commit([provisioned("1", 2)])
    await settle()
    assert share_of(directory, "live") == share_of(directory, "1") == f"{PREFIX}1@1"


async def test_an_alias_that_moves_takes_its_slots_along(
    documents: MemoryDocuments, directory: Directory, told: list[tuple[str, dict[str, int]]]
) -> None:
    await documents.commit([provisioned("live", 2)])
    moved = Alias(account=ACCOUNT, function="f", name="live", version="2", revision_id="y")
    await documents.commit([put("aliases", "f/live", moved)])
    await settle()
    assert told[-1] == (f"{ACCOUNT}/f", {f"{PREFIX}live@2": 2})
    assert share_of(directory, "live") == f"{PREFIX}live@2"


async def test_slots_are_taken_from_the_account_as_long_as_they_are_provisioned(
    documents: MemoryDocuments, directory: Directory, told: list[tuple[str, dict[str, int]]]
) -> None:
    admission = directory.admission(ACCOUNT)
    admission.set_limit(2)
    await documents.commit([provisioned("1", 2)])
    await settle()
    with pytest.raises(CallerError):
        admission.take("g")
    await documents.commit([put("provisioned", "f/1", None)])
    await settle()
    admission.take("g")
    assert told[-1] == (f"{ACCOUNT}/f", {})
    assert share_of(directory, "1") == ""


async def test_a_deleted_function_has_nothing_provisioned_whatever_is_deleted_first(
    documents: MemoryDocuments, directory: Directory, told: list[tuple[str, dict[str, int]]]
) -> None:
    await documents.commit([provisioned("live", 2), provisioned("2", 1)])
    await settle()
    names = [("functions", "f"), ("versions", "f/$LATEST"), ("versions", "f/1"), ("versions", "f/2")]
    names += [("aliases", "f/live"), ("provisioned", "f/live"), ("provisioned", "f/2")]
    await documents.commit([put(collection, key, None) for collection, key in names])
    await settle()
    assert told[-1] == (f"{ACCOUNT}/f", {})
    admission = directory.admission(ACCOUNT)
    admission.set_limit(1)
    admission.take("g")

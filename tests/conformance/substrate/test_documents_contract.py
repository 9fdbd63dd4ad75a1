"""What every `Documents` adapter promises, whatever it stores in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from lambent.model.errors import PlatformError
from lambent.substrate.memory import MemoryDocuments
from lambent.substrate.ports import Change, Conflict, Document, Documents, Write
from lambent.substrate.sqlite import open_documents

ADAPTERS: dict[str, Callable[[Path], Documents]] = {
    "memory": lambda folder: MemoryDocuments(),
    "sqlite": lambda folder: open_documents(folder / "documents.sqlite"),
}


@pytest.fixture(params=ADAPTERS)
async def documents(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Documents]:
    store = ADAPTERS[request.param](tmp_path)
    yield store
    await store.close()


def put(key: str, value: bytes = b"", *, expect: int | None = None, collection: str = "fruit") -> Write:
    return Write(collection=collection, key=key, value=value, expect=expect)


def drop(key: str, *, expect: int | None = None) -> Write:
    return Write(collection="fruit", key=key, value=None, expect=expect)


async def keys(documents: Documents, **bounds: object) -> list[str]:
    return [document.key for document in await documents.list("fruit", **bounds)]  # type: ignore[arg-type]


async def take(changes: AsyncIterator[Change], count: int) -> list[Change]:
    async with asyncio.timeout(10):
        return [await anext(changes) for _ in range(count)]


async def test_what_was_committed_is_read_back(documents: Documents) -> None:
    await documents.commit([put("fig", b"\x00green\xff")])
    assert await documents.get("fruit", "fig") == Document("fig", b"\x00green\xff", 1)


async def test_an_empty_value_is_a_document_and_not_a_deletion(documents: Documents) -> None:
    await documents.commit([put("fig", b"")])
    assert await documents.get("fruit", "fig") == Document("fig", b"", 1)


async def test_a_key_that_was_never_written_reads_as_none(documents: Documents) -> None:
    assert await documents.get("fruit", "fig") is None
    assert await documents.list("fruit") == []


async def test_collections_are_apart(documents: Documents) -> None:
    await documents.commit([put("fig", b"1"), put("fig", b"2", collection="tree")])
    assert await documents.get("tree", "fig") == Document("fig", b"2", 1)
    assert await documents.list("fruit") == [Document("fig", b"1", 1)]


async def test_a_revision_grows_by_one_with_each_write(documents: Documents) -> None:
    for number in (1, 2, 3):
        await documents.commit([put("fig", b"%d" % number)])
        assert await documents.get("fruit", "fig") == Document("fig", b"%d" % number, number)


async def test_a_key_that_was_deleted_starts_over_at_revision_one(documents: Documents) -> None:
    await documents.commit([put("fig")])
    await documents.commit([put("fig")])
    await documents.commit([drop("fig", expect=2)])
    assert await documents.get("fruit", "fig") is None
    await documents.commit([put("fig", expect=0)])
    assert await documents.get("fruit", "fig") == Document("fig", b"", 1)


async def test_a_list_is_in_the_order_of_code_points(documents: Documents) -> None:
    names = ["b", "a", "B", "_", "a/b", "a-b", "ä", "\uffff", "\U0001f34e", "10", "9"]
    await documents.commit([put(name) for name in names])
    assert await keys(documents) == sorted(names)


async def test_a_prefix_is_taken_literally(documents: Documents) -> None:
    names = ["a%", "a%x", "ab", "a_", "A%", "a", "b"]
    await documents.commit([put(name) for name in names])
    assert await keys(documents, prefix="a%") == ["a%", "a%x"]
    assert await keys(documents, prefix="a_") == ["a_"]
    assert await keys(documents, prefix="a") == ["a", "a%", "a%x", "a_", "ab"]


@pytest.mark.parametrize("prefix", ["x\U0010ffff", "\U0010ffff", "x\ud7ff", "x"])
async def test_a_prefix_at_the_end_of_the_code_points_finds_its_keys(documents: Documents, prefix: str) -> None:
    inside = [prefix, prefix + "\U0010ffff", prefix + "a"]
    await documents.commit([put(name) for name in [*inside, "w", "y", "x\ue000", "x\ud7fe"]])
    assert set(inside) <= set(await keys(documents, prefix=prefix))
    assert all(key.startswith(prefix) for key in await keys(documents, prefix=prefix))


async def test_pages_of_a_list_cover_it_once(documents: Documents) -> None:
    names = [f"p/{number:02d}" for number in range(10)]
    await documents.commit([put(name) for name in ["o", *names, "q"]])
    seen: list[str] = []
    while page := await keys(documents, prefix="p/", after=seen[-1] if seen else "", limit=3):
        assert len(page) <= 3
        seen += page
    assert seen == names


async def test_after_need_not_be_a_key_that_exists(documents: Documents) -> None:
    await documents.commit([put("a"), put("c")])
    assert await keys(documents, after="b") == ["c"]
    assert await keys(documents, prefix="c", after="a") == ["c"]
    assert await keys(documents, limit=0) == []


async def test_an_expectation_of_zero_only_creates(documents: Documents) -> None:
    await documents.commit([put("fig", b"first", expect=0)])
    with pytest.raises(Conflict, match="fruit/fig was changed by another writer"):
        await documents.commit([put("fig", b"second", expect=0)])
    assert await documents.get("fruit", "fig") == Document("fig", b"first", 1)


@pytest.mark.parametrize("expect", [1, 3])
async def test_a_write_at_another_revision_conflicts(documents: Documents, expect: int) -> None:
    await documents.commit([put("fig", b"1")])
    await documents.commit([put("fig", b"2", expect=1)])
    with pytest.raises(Conflict) as caught:
        await documents.commit([put("fig", b"3", expect=expect)])
    assert (caught.value.collection, caught.value.key) == ("fruit", "fig")
    assert await documents.get("fruit", "fig") == Document("fig", b"2", 2)


async def test_a_deletion_can_expect_a_revision_too(documents: Documents) -> None:
    await documents.commit([put("fig")])
    with pytest.raises(Conflict):
        await documents.commit([drop("fig", expect=2)])
    with pytest.raises(Conflict):
        await documents.commit([drop("plum", expect=1)])
    await documents.commit([drop("fig", expect=1)])
    assert await documents.list("fruit") == []


async def test_deleting_what_is_not_there_changes_nothing(documents: Documents) -> None:
    changes = documents.watch("fruit")
    await documents.commit([drop("fig"), drop("plum", expect=0)])
    await documents.commit([put("fig")])
    assert [change.document for change in await take(changes, 1)] == [Document("fig", b"", 1)]


async def test_a_conflict_in_the_last_write_undoes_the_first(documents: Documents) -> None:
    await documents.commit([put("fig", b"old"), put("plum")])
    changes = documents.watch("fruit")
    with pytest.raises(Conflict):
        await documents.commit([put("fig", b"new"), drop("plum"), put("kiwi"), put("plum", expect=7)])
    assert await documents.list("fruit") == [Document("fig", b"old", 1), Document("plum", b"", 1)]
    await documents.commit([put("pear")])
    assert [change.key for change in await take(changes, 1)] == ["pear"]


async def test_a_conflict_fails_only_its_own_transaction(documents: Documents) -> None:
    commits = [documents.commit([put("fig" if number == 5 else f"k{number}", expect=0)]) for number in range(10)]
    await documents.commit([put("fig")])
    results = await asyncio.gather(*commits, return_exceptions=True)
    assert [type(result) for result in results] == [*[type(None)] * 5, Conflict, *[type(None)] * 4]
    assert len(await documents.list("fruit")) == 10


async def test_a_later_write_of_a_transaction_sees_an_earlier_one(documents: Documents) -> None:
    await documents.commit([put("fig", b"a", expect=0), put("fig", b"b", expect=1), drop("pear", expect=0)])
    assert await documents.get("fruit", "fig") == Document("fig", b"b", 2)
    await documents.commit([drop("fig", expect=2), put("fig", b"c", expect=0)])
    assert await documents.get("fruit", "fig") == Document("fig", b"c", 1)


async def test_an_empty_transaction_is_allowed(documents: Documents) -> None:
    await documents.commit([])


async def test_a_watcher_sees_changes_in_commit_order_with_their_documents(documents: Documents) -> None:
    changes = documents.watch("fruit", "tree")
    await documents.commit([put("fig", b"1"), put("oak", b"2", collection="tree")])
    await documents.commit([put("rock", collection="stone")])
    await documents.commit([put("fig", b"3"), drop("fig")])
    assert await take(changes, 4) == [
        Change(collection="fruit", key="fig", document=Document("fig", b"1", 1)),
        Change(collection="tree", key="oak", document=Document("oak", b"2", 1)),
        Change(collection="fruit", key="fig", document=Document("fig", b"3", 2)),
        Change(collection="fruit", key="fig", document=None),
    ]


async def test_every_watcher_gets_every_change(documents: Documents) -> None:
    first, second = documents.watch("fruit"), documents.watch("fruit")
    await documents.commit([put("fig"), put("plum")])
    assert await take(first, 2) == await take(second, 2)


async def test_a_watcher_that_waits_is_woken(documents: Documents) -> None:
    waiting = asyncio.create_task(take(documents.watch("fruit"), 1))
    await asyncio.sleep(0)
    await documents.commit([put("fig")])
    assert [change.key for change in await waiting] == ["fig"]


async def test_a_watch_that_was_cancelled_can_be_taken_up_again(documents: Documents) -> None:
    changes = documents.watch("fruit")
    waiting = asyncio.create_task(take(changes, 1))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await documents.commit([put("fig")])
    assert [change.key for change in await take(changes, 1)] == ["fig"]


async def test_who_watches_and_then_reads_misses_nothing(documents: Documents) -> None:
    written: list[str] = []
    under_way = asyncio.Event()
    enough = asyncio.Event()

    async def write_on() -> None:
        while not enough.is_set():
            await documents.commit([put(f"k{len(written)}")])
            written.append(f"k{len(written)}")
            if len(written) == 20:
                under_way.set()
            await asyncio.sleep(0)

    writing = asyncio.create_task(write_on())
    await under_way.wait()
    changes = documents.watch("fruit")
    known = set(await keys(documents))
    known |= {change.key for change in await take(changes, 20)}
    enough.set()
    await writing
    async with asyncio.timeout(10):
        while len(known) < len(written):
            known.add((await anext(changes)).key)
    assert known == set(written)


async def test_a_commit_that_has_returned_is_seen_by_the_next_read(documents: Documents) -> None:
    for number in range(100):
        await documents.commit([put("fig", b"%d" % number)])
        document = await documents.get("fruit", "fig")
        assert document is not None
        assert document.value == b"%d" % number


async def test_a_hundred_writers_of_one_counter_lose_no_increment(documents: Documents) -> None:
    async def increment() -> None:
        while True:
            document = await documents.get("fruit", "counter")
            count, revision = (int(document.value), document.revision) if document else (0, 0)
            try:
                await documents.commit([put("counter", b"%d" % (count + 1), expect=revision)])
            except Conflict:
                continue
            return

    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(increment())
    assert await documents.get("fruit", "counter") == Document("counter", b"100", 100)


async def test_closing_ends_a_watch_after_what_was_committed(documents: Documents) -> None:
    changes = documents.watch("fruit")
    await documents.commit([put("fig")])
    await documents.close()
    assert [change.key async for change in changes] == ["fig"]


async def test_a_closed_store_serves_nothing_more(documents: Documents) -> None:
    await documents.close()
    await documents.close()
    with pytest.raises(PlatformError, match="closed"):
        await documents.get("fruit", "fig")
    with pytest.raises(PlatformError, match="closed"):
        await documents.list("fruit")
    with pytest.raises(PlatformError, match="closed"):
        await documents.commit([put("fig")])
    with pytest.raises(PlatformError, match="closed"):
        documents.watch("fruit")


async def test_what_the_caller_does_with_its_buffer_later_changes_nothing(documents: Documents) -> None:
    value = bytearray(b"fig")
    await documents.commit([put("fig", value)])  # type: ignore[arg-type]
    value[:] = b"XXX"
    assert await documents.get("fruit", "fig") == Document("fig", b"fig", 1)

"""One suite for every adapter of the documents port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lambent.model.errors import OperatorError
from lambent.substrate.memory.documents import MemoryDocuments
from lambent.substrate.ports import Conflict, Document, Documents, Write
from lambent.substrate.sqlite.documents import open_documents


@pytest.fixture(params=["memory", "sqlite"])
async def documents(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Documents]:
    adapter: Documents = MemoryDocuments() if request.param == "memory" else open_documents(tmp_path / "state.db")
    yield adapter
    await adapter.close()


def write(key: str, value: bytes | None = b"x", *, expect: int | None = None) -> Write:
    return Write(collection="c", key=key, value=value, expect=expect)


async def test_what_was_written_is_read_with_its_revision(documents: Documents) -> None:
    await documents.commit([write("a", b"1")])
    await documents.commit([write("a", b"2")])
    assert await documents.get("c", "a") == Document("a", b"2", 2)
    assert await documents.get("other", "a") is None


async def test_a_deleted_key_starts_again_at_revision_one(documents: Documents) -> None:
    await documents.commit([write("a")])
    await documents.commit([write("a", None)])
    assert await documents.get("c", "a") is None
    await documents.commit([write("a", expect=0)])
    assert await documents.get("c", "a") == Document("a", b"x", 1)


async def test_a_list_is_ordered_and_can_be_cut_by_prefix_start_and_length(documents: Documents) -> None:
    await documents.commit([write(key) for key in ("b/2", "a/1", "b/1", "b/3", "c/1", "b")])
    assert [item.key for item in await documents.list("c")] == ["a/1", "b", "b/1", "b/2", "b/3", "c/1"]
    assert [item.key for item in await documents.list("c", prefix="b/")] == ["b/1", "b/2", "b/3"]
    assert [item.key for item in await documents.list("c", prefix="b/", after="b/1", limit=1)] == ["b/2"]


@pytest.mark.parametrize("expect", [0, 2])
async def test_a_conflict_changes_nothing_of_its_transaction(documents: Documents, expect: int) -> None:
    await documents.commit([write("a", b"1")])
    with pytest.raises(Conflict):
        await documents.commit([write("b", b"new"), write("a", b"2", expect=expect)])
    assert await documents.get("c", "b") is None
    assert await documents.get("c", "a") == Document("a", b"1", 1)


async def test_one_conflict_does_not_harm_transactions_committed_with_it(documents: Documents) -> None:
    await documents.commit([write("a", b"1")])
    results = await asyncio.gather(
        documents.commit([write("b", b"1")]),
        documents.commit([write("a", b"2", expect=7)]),
        documents.commit([write("d", b"1")]),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), Conflict, type(None)]
    assert [item.key for item in await documents.list("c")] == ["a", "b", "d"]


async def test_a_hundred_writers_of_one_counter_lose_nothing(documents: Documents) -> None:
    async def increment() -> None:
        while True:
            present = await documents.get("c", "n")
            value, revision = (int(present.value), present.revision) if present else (0, 0)
            try:
                await documents.commit([write("n", b"%d" % (value + 1), expect=revision)])
                return
            except Conflict:
                continue

    await asyncio.gather(*(increment() for _ in range(100)))
    assert await documents.get("c", "n") == Document("n", b"100", 100)


async def test_a_watch_sees_changes_of_its_collections_in_order(documents: Documents) -> None:
    changes = documents.watch("c")
    await documents.commit([write("a", b"1"), Write(collection="other", key="z", value=b"1")])
    await documents.commit([write("a", None)])
    first, second = await anext(changes), await anext(changes)
    assert (first.key, first.document) == ("a", Document("a", b"1", 1))
    assert (second.key, second.document) == ("a", None)


async def test_a_watch_opened_before_reading_misses_nothing(documents: Documents) -> None:
    changes = documents.watch("c")
    commits = asyncio.gather(*(documents.commit([write(str(number))]) for number in range(50)))
    seen = {item.key for item in await documents.list("c")}
    await commits
    while len(seen) < 50:
        seen.add((await anext(changes)).key)
    assert seen == {str(number) for number in range(50)}


async def test_closing_ends_the_watches(documents: Documents) -> None:
    changes = documents.watch("c")
    await documents.close()
    with pytest.raises(StopAsyncIteration):
        await anext(changes)


async def test_a_database_survives_being_opened_again(tmp_path: Path) -> None:
    documents = open_documents(tmp_path / "state.db")
    await documents.commit([write("a", b"1")])
    await documents.close()
    again = open_documents(tmp_path / "state.db")
    assert await again.get("c", "a") == Document("a", b"1", 1)
    await again.close()


async def test_a_data_folder_of_a_newer_version_is_refused_in_one_line(tmp_path: Path) -> None:
    import apsw

    connection = apsw.Connection(str(tmp_path / "state.db"))
    connection.pragma("user_version", 99)
    connection.close()
    with pytest.raises(OperatorError, match="newer Lambent") as caught:
        open_documents(tmp_path / "state.db")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    with pytest.raises(OperatorError, match="cannot be opened"):
        open_documents(tmp_path / "state.db")

"""What every `Tables` adapter promises, whatever it stores in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from lambent.model.errors import CallerError, OperatorError, PlatformError
from lambent.substrate.memory import MemoryTables
from lambent.substrate.ports import Connection, Schema, Tables
from lambent.substrate.sqlite import open_tables

FRUIT = Schema(name="fruit", versions=("CREATE TABLE fruit (name TEXT PRIMARY KEY, weight INTEGER NOT NULL) STRICT",))
TREES = Schema(
    name="trees",
    versions=(
        "CREATE TABLE trees (name TEXT PRIMARY KEY) STRICT; INSERT INTO trees VALUES ('fig'), ('plum')",
        "ALTER TABLE trees ADD COLUMN height INTEGER NOT NULL DEFAULT 3",
    ),
)

ADAPTERS: dict[str, Callable[[Path], Tables]] = {
    "memory": lambda folder: MemoryTables([FRUIT, TREES]),
    "sqlite": lambda folder: open_tables(folder / "events.db", [FRUIT, TREES]),
}


@pytest.fixture(params=ADAPTERS)
async def tables(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Tables]:
    store = ADAPTERS[request.param](tmp_path)
    yield store
    await store.close()


def put(name: str, weight: int | None) -> Callable[[Connection], int]:
    def work(connection: Connection) -> int:
        connection.execute("INSERT INTO fruit VALUES (?, ?)", (name, weight))
        return connection.changes()

    return work


def names(connection: Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM fruit ORDER BY name")]


async def test_a_write_returns_what_its_work_returned_and_is_then_read(tables: Tables) -> None:
    assert await tables.write(put("fig", 3)) == 1
    assert await tables.read(names) == ["fig"]


async def test_what_a_work_raises_is_raised_to_its_caller_and_undoes_its_own_writes_alone(tables: Tables) -> None:
    def refuse(connection: Connection) -> None:
        put("rotten", 1)(connection)
        raise CallerError("Rotten", "It is rotten.")

    results = await asyncio.gather(
        tables.write(put("fig", 3)), tables.write(refuse), tables.write(put("plum", 4)), return_exceptions=True
    )
    assert results[0] == results[2] == 1
    assert isinstance(results[1], CallerError)
    assert await tables.read(names) == ["fig", "plum"]


async def test_what_the_store_refuses_is_a_platform_error_and_undoes_its_own_writes_alone(tables: Tables) -> None:
    def half(connection: Connection) -> None:
        put("rotten", 1)(connection)
        put("weightless", None)(connection)

    with pytest.raises(PlatformError):
        await tables.write(half)
    await tables.write(put("fig", 3))
    assert await tables.read(names) == ["fig"]


async def test_one_transaction_may_span_the_tables_of_several_modules(tables: Tables) -> None:
    def plant(connection: Connection) -> None:
        put("pear", 5)(connection)
        connection.execute("INSERT INTO trees (name) VALUES (:name)", {"name": "pear"})

    await tables.write(plant)
    query = "SELECT height FROM trees JOIN fruit USING (name)"
    assert await tables.read(lambda connection: connection.execute(query).get) == 3


async def test_writes_happen_in_the_order_in_which_they_were_asked_for(tables: Tables) -> None:
    first = [asyncio.ensure_future(tables.write(put(f"{number:03}", number))) for number in range(300)]
    await asyncio.gather(*first)
    query = "SELECT name FROM fruit ORDER BY rowid"
    in_order = await tables.read(lambda connection: [name for (name,) in connection.execute(query)])
    assert in_order == [f"{number:03}" for number in range(300)]


async def test_a_closed_store_says_so(tables: Tables) -> None:
    await tables.close()
    with pytest.raises(PlatformError, match="closed"):
        await tables.write(put("fig", 3))


async def test_what_a_reader_raises_is_raised_to_its_caller(tables: Tables) -> None:
    def refuse(connection: Connection) -> None:
        raise CallerError("NoSuchFruit", "There is none.")

    with pytest.raises(CallerError, match="none"):
        await tables.read(refuse)


async def test_a_reader_cannot_write_a_file(tmp_path: Path) -> None:
    tables = open_tables(tmp_path / "events.db", [FRUIT])
    with pytest.raises(PlatformError, match="readonly"):
        await tables.read(put("fig", 3))
    await tables.close()


async def test_a_store_that_is_opened_again_has_its_rows_and_only_the_new_steps_of_its_schemas(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    before = Schema(name="trees", versions=TREES.versions[:1])
    tables = open_tables(path, [before])
    await tables.write(lambda connection: connection.execute("INSERT INTO trees VALUES ('pear')").get)
    await tables.close()
    tables = open_tables(path, [FRUIT, TREES])
    query = "SELECT name, height FROM trees ORDER BY name"
    rows = await tables.read(lambda connection: list(connection.execute(query)))
    assert rows == [("fig", 3), ("pear", 3), ("plum", 3)]
    await tables.close()


async def test_a_store_with_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    await open_tables(path, [TREES]).close()
    with pytest.raises(OperatorError, match=r"newer Lambent \(trees: format 2, this one knows 1\)"):
        open_tables(path, [Schema(name="trees", versions=TREES.versions[:1])])

"""Change data capture against a real PostgreSQL: what comes, what comes again, and what is never lost."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from tests.integration.sources.polling import configure, read_all

from lambent.events.mappings.sources.ports import Configuration, Record, SourceLost, Start
from lambent.events.mappings.sources.postgres import KIND
from lambent.events.mappings.sources.postgres.source import PARTITION, PostgresSource
from lambent.testing.components.postgres import Postgres

FROM_NOW = Start()


@contextlib.asynccontextmanager
async def opened(
    postgres: Postgres, configuration: Configuration, at: str | Start = FROM_NOW, *, drop: bool = True
) -> AsyncIterator[PostgresSource]:
    source = await KIND.open(configuration, {"main": {"url": postgres.url}})
    assert isinstance(source, PostgresSource)
    await source.open(PARTITION, at)
    try:
        yield source
        if drop:
            await source.drop()
    finally:
        await source.close()


@pytest.fixture
async def sql(postgres: Postgres) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(postgres.url, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def table(sql: psycopg.AsyncConnection[Any]) -> str:
    name = f"t{uuid.uuid4().hex[:10]}"
    await sql.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, name text, big text)")
    return name


def bodies(records: list[Record]) -> list[Any]:
    return [record.event["postgres"] for record in records]


async def test_insert_update_and_delete_have_old_and_new_values_as_the_replica_identity_says(
    postgres: Postgres, sql: psycopg.AsyncConnection[Any], table: str
) -> None:
    async with opened(postgres, configure("postgres", Queues=[table])) as source:
        await sql.execute(f"INSERT INTO {table} VALUES (1, 'a', NULL)")
        await sql.execute(f"UPDATE {table} SET name = 'b'")
        await sql.execute(f"UPDATE {table} SET id = 2")
        await sql.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL")
        await sql.execute(f"UPDATE {table} SET name = 'c'")
        await sql.execute(f"DELETE FROM {table}")
        await sql.execute(f"TRUNCATE {table}")
        records = await read_all(source, PARTITION, 6)
    assert [record.event["eventName"] for record in records] == [
        "INSERT",
        "UPDATE",
        "UPDATE",
        "UPDATE",
        "DELETE",
        "TRUNCATE",
    ]
    shown = [(body["keys"], body["old"], body["new"]) for body in bodies(records)]
    expected: list[Any] = [
        ({"id": 1}, None, {"id": 1, "name": "a", "big": None}),
        ({"id": 1}, None, {"id": 1, "name": "b", "big": None}),
        ({"id": 2}, {"id": 1}, {"id": 2, "name": "b", "big": None}),
        ({"id": 2}, {"id": 2, "name": "b", "big": None}, {"id": 2, "name": "c", "big": None}),
        ({"id": 2}, {"id": 2, "name": "c", "big": None}, None),
        ({}, None, None),
    ]
    assert shown == expected
    assert {body["table"] for body in bodies(records)} == {table}


async def test_a_value_out_of_line_that_an_update_left_alone_is_named_and_not_invented(
    postgres: Postgres, sql: psycopg.AsyncConnection[Any], table: str
) -> None:
    await sql.execute(f"ALTER TABLE {table} ALTER COLUMN big SET STORAGE EXTERNAL")
    await sql.execute(f"INSERT INTO {table} VALUES (1, 'a', repeat('x', 20000))")
    async with opened(postgres, configure("postgres", Queues=[table])) as source:
        await sql.execute(f"UPDATE {table} SET name = 'b'")
        await sql.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL")
        await sql.execute(f"UPDATE {table} SET name = 'c'")
        first, second = bodies(await read_all(source, PARTITION, 2))
    assert (first["new"], first["unchanged"]) == ({"id": 1, "name": "b"}, ["big"])
    assert (second["new"], second["unchanged"]) == ({"id": 1, "name": "c", "big": "x" * 20000}, [])


async def test_values_are_json_of_their_types(postgres: Postgres, sql: psycopg.AsyncConnection[Any]) -> None:
    name = f"t{uuid.uuid4().hex[:10]}"
    await sql.execute(
        f"CREATE DOMAIN d{name} AS int; CREATE TYPE e{name} AS ENUM ('red'); "
        f"CREATE TABLE {name} (a bool, b bigint, c float8, d float8, e numeric, f jsonb, g bytea, h timestamptz, "
        f"i timestamp, j date, k int[], l text[], m d{name}, n e{name}, o uuid, p interval, q time)"
    )
    async with opened(postgres, configure("postgres", Queues=[name])) as source:
        await sql.execute(
            f"INSERT INTO {name} VALUES (true, 9007199254740993, 0.1, 'NaN', 12.340, '{{\"x\": [1, null]}}', '\\x00ff', "  # noqa: E501
            "'2026-11-23 15:00:00.25+01', '2026-11-23 15:00:00', '2026-11-23', '{{1,2},{3,NULL}}', "
            """'{"a,b","q\\"uo\\\\te",NULL,"NULL",""}', 7, 'red', '8c5ba0d8-2c5c-4a4f-9d6a-0d8f1d2f3a4b', '1 day 2 hours', """  # noqa: E501
            "'15:00')"
        )
        (body,) = bodies(await read_all(source, PARTITION, 1))
    assert body["new"] == {
        "a": True,
        "b": 9007199254740993,
        "c": 0.1,
        "d": "NaN",
        "e": "12.340",
        "f": {"x": [1, None]},
        "g": "AP8=",
        "h": "2026-11-23T14:00:00.25Z",
        "i": "2026-11-23T15:00:00",
        "j": "2026-11-23",
        "k": [[1, 2], [3, None]],
        "l": ["a,b", 'q"uo\\te', None, "NULL", ""],
        "m": 7,
        "n": "red",
        "o": "8c5ba0d8-2c5c-4a4f-9d6a-0d8f1d2f3a4b",
        "p": "P1DT2H",
        "q": "15:00:00",
    }


async def test_only_the_tables_named_are_seen_and_quiet_ones_hold_back_no_log(
    postgres: Postgres, sql: psycopg.AsyncConnection[Any], table: str
) -> None:
    other = f"o{uuid.uuid4().hex[:10]}"
    await sql.execute(f"CREATE TABLE {other} (id int)")
    async with opened(postgres, configure("postgres", Queues=[table])) as source:
        await sql.execute(f"INSERT INTO {other} SELECT generate_series(1, 10000)")
        written = await (await sql.execute("SELECT pg_current_wal_lsn() - '0/0'")).fetchone()
        assert written is not None
        async with asyncio.timeout(20):
            # The server's keepalives carry the position on; nothing tells us of the one that will do.
            while (await source.lag())["slotLagBytes"] > 10_000:
                await asyncio.sleep(0.1)
        await sql.execute(f"INSERT INTO {table} VALUES (1, 'mine', NULL)")
        assert [body["new"]["name"] for body in bodies(await read_all(source, PARTITION, 1))] == ["mine"]


async def test_a_checkpoint_in_the_middle_of_a_transaction_goes_on_with_the_next_change(
    postgres: Postgres, sql: psycopg.AsyncConnection[Any], table: str
) -> None:
    configuration = configure("postgres", Queues=[table])
    async with opened(postgres, configuration, drop=False) as source:
        await sql.execute(f"INSERT INTO {table} SELECT g, 'one', NULL FROM generate_series(1, 100) g")
        await sql.execute(f"INSERT INTO {table} SELECT g, 'two', NULL FROM generate_series(101, 200) g")
        records = await read_all(source, PARTITION, 40)
        await source.commit(PARTITION, records[-1].checkpoint)
    async with opened(postgres, configuration, records[-1].checkpoint) as source:
        rest = await read_all(source, PARTITION, 160)
    assert [body["new"]["id"] for body in bodies([*records, *rest])] == list(range(1, 201))


async def test_the_server_forgets_nothing_before_the_batch_is_committed(
    postgres: Postgres, sql: psycopg.AsyncConnection[Any], table: str
) -> None:
    configuration = configure("postgres", Queues=[table])
    async with opened(postgres, configuration, drop=False) as source:
        await sql.execute(f"INSERT INTO {table} SELECT g, 'a', NULL FROM generate_series(1, 50) g")
        assert len(await read_all(source, PARTITION, 50)) == 50
    # No commit, and no checkpoint, as after kill -9 of the node: all of it comes again.
    async with opened(postgres, configuration, drop=False) as source:
        records = await read_all(source, PARTITION, 50)
        assert len(records) == 50
        await source.commit(PARTITION, records[-1].checkpoint)
    async with opened(postgres, configuration) as source:
        await sql.execute(f"INSERT INTO {table} VALUES (51, 'new', NULL)")
        assert [body["new"]["id"] for body in bodies(await read_all(source, PARTITION, 1))] == [51]


async def test_a_function_that_runs_longer_than_the_servers_patience_keeps_the_connection(
    postgres: Postgres, sql: psycopg.AsyncConnection[Any], table: str
) -> None:
    async with opened(postgres, configure("postgres", Queues=[table])) as source:
        await sql.execute(f"INSERT INTO {table} VALUES (1, 'a', NULL)")
        (first,) = await read_all(source, PARTITION, 1)
        await asyncio.sleep(3)  # wal_sender_timeout is 1.5 s here
        await source.commit(PARTITION, first.checkpoint)
        await sql.execute(f"INSERT INTO {table} VALUES (2, 'b', NULL)")
        assert len(await read_all(source, PARTITION, 1)) == 1


async def test_nothing_is_lost_over_restarts_and_kills_of_the_server(postgres: Postgres, table: str) -> None:
    configuration = configure("postgres", Queues=[table])
    source = await KIND.open(configuration, {"main": {"url": postgres.url}})
    assert isinstance(source, PostgresSource)
    at: str | Start = Start()
    seen: list[int] = []
    for round_, end in enumerate((postgres.stop, postgres.kill, postgres.kill)):
        await source.open(PARTITION, at)
        async with await psycopg.AsyncConnection.connect(postgres.url, autocommit=True) as connection:
            for number in range(100):
                await connection.execute(f"INSERT INTO {table} VALUES ({round_ * 100 + number}, 'a', NULL)")
        records = await read_all(source, PARTITION, 60)
        at = records[-1].checkpoint
        await source.commit(PARTITION, at)
        seen += [body["new"]["id"] for body in bodies(records)]
        end()
        with pytest.raises(SourceLost):
            while True:
                await source.read(PARTITION, 1000, 10)
        with pytest.raises(SourceLost):
            await source.open(PARTITION, at)
        postgres.start()
    await source.open(PARTITION, at)
    records = await read_all(source, PARTITION, 300 - len(seen))
    seen += [body["new"]["id"] for body in bodies(records)]
    assert seen == list(range(300))
    await source.drop()


async def test_slot_and_publication_are_dropped_with_the_mapping_and_their_loss_is_told(
    postgres: Postgres, sql: psycopg.AsyncConnection[Any], table: str
) -> None:
    configuration = configure("postgres", Queues=[table])
    async with opened(postgres, configuration) as source:
        assert (await source.lag())["slotLagBytes"] >= 0
    left = await sql.execute(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE %(n)s "
        "UNION ALL SELECT count(*) FROM pg_publication WHERE pubname LIKE %(n)s",
        {"n": "%" + configuration.uuid.replace("-", "_")},
    )
    assert await left.fetchall() == [(0,), (0,)]
    with pytest.raises(SourceLost, match="is gone"):
        await source.open(PARTITION, "0000000000000001.0")

"""What is left over of many messages is removed in slices: no transaction is long, and callers see none of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import apsw
import msgspec
import pytest
from tests.unit.events.queues.test_queues import ACCOUNT, FIFO, SCHEMAS, World

from lambent.events.queues import moves, store
from lambent.events.queues.model import DEFAULTS, Queue
from lambent.model.errors import CallerError
from lambent.substrate.memory import MemoryTables
from lambent.substrate.ports import Connection, Schema, Tables
from lambent.substrate.sqlite import open_tables

MANY = 3000
MESSAGES = "SELECT count(*) FROM queues_messages"


class Ledger:
    """Notes how many rows each transaction of `tables` changes."""

    def __init__(self, tables: Tables) -> None:
        self.changes: list[int] = []
        self._write = tables.write
        tables.write = self._note  # type: ignore[method-assign]

    async def _note(self, work: Callable[[Connection], Any]) -> Any:
        def count(connection: Connection) -> Any:
            before = cast("apsw.Connection", connection).total_changes()
            result = work(connection)
            self.changes.append(cast("apsw.Connection", connection).total_changes() - before)
            return result

        return await self._write(count)


@pytest.fixture
def world() -> World:
    return World(MemoryTables(SCHEMAS))


async def fill(world: World, url: str, most: int = MANY, **parameters: Any) -> None:
    for number in range(most):
        await world.send(url, str(number), **parameters)


async def ask(tables: Tables, query: str) -> Any:
    return await tables.read(lambda connection: connection.execute(query).get)


@pytest.mark.parametrize("operation", ["PurgeQueue", "DeleteQueue"])
@pytest.mark.parametrize("name", ["orders", "orders.fifo"])
async def test_a_long_queue_is_purged_and_deleted_in_short_transactions(
    world: World, name: str, operation: str
) -> None:
    fifo = name.endswith(".fifo")
    url = await world.queue(name, **(FIFO if fifo else {}))
    grouped: dict[str, Any] = {"MessageGroupId": "g"} if fifo else {}
    await fill(world, url, **grouped)
    ledger = Ledger(world.tables)
    await world.call(operation, QueueUrl=url)
    if operation == "DeleteQueue":
        url = await world.queue(name, **(FIFO if fifo else {}))
    assert await world.counts(url) == [0, 0, 0]
    assert await world.receive(url) == []
    assert await ask(world.tables, MESSAGES) == MANY, "nothing was removed yet, and nothing of it was seen"
    await world.send(url, "later", **grouped)
    await world.service.leftovers.clear()
    assert await ask(world.tables, MESSAGES) == 1
    assert await world.bodies(url) == ["later"]
    assert max(ledger.changes) <= 2 * store.SLICE
    for table in ("queues_leftovers", "queues_deduplications WHERE queue = 1"):
        kept = 0 if operation == "DeleteQueue" or not fifo or table == "queues_leftovers" else MANY + 1
        assert await ask(world.tables, f"SELECT count(*) FROM {table}") == kept


async def test_a_purge_that_was_cut_short_is_finished_after_a_restart(tmp_path: Path) -> None:
    tables = open_tables(tmp_path / "events.db", SCHEMAS)
    world = World(tables)
    url = await world.queue()
    await fill(world, url, most=1000)
    await world.call("PurgeQueue", QueueUrl=url)
    await world.send(url, "later")
    await tables.write(store.clear)
    await tables.close()
    tables = open_tables(tmp_path / "events.db", SCHEMAS)
    world = World(tables)
    assert await world.counts(url) == [1, 0, 0]
    await world.service.start()
    async with asyncio.timeout(60):
        while await ask(tables, "SELECT count(*) FROM queues_leftovers"):
            await asyncio.sleep(0)
    await world.service.stop()
    assert await ask(tables, MESSAGES) == 1
    assert await world.bodies(url) == ["later"]
    await tables.close()


async def test_receipts_of_what_was_purged_do_nothing(world: World) -> None:
    url = await world.queue()
    await world.send(url)
    (message,) = await world.receive(url)
    await world.call("PurgeQueue", QueueUrl=url)
    await world.delete(url, message["ReceiptHandle"])
    with pytest.raises(CallerError) as caught:
        await world.call(
            "ChangeMessageVisibility", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )
    assert caught.value.code == "MessageNotInflight"
    assert await world.counts(url) == [0, 0, 0]


async def test_nothing_is_accepted_for_a_queue_that_was_deleted_meanwhile(world: World) -> None:
    """The queue is looked up before the transaction that sends."""
    url, write = await world.queue(), world.tables.write

    async def delete_then_write(work: Callable[[Connection], Any]) -> Any:
        world.tables.write = write  # type: ignore[method-assign]
        await world.call("DeleteQueue", QueueUrl=url)
        return await write(work)

    world.tables.write = delete_then_write  # type: ignore[method-assign]
    with pytest.raises(CallerError) as caught:
        await world.send(url)
    assert caught.value.code == "QueueDoesNotExist"


async def test_what_is_sent_while_a_queue_is_purged_is_in_it(world: World) -> None:
    url, write = await world.queue(), world.tables.write

    async def purge_then_write(work: Callable[[Connection], Any]) -> Any:
        world.tables.write = write  # type: ignore[method-assign]
        await world.call("PurgeQueue", QueueUrl=url)
        return await write(work)

    world.tables.write = purge_then_write  # type: ignore[method-assign]
    await world.send(url, "acknowledged")
    assert await world.bodies(url) == ["acknowledged"]


async def test_a_change_of_the_retention_touches_no_message_and_counts_at_once(world: World) -> None:
    url = await world.queue(MessageRetentionPeriod="60")
    await fill(world, url, most=100)
    ledger = Ledger(world.tables)
    queue = await world.tables.read(lambda connection: store.get_queue(connection, ACCOUNT, "orders"))
    assert queue is not None
    world.now += 60
    await world.call("SetQueueAttributes", QueueUrl=url, Attributes={"MessageRetentionPeriod": "3600"})
    assert ledger.changes == [1]
    # Of a receive that has been waiting since before.
    assert await world.service.queues.take(queue, most=1, visibility_s=30, wait_s=0)
    assert await world.counts(url) == [99, 1, 0]


async def test_what_expired_is_removed_in_slices_and_hides_nothing_behind_it(world: World) -> None:
    url = await world.queue("orders.fifo", MessageRetentionPeriod="60", **FIFO)
    await fill(world, url, MessageGroupId="g")
    world.now += 30
    await world.send(url, "young", MessageGroupId="g")
    world.now += 31
    ledger = Ledger(world.tables)
    assert await world.bodies(url) == ["young"]
    # Each may settle its group.
    assert max(ledger.changes) <= 3 * store.SLICE
    assert await ask(world.tables, MESSAGES) < MANY


async def test_what_expired_is_not_read_to_find_what_did_not(world: World) -> None:
    url = await world.queue(MessageRetentionPeriod="60")
    await fill(world, url)
    world.now += 61
    await world.send(url, "young")
    ledger = Ledger(world.tables)
    assert await world.bodies(url) == ["young"]
    assert len(ledger.changes) == 1
    assert ledger.changes[0] <= store.SWEEP + 1


async def test_repeats_are_forgotten_a_few_at_a_time_and_count_no_longer_than_five_minutes(world: World) -> None:
    url = await world.queue("orders.fifo", **FIFO)
    await fill(world, url, MessageGroupId="g")
    world.now += store.DEDUPLICATION_S
    ledger = Ledger(world.tables)
    await world.send(url, str(MANY - 1), MessageGroupId="g")
    assert await world.counts(url) == [MANY + 1, 0, 0]
    assert max(ledger.changes) <= store.SWEEP + 10


async def test_queues_of_before_are_taken_over(tmp_path: Path) -> None:
    old = Schema(name="queues", versions=store.SCHEMA.versions[:2])
    tables = open_tables(tmp_path / "events.db", [old, moves.SCHEMA])
    queue = Queue(
        id=7, account=ACCOUNT, region="us-east-1", name="orders", attributes={**DEFAULTS}, created_at=0, modified_at=0
    )

    def write(connection: Connection) -> None:
        record = msgspec.msgpack.encode(queue)
        connection.execute(
            "INSERT INTO queues (id, account, name, record) VALUES (7, ?, 'orders', ?)", (ACCOUNT, record)
        )
        rest = msgspec.msgpack.encode(store.Rest({}, "", ""))
        connection.execute(
            "INSERT INTO queues_messages (queue, visible_at, expires_at, sent_at, message_id, group_id, "
            "deduplication_id, sequence_number, body, rest) VALUES (7, 100, 1000, 100, 'm', '', '', '', 'kept', ?)",
            (rest,),
        )

    await tables.write(write)
    await tables.close()
    tables = open_tables(tmp_path / "events.db", SCHEMAS)
    world = World(tables, 200.0)
    assert await world.bodies(f"http://node/{ACCOUNT}/orders") == ["kept"]
    await tables.close()

"""Kafka, against the broker inside librdkafka: groups, rebalances, positions."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator

import pytest
from confluent_kafka import Producer
from tests.integration.sources.polling import configure, read_all

from lambent.events.mappings.sources.kafka import KIND
from lambent.events.mappings.sources.kafka.source import KafkaSource
from lambent.events.mappings.sources.ports import Configuration, SourceLost, Start
from lambent.model.errors import CallerError
from lambent.testing.components.kafka import Kafka

HORIZON = Start(position="TRIM_HORIZON")


@pytest.fixture
def topic(kafka: Kafka) -> str:
    name = f"t{uuid.uuid4().hex[:8]}"
    Producer({"bootstrap.servers": kafka.servers}).list_topics(name, timeout=10)
    return name


def produce(kafka: Kafka, topic: str, numbers: range, partition: int = 0, at_ms: int = 0) -> None:
    producer = Producer({"bootstrap.servers": kafka.servers})
    for number in numbers:
        headers: list[tuple[str, str | bytes | None]] = [("h", b"\xff1")]
        producer.produce(topic, str(number).encode(), b"k", partition, timestamp=at_ms, headers=headers)
    assert producer.flush(10) == 0


@contextlib.asynccontextmanager
async def opened(kafka: Kafka, configuration: Configuration) -> AsyncIterator[KafkaSource]:
    # The broker inside librdkafka gives members all but a second of the session to join a group again.
    connection = {"kind": "kafka", "url": kafka.servers, "session_timeout_ms": "6000"}
    source = await KIND.open(configuration, {"main": connection})
    assert isinstance(source, KafkaSource)
    try:
        yield source
    finally:
        await source.close()


async def wait_partitions(source: KafkaSource, count: int) -> list[str]:
    async with asyncio.timeout(30):
        while len(partitions := list(await source.partitions())) != count:
            await source.wait_change()
    return partitions


def mapping(topic: str) -> Configuration:
    return configure("kafka", "cluster/main/1-2-3", Topics=[topic])


async def test_records_come_in_the_contracts_shape(kafka: Kafka, topic: str) -> None:
    produce(kafka, topic, range(2), at_ms=1_600_000_000_000)
    configuration = mapping(topic)
    async with opened(kafka, configuration) as source:
        partitions = await wait_partitions(source, 4)
        await source.open(partitions[0], HORIZON)
        records = await read_all(source, partitions[0], 2)
    event = KIND.shape(configuration, [record.event for record in records[:1]])
    assert event == {
        "eventSource": "aws:kafka",
        "eventSourceArn": configuration.source_arn,
        "records": {
            f"{topic}-0": [
                {
                    "topic": topic,
                    "partition": 0,
                    "offset": 0,
                    "timestamp": 1_600_000_000_000,
                    "timestampType": "CREATE_TIME",
                    "key": "aw==",
                    "value": "MA==",
                    "headers": [{"h": [-1, 49]}],
                }
            ]
        },
    }
    assert [record.id for record in records] == [f"{topic}-0-0", f"{topic}-0-1"]


async def test_a_mapping_starts_at_the_beginning_or_the_end(kafka: Kafka, topic: str) -> None:
    produce(kafka, topic, range(5), at_ms=1_600_000_000_000)
    produce(kafka, topic, range(5, 10), at_ms=1_700_000_000_000)
    firsts = []
    for start in (HORIZON, Start(position="LATEST")):
        async with opened(kafka, mapping(topic)) as source:
            partitions = await wait_partitions(source, 4)
            await source.open(partitions[0], start)
            if start.position == "LATEST":
                produce(kafka, topic, range(99, 100))
            firsts += [record.data for record in await read_all(source, partitions[0], 1)]
    assert firsts == [b"0", b"99"]


async def test_a_group_goes_on_where_it_committed_and_a_checkpoint_wins(kafka: Kafka, topic: str) -> None:
    produce(kafka, topic, range(10))
    configuration = mapping(topic)
    async with opened(kafka, configuration) as source:
        (first, *_) = await wait_partitions(source, 4)
        await source.open(first, HORIZON)
        records = await read_all(source, first, 6)
        await source.commit(first, records[3].checkpoint)
        await source.lag()  # behind the commit on the same connection
    async with opened(kafka, configuration) as source:
        (first, *_) = await wait_partitions(source, 4)
        await source.open(first, HORIZON)
        assert [record.data for record in await read_all(source, first, 6)] == [b"4", b"5", b"6", b"7", b"8", b"9"]
        await source.open(first, "7")
        assert [record.data for record in await read_all(source, first, 2)] == [b"8", b"9"]
        assert (await source.lag())["messages"] == 6


async def test_partitions_move_between_members_and_each_record_is_read_in_order(kafka: Kafka, topic: str) -> None:
    configuration = mapping(topic)
    for number in range(4):
        produce(kafka, topic, range(100), number)
    seen: dict[str, list[int]] = {}

    async def read_some(source: KafkaSource, partition: str, count: int) -> None:
        at: str | Start = HORIZON
        if seen.get(partition):
            at = str(seen[partition][-1])
        await source.open(partition, at)
        records = await read_all(source, partition, count)
        seen.setdefault(partition, []).extend(int(record.checkpoint) for record in records)
        await source.commit(partition, records[-1].checkpoint)

    async with opened(kafka, configuration) as first:
        for partition in await wait_partitions(first, 4):
            await read_some(first, partition, 50)
        async with opened(kafka, configuration) as second:
            mine, theirs = await asyncio.gather(wait_partitions(first, 2), wait_partitions(second, 2))
            assert not set(mine) & set(theirs)
            await asyncio.gather(*(read_some(first, partition, 25) for partition in mine))
            await asyncio.gather(*(read_some(second, partition, 25) for partition in theirs))
        for partition in await wait_partitions(first, 4):
            await read_some(first, partition, 25)
    assert seen == {f"{topic}-{number}": list(range(100)) for number in range(4)}


async def test_more_than_fits_in_memory_is_left_with_the_broker_and_none_is_lost(kafka: Kafka, topic: str) -> None:
    produce(kafka, topic, range(30_000))
    async with opened(kafka, mapping(topic)) as source:
        (first, *_) = await wait_partitions(source, 4)
        await source.open(first, HORIZON)
        records = await read_all(source, first, 30_000)
    assert [int(record.data) for record in records] == list(range(30_000))


async def test_a_broker_that_stands_still_for_a_while_loses_nothing(kafka: Kafka, topic: str) -> None:
    async with opened(kafka, mapping(topic)) as source:
        (first, *_) = await wait_partitions(source, 4)
        await source.open(first, HORIZON)
        produce(kafka, topic, range(50))
        before = await read_all(source, first, 20)
        kafka.freeze()
        before += await read_all(source, first, 30)
        await asyncio.sleep(1)
        kafka.thaw()
        produce(kafka, topic, range(50, 100))
        records = before + await read_all(source, first, 100 - len(before))
    assert [int(record.data) for record in records] == list(range(100))


async def test_no_broker_and_a_connection_unknown_are_told_apart() -> None:
    configuration = mapping("t")
    with pytest.raises(CallerError, match=r"\[connections.main\]"):
        await KIND.check(configuration, {})
    own = configure("x", Topics=["t"], SelfManagedEventSource={"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["a:1"]}})
    with pytest.raises(CallerError, match="no connection of this node"):
        await KIND.check(own, {"main": {"kind": "kafka", "url": "b:1"}})
    await KIND.check(own, {"main": {"kind": "kafka", "url": "a:1,b:1"}})
    assert KIND.shape(own, [])["eventSource"] == "SelfManagedKafka"
    with pytest.raises(SourceLost, match="Kafka"):
        await KIND.open(configuration, {"main": {"kind": "kafka", "url": "127.0.0.1:1"}})

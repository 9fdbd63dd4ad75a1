"""One suite over the sources that hand out messages, each on its real broker: what is not settled comes again."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aio_pika
import aiomqtt
import nats as nats_client
import pytest
import redis.asyncio as redis_client
from tests.integration.sources.polling import configure, receive_all

from lambent.events.mappings.sources import mqtt, nats, rabbitmq, redis
from lambent.events.mappings.sources.ports import Configuration, Message, QueueSource, SourceKind, SourceLost
from lambent.model.errors import CallerError
from lambent.testing.components.processes import Component


class World:
    """A broker, a mapping on it, and somebody who publishes."""

    kind: SourceKind
    durable_kill = True
    """Whether what was published survives SIGKILL of the broker."""

    def __init__(self, component: Any) -> None:
        self.component: Any = component
        self.name = f"q{uuid.uuid4().hex[:8]}"
        self.configuration = self.configure()

    def configure(self) -> Configuration:
        raise NotImplementedError

    def connections(self) -> Mapping[str, Mapping[str, str]]:
        return {"main": {"url": self.component.url}}

    async def prepare(self) -> None: ...

    async def publish(self, numbers: range) -> None:
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        source = await self.kind.open(self.configuration, self.connections())
        try:
            yield source
        finally:
            await source.close()

    def numbers(self, messages: list[Message]) -> list[int]:
        return [int(message.data) for message in messages]


class NatsWorld(World):
    kind = nats.KIND

    def configure(self) -> Configuration:
        return configure("nats", Queues=[f"{self.name}/{self.name}.>"])

    def connections(self) -> Mapping[str, Mapping[str, str]]:
        return {"main": {"url": self.component.url, "ack_wait_s": "1"}}

    async def prepare(self) -> None:
        async with await nats_client.connect(self.component.url) as client:
            await client.jetstream().add_stream(name=self.name, subjects=[f"{self.name}.>"])

    async def publish(self, numbers: range) -> None:
        async with await nats_client.connect(self.component.url) as client:
            for number in numbers:
                await client.jetstream().publish(f"{self.name}.a", str(number).encode(), headers={"H": "1"})


class RedisWorld(World):
    kind = redis.KIND

    def configure(self) -> Configuration:
        return configure("redis", Queues=[self.name])

    async def publish(self, numbers: range) -> None:
        async with redis_client.Redis.from_url(self.component.url) as client:
            for number in numbers:
                await client.xadd(self.name, {"number": number, "raw": b"\xff"})

    def numbers(self, messages: list[Message]) -> list[int]:
        return [int(message.event["data"]["number"]) for message in messages]


class MqttWorld(World):
    kind = mqtt.KIND

    def configure(self) -> Configuration:
        return configure("mqtt", Queues=[f"{self.name}/+"])

    def connections(self) -> Mapping[str, Mapping[str, str]]:
        return {"main": {"url": self.component.mqtt_url}}

    async def prepare(self) -> None:
        async with self.opened():
            pass  # a session hears what comes from its first subscription on

    async def publish(self, numbers: range) -> None:
        async with aiomqtt.Client("127.0.0.1", self.component.mqtt_port) as client:
            for number in numbers:
                await client.publish(f"{self.name}/room", str(number), qos=1)


class RabbitMqWorld(World):
    kind = rabbitmq.KIND

    def configure(self) -> Configuration:
        return configure("mq", "broker:main:b-1", Queues=[self.name])

    async def prepare(self) -> None:
        async with await aio_pika.connect(self.component.url) as connection:
            await (await connection.channel()).declare_queue(self.name, durable=True)

    async def publish(self, numbers: range) -> None:
        async with await aio_pika.connect(self.component.url) as connection:
            channel = await connection.channel(publisher_confirms=True)
            for number in numbers:
                body, persistent = str(number).encode(), aio_pika.DeliveryMode.PERSISTENT
                message = aio_pika.Message(body, headers={"h": "v", "n": 1}, delivery_mode=persistent, message_id="m")
                await channel.default_exchange.publish(message, self.name)


_WORLDS: dict[str, Callable[[Component], World]] = {
    "nats": NatsWorld,
    "redis": RedisWorld,
    "mqtt": MqttWorld,
    "rabbitmq": RabbitMqWorld,
}


@pytest.fixture(params=["nats", "redis", "mqtt", "rabbitmq"])
async def world(request: pytest.FixtureRequest) -> World:
    component = request.getfixturevalue({"mqtt": "nats"}.get(request.param, request.param))
    made = _WORLDS[request.param](component)
    await made.prepare()
    return made


async def test_what_is_settled_never_comes_again_and_what_failed_does(world: World) -> None:
    await world.publish(range(20))
    async with world.opened() as source:
        messages = await receive_all(source, 20)
        assert sorted(world.numbers(messages)) == list(range(20))
        assert len({message.id for message in messages}) == 20
        await source.settle(messages[:15], messages[15:])
        again = await receive_all(source, 5)
        assert sorted(world.numbers(again)) == sorted(world.numbers(messages[15:]))
        await source.settle(again, [])
    async with world.opened() as source:
        assert await source.receive(10, 0.5) == []


async def test_a_poison_message_comes_again_and_again_and_holds_up_no_other(world: World) -> None:
    await world.publish(range(10))
    handled: set[int] = set()
    poisoned = 0
    async with world.opened() as source:
        while poisoned < 5 or len(handled) < 9:
            messages = await receive_all(source, 1)
            assert messages, (poisoned, handled)
            bad = [message for message in messages if world.numbers([message]) == [3]]
            good = [message for message in messages if message not in bad]
            poisoned += len(bad)
            handled |= set(world.numbers(good))
            await source.settle(good, bad)
    assert handled == set(range(10)) - {3}


async def test_what_nobody_settled_comes_again_to_who_opens_next(world: World) -> None:
    await world.publish(range(50))
    async with world.opened() as source:
        messages = await receive_all(source, 50)
        await source.settle(messages[:20], [])
    async with world.opened() as source:
        again = await receive_all(source, 30)
        await source.settle(again, [])
    assert sorted(world.numbers([*messages[:20], *again])) == list(range(50))


async def test_a_broker_that_restarts_is_told_of_and_loses_nothing(world: World) -> None:
    await world.publish(range(40))
    handled: list[int] = []
    async with world.opened() as source:
        messages = await receive_all(source, 15)
        await source.settle(messages, [])
        handled += world.numbers(messages)
        await receive_all(source, 5)  # in hand when the broker goes
        world.component.restart()
        with pytest.raises(SourceLost):
            while True:
                await source.receive(40, 5)
                await source.settle([], [])
    await world.publish(range(40, 60))
    async with world.opened() as source:
        while len(set(handled)) < 60:
            messages = await receive_all(source, 1)
            assert messages, sorted(set(range(60)) - set(handled))
            handled += world.numbers(messages)
            await source.settle(messages, [])
    assert set(handled) == set(range(60))


async def test_a_cancelled_call_loses_nothing(world: World) -> None:
    seen: set[int] = set()
    async with world.opened() as source:
        for number in range(5):
            waiting = asyncio.create_task(source.receive(10, 5))
            await asyncio.sleep(0)
            publishing = asyncio.create_task(world.publish(range(number, number + 1)))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, publishing, return_exceptions=True)
    async with world.opened() as source:
        while len(seen) < 5:
            messages = await receive_all(source, 1)
            assert messages, seen
            seen |= set(world.numbers(messages))
            await source.settle(messages, [])


async def test_a_deleted_mapping_leaves_nothing_behind(world: World) -> None:
    async with world.opened() as source:
        await source.drop()


async def test_the_shape_of_each(world: World) -> None:
    await world.publish(range(1))
    async with world.opened() as source:
        messages = await receive_all(source, 1)
        await source.settle(messages, [])
    event: Any = world.kind.shape(world.configuration, [message.event for message in messages])
    if isinstance(world, RabbitMqWorld):
        assert event["eventSource"] == "aws:rmq"
        ((place, (shown,)),) = event["rmqMessagesByQueue"].items()
        assert place == f"{world.name}::/"
        assert shown["basicProperties"]["headers"] == {"h": {"bytes": [118]}, "n": 1}
        assert (shown["basicProperties"]["bodySize"], shown["basicProperties"]["deliveryMode"]) == (1, 2)
        assert (shown["redelivered"], shown["data"]) == (False, "MA==")
        return
    (record,) = event["Records"]
    assert record["eventSource"] == f"lambent:{world.kind.name}"
    assert record["eventSourceARN"] == world.configuration.source_arn
    if isinstance(world, RedisWorld):
        assert (record["data"], record["binary"]) == ({"number": "0"}, {"raw": "/w=="})
    else:
        assert record["data"] == "MA=="


async def test_a_broker_that_is_not_there_and_a_connection_unknown_are_told_apart(world: World) -> None:
    with pytest.raises(CallerError, match=r"\[connections.main\]"):
        await world.kind.check(world.configuration, {})
    url = world.connections()["main"]["url"]
    scheme = url.partition("://")[0]
    with pytest.raises(SourceLost):
        await world.kind.open(world.configuration, {"main": {"url": f"{scheme}://127.0.0.1:1"}})


async def test_a_message_of_nats_is_renewed_while_its_function_runs(request: pytest.FixtureRequest) -> None:
    world = NatsWorld(request.getfixturevalue("nats"))
    await world.prepare()
    await world.publish(range(1))
    async with world.opened() as source:
        messages = await receive_all(source, 1)
        assert await source.receive(1, 2.5) == []  # ack_wait is 1 s
        await source.settle(messages, [])
        assert (await source.lag()) == {"messages": 0, "unsettled": 0}


async def test_entries_of_a_consumer_of_redis_that_died_are_claimed(request: pytest.FixtureRequest) -> None:
    world = RedisWorld(request.getfixturevalue("redis"))
    await world.publish(range(10))
    connections = {"main": {**world.connections()["main"], "group": "shared", "claim_after_s": "0"}}
    other: Any = await redis.KIND.open(configure("redis", Queues=[world.name]), connections)
    assert len(await receive_all(other, 10)) == 10
    await other.close()
    source: Any = await redis.KIND.open(world.configuration, connections)
    assert len(await receive_all(source, 10)) == 10
    await source.close()


def check_port(source: Any) -> QueueSource:
    """For the type checker alone: each implements the port."""
    from lambent.events.mappings.sources.mqtt.source import MqttSource
    from lambent.events.mappings.sources.nats.source import NatsSource
    from lambent.events.mappings.sources.rabbitmq.source import RabbitMqSource
    from lambent.events.mappings.sources.redis.source import RedisSource

    assert isinstance(source, MqttSource | NatsSource | RabbitMqSource | RedisSource)
    return source

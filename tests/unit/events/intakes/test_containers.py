"""Container events from a server that speaks Docker's API on a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from lambent.events.deliveries import Deliveries, Delivery
from lambent.events.intakes import containers
from lambent.events.intakes.containers import SCHEMA, ContainerEvents
from lambent.model.errors import PlatformError
from lambent.substrate.memory import MemoryTables
from lambent.substrate.ports import Tables

ACCOUNT = "123456789012"
FUNCTION = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:scan"
DESCRIBED = {
    "Config": {"User": "root", "Env": ["SECRET=1"]},
    "HostConfig": {"Privileged": True, "CapAdd": ["SYS_ADMIN"], "NetworkMode": "host", "PortBindings": {"80/tcp": []}},
    "Mounts": [{"Source": "/", "Destination": "/host", "RW": True}],
}


def event(number: int, action: str = "start") -> dict[str, Any]:
    return {
        "Type": "container",
        "Action": action,
        "Actor": {"ID": f"c{number}", "Attributes": {"image": "nginx", "name": f"web-{number}"}},
        "time": 1_700_000_000 + number,
        "timeNano": (1_700_000_000 + number) * 1_000_000_000,
    }


class Runtime:
    """Tells every event that it has since the time it is asked for, and then those that come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[dict[str, Any]] = []
        self.asked: list[dict[str, list[str]]] = []
        self.changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()
        self.path.unlink(missing_ok=True)

    async def tell(self, *events: dict[str, Any]) -> None:
        async with self.changed:
            self.events += events
            self.changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = urlsplit(head.split()[1])
            if path.path == "/events":
                await self._stream(parse_qs(path.query), writer)
            body = json.dumps(DESCRIBED).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
            writer.close()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)

    async def _stream(self, query: dict[str, list[str]], writer: asyncio.StreamWriter) -> None:
        self.asked.append(query)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        since, sent = float(query["since"][0]), 0
        while not writer.is_closing():
            for told in self.events[sent:]:
                if told["timeNano"] / 1e9 >= since:
                    line = json.dumps(told).encode() + b"\n"
                    # In two pieces: an event is not a chunk.
                    for piece in (line[:7], line[7:]):
                        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            sent = len(self.events)
            await writer.drain()
            async with self.changed:
                while len(self.events) <= sent and not writer.is_closing():
                    await self.changed.wait()


class World:
    def __init__(self, runtime: Runtime, tables: Tables, target: str = FUNCTION) -> None:
        self.taken: list[Delivery] = []
        self.failures: list[Exception] = []
        self.arrived = asyncio.Condition()
        deliveries = Deliveries()
        for service in ("lambda", "events"):
            deliveries.serve(service, self._deliver, self._exists)
        self.reader = ContainerEvents(
            tables,
            deliveries,
            socket=str(runtime.path),
            account=ACCOUNT,
            region="us-east-1",
            target=target,
            now=lambda: 1_700_000_000.0,
        )

    async def until(self, count: int) -> list[Any]:
        async with asyncio.timeout(10), self.arrived:
            await self.arrived.wait_for(lambda: len(self.taken) >= count)
        return [json.loads(delivery.body) for delivery in self.taken]

    async def _deliver(self, delivery: Delivery) -> None:
        if self.failures:
            raise self.failures.pop(0)
        async with self.arrived:
            self.taken.append(delivery)
            self.arrived.notify_all()

    async def _exists(self, account: str, arn: str) -> bool:
        return True


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "FIRST_PAUSE_S", 0.01)


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    runtime = Runtime(tmp_path / "docker.sock")
    await runtime.start()
    yield runtime
    await runtime.stop()


async def test_a_container_that_starts_is_told_with_what_a_check_looks_at(runtime: Runtime) -> None:
    world = World(runtime, MemoryTables([SCHEMA]))
    world.reader.start()
    await runtime.tell(event(1))
    (told,) = await world.until(1)
    assert (told["specversion"], told["type"], told["subject"]) == ("1.0", "container.start", "web-1")
    assert told["time"] == "2023-11-14T22:13:21Z"
    config = told["data"]["config"]
    assert (told["data"]["image"], config["privileged"], config["user"]) == ("nginx", True, "root")
    assert config["mounts"] == [{"source": "/", "target": "/host", "writable": True}]
    assert "SECRET" not in json.dumps(told)
    await world.reader.stop()


async def test_a_bus_is_given_the_data_and_is_told_the_type(runtime: Runtime) -> None:
    world = World(runtime, MemoryTables([SCHEMA]), f"arn:aws:events:us-east-1:{ACCOUNT}:event-bus/default")
    world.reader.start()
    await runtime.tell(event(1, "die"))
    (told,) = await world.until(1)
    assert (told["action"], "config" in told) == ("die", False)
    assert world.taken[0].attributes["DetailType"] == "container.die"
    await world.reader.stop()


async def test_what_came_while_nobody_read_is_told_once_the_runtime_is_back(runtime: Runtime) -> None:
    tables = MemoryTables([SCHEMA])
    world = World(runtime, tables)
    world.reader.start()
    await runtime.tell(event(1))
    await world.until(1)
    await runtime.stop()
    runtime.events += [event(2), event(3)]
    await runtime.start()
    assert [told["subject"] for told in await world.until(3)] == ["web-1", "web-2", "web-3"]
    await world.reader.stop()
    runtime.events.append(event(4))
    successor = World(runtime, tables)
    successor.reader.start()
    assert [told["subject"] for told in await successor.until(1)] == ["web-4"]
    await successor.reader.stop()


async def test_an_event_that_cannot_be_handed_over_is_not_passed_over(runtime: Runtime) -> None:
    world = World(runtime, MemoryTables([SCHEMA]))
    world.failures = [PlatformError("full", retry_safe=True)] * 3
    world.reader.start()
    await runtime.tell(event(1), event(2))
    assert [told["subject"] for told in await world.until(2)] == ["web-1", "web-2"]
    await world.reader.stop()


async def test_a_socket_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path / "docker.sock")
    world = World(runtime, MemoryTables([SCHEMA]))
    world.reader.start()
    await asyncio.sleep(0.03)
    await runtime.start()
    await runtime.tell(event(1))
    await world.until(1)
    await world.reader.stop()
    await runtime.stop()


async def test_the_first_time_only_what_comes_from_now_on_is_asked_for(runtime: Runtime) -> None:
    runtime.events = [{**event(1), "timeNano": 1_600_000_000_000_000_000}]
    world = World(runtime, MemoryTables([SCHEMA]))
    world.reader.start()
    await runtime.tell(event(2))
    assert [told["subject"] for told in await world.until(1)] == ["web-2"]
    filters = json.loads(runtime.asked[0]["filters"][0])
    assert filters == {"type": ["container"], "event": list(containers.ACTIONS)}
    await world.reader.stop()

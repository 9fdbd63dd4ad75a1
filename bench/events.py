"""What events and queues cost, beside bare SQLite. `python -m bench.events [BACKLOG]` (default 1,000,000 events).

The floor inserts the same rows by the same statement into the same tables, one commit for as many rows as there are
clients: what group commit can reach at best.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import uvloop
from bench.run import Caller, say

from lambent.awsapi.context import RequestContext
from lambent.events import outbox
from lambent.events.async_invoke import store as events
from lambent.events.async_invoke.invoker import AsyncInvoker
from lambent.events.async_invoke.model import Event
from lambent.events.deliveries import Deliveries
from lambent.events.queues import moves, store
from lambent.events.queues.queues import QueueService
from lambent.model.function import Version
from lambent.model.identifiers import new_request_id
from lambent.model.invocation import Invocation, Outcome, Target
from lambent.model.streams import ResponseStream
from lambent.substrate.sqlite.tables import SqliteTables, open_tables
from lambent.testing.node import LambentNode, make_zip

ACCOUNT, REGION = "123456789012", "us-east-1"
PAYLOAD = json.dumps({"order": 1, "text": "x" * 200}).encode()
CLIENTS = (1, 16, 64)
SECONDS = 2.0
SCHEMAS = [outbox.SCHEMA, events.SCHEMA, store.SCHEMA, moves.SCHEMA]
GOAL = 0.5


class Instantly:
    """Runs nothing."""

    def __init__(self) -> None:
        self.count = 0
        self.seen: dict[str, float] = {}
        self.saw_other = asyncio.Event()

    async def invoke(self, target: Target, _invocation: Invocation, _stream: ResponseStream | None = None) -> Outcome:
        self.count += 1
        self.seen.setdefault(target.version.name, time.perf_counter())
        if target.version.name == "other":
            self.saw_other.set()
        return Outcome(payload=b"null", executed_version="1")


def make_target(name: str) -> Target:
    version = Version(
        account=ACCOUNT,
        region=REGION,
        name=name,
        revision_id="r",
        runtime="python3.12",
        digest="0" * 64,
        code_size=1,
        last_modified="",
    )
    return Target(version=version, invoked_arn=version.function_arn)


def make_event(name: str) -> Event:
    return Event(
        account=ACCOUNT,
        region=REGION,
        function=name,
        qualifier="",
        request_id=new_request_id(),
        payload=PAYLOAD,
        trace_id="Root=1-00000000-000000000000000000000000;Sampled=0;Lineage=00000000:1",
        client_context="",
        accepted_at=time.time(),
    )


def open_in(folder: Path) -> SqliteTables:
    return open_tables(folder / f"{new_request_id()}.db", SCHEMAS)


def open_invoker(tables: SqliteTables, invoker: Instantly) -> AsyncInvoker:
    return AsyncInvoker(tables, invoker, lambda _account, _region, name, _qualifier: make_target(name), Deliveries())


async def rate(clients: int, work: Callable[[], Awaitable[Any]]) -> float:
    """Calls a second, by so many at once."""
    until, done = time.perf_counter() + SECONDS, 0

    async def repeat() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await work()
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(repeat() for _ in range(clients)))
    return done / (time.perf_counter() - began)


def floor_rate(folder: Path, clients: int) -> float:
    asyncio.run(open_in_and_close(folder / "floor.db"))
    connection = apsw.Connection(str(folder / "floor.db"))
    connection.pragma("synchronous", 2)
    until, rows, began = time.perf_counter() + SECONDS, 0, time.perf_counter()
    while time.perf_counter() < until:
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(clients):
            event = make_event("f")
            events.accept(connection, event, event.accepted_at)
        connection.execute("COMMIT")
        rows += clients
    elapsed_s = time.perf_counter() - began
    connection.close()
    (folder / "floor.db").unlink()
    return rows / elapsed_s


async def open_in_and_close(path: Path) -> None:
    await open_tables(path, SCHEMAS).close()


async def measure_accepting(folder: Path) -> dict[str, Any]:
    measured = {}
    for clients in CLIENTS:
        bare = await asyncio.to_thread(floor_rate, folder, clients)
        tables = open_in(folder)
        invoker = open_invoker(tables, Instantly())
        target = make_target("f")

        async def accept(invoker: AsyncInvoker = invoker, target: Target = target) -> None:
            await invoker.accept(target, Invocation(request_id=new_request_id(), payload=PAYLOAD))

        accepted = await rate(clients, accept)
        await tables.close()
        measured[str(clients)] = {"bare_per_s": bare, "accepted_per_s": accepted, "ratio": accepted / bare}
        say(f"{clients:3} clients: {accepted:,.0f} events/s accepted, bare {bare:,.0f} rows/s (x{accepted / bare:.2f})")
    return measured


async def measure_queues(folder: Path) -> dict[str, Any]:
    context = RequestContext(account=ACCOUNT, region=REGION, access_key="k", request_id="r", host="localhost")
    measured = {}
    for clients in (1, 16):
        tables = open_in(folder)
        call = QueueService(tables, Deliveries()).operations
        url = (await call["CreateQueue"](context, {"QueueName": "q"}))["QueueUrl"]

        async def send(call: Any = call, url: str = url) -> None:
            await call["SendMessage"](context, {"QueueUrl": url, "MessageBody": PAYLOAD.decode()})

        taken = [0]

        async def take(call: Any = call, url: str = url, taken: list[int] = taken) -> None:
            answer = await call["ReceiveMessage"](context, {"QueueUrl": url, "MaxNumberOfMessages": 10})
            entries = [
                {"Id": str(at), "ReceiptHandle": message["ReceiptHandle"]}
                for at, message in enumerate(answer.get("Messages", []))
            ]
            taken[0] += len(entries)
            if entries:
                await call["DeleteMessageBatch"](context, {"QueueUrl": url, "Entries": entries})

        sent = await rate(clients, send)
        began = time.perf_counter()
        while sum(int(number) for number in (await counts(call, context, url))):
            await asyncio.gather(*(take() for _ in range(clients)))
        got = taken[0] / (time.perf_counter() - began)
        await tables.close()
        measured[str(clients)] = {"sent_per_s": sent, "received_and_deleted_per_s": got}
        say(f"{clients:3} clients: {sent:,.0f} messages/s sent, {got:,.0f} received and deleted in tens")
    return measured


async def counts(call: Any, context: RequestContext, url: str) -> list[str]:
    answer = await call["GetQueueAttributes"](context, {"QueueUrl": url, "AttributeNames": ["All"]})
    return [answer["Attributes"]["ApproximateNumberOfMessages"]]


async def measure_backlog(folder: Path, backlog: int) -> dict[str, Any]:
    tables = open_in(folder)
    for chunk in batched(backlog, 5_000):
        await tables.write(lambda connection, chunk=chunk: fill(connection, len(chunk)))  # type: ignore[misc]
    disk_mb = size_mb(folder)
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    instantly = Instantly()
    invoker = open_invoker(tables, instantly)
    await invoker.recover()
    began = time.perf_counter()
    await invoker.start()
    asked = time.perf_counter()
    await invoker.accept(make_target("other"), Invocation(request_id=new_request_id(), payload=b"{}"))
    await instantly.saw_other.wait()
    other_s = instantly.seen["other"] - asked
    rates = []
    for _ in range(2):
        count, at = instantly.count, time.perf_counter()
        await asyncio.sleep(SECONDS)
        rates.append((instantly.count - count) / (time.perf_counter() - at))
    after_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    await invoker.stop()
    await tables.close()
    say(
        f"backlog of {backlog:,}: {disk_mb:,.0f} MB on disk, {after_mb - before_mb:.1f} MB more memory in draining, "
        f"{rates[0]:,.0f} and {rates[1]:,.0f} events/s drained, another function's event after {other_s * 1000:.0f} ms"
    )
    return {
        "events": backlog,
        "disk_mb": disk_mb,
        "more_memory_mb": after_mb - before_mb,
        "drained_per_s": rates,
        "other_after_ms": other_s * 1000,
        "first_after_ms": (instantly.seen["f"] - began) * 1000,
    }


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.glob("*.db*")) / 1e6


def batched(count: int, size: int) -> list[range]:
    return [range(at, min(at + size, count)) for at in range(0, count, size)]


def fill(connection: Any, count: int) -> None:
    for _ in range(count):
        event = make_event("f")
        events.accept(connection, event, event.accepted_at)


def measure_latency(folder: Path) -> dict[str, Any]:
    """From acceptance to the end of the attempt, one event at a time, on a real node."""
    with LambentNode(folder / "node", arguments=["--log-level", "warning"]).running() as node:
        caller = Caller(node)
        caller.create_from("event", make_zip({"app.py": "def handler(event, context):\n    return 1\n"}), timeout_s=3)
        path = "/2015-03-31/functions/event/invocations"
        caller.send("POST", path, PAYLOAD)
        for _ in range(200):
            caller.send_event("event", PAYLOAD)
            time.sleep(0.005)
        until = time.monotonic() + 30
        while True:
            ended = caller.send("GET", "/_lambent/events?function=event&state=done&limit=1000")["events"]
            if len(ended) == 200 or time.monotonic() > until:
                break
        waits = sorted((event["ended_at"] - event["accepted_at"]) * 1000 for event in ended)
    p50, p99 = statistics.median(waits), waits[int(len(waits) * 0.99)]
    say(f"accepted to done at light load, {len(waits)} events: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    return {"events": len(waits), "p50_ms": p50, "p99_ms": p99}


def main() -> int:
    backlog = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="lambent-bench-", dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        (folder / "backlog").mkdir()
        accepting = uvloop.run(measure_accepting(folder))
        queues = uvloop.run(measure_queues(folder))
        latency = measure_latency(folder)
        found = uvloop.run(measure_backlog(folder / "backlog", backlog))
    results = {"accepting": accepting, "queues": queues, "latency": latency, "backlog": found}
    file = Path(__file__).parent / "results" / f"events-{time.strftime('%Y%m%dT%H%M%S')}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(results, indent=1))
    for clients, row in accepting.items():
        reached = row["ratio"] >= GOAL
        say(f"{'ok  ' if reached else 'MISS'} accepted / bare at {clients}: {row['ratio']:.2f} (goal >= {GOAL})")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Nodes and environments killed at random moments under all that is not asynchronous, with producers and consumers.

What is asserted of an acknowledged send, publish, replay or schedule:

- It was handled at least once, or lies in the queue of its dead letters; nothing is left over in between.
- A group of a FIFO queue is handled without a gap: what follows a message is the next one of its group (of those that
  were acknowledged and are no dead letters), or an earlier one, from which the order begins again. The latter is the
  redelivery of what was under way when something died.
- What was deleted by an acknowledged DeleteMessage, within its visibility timeout, is in no answer to a ReceiveMessage
  that was begun afterwards.
- A one-time schedule fired once: whatever came of it carries one execution id. A rule with a rate sent one event for
  each of its due times, whichever of them a node was down at.

`LAMBENT_KILL_ROUNDS=200 pytest -s` on this file runs as many rounds and prints the counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import random
import signal
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PYTHON, ROLE, connect
from tests.faults.events.noting import NOTE

from lambent.testing.node import LambentNode, make_zip

ROUNDS = int(os.environ.get("LAMBENT_KILL_ROUNDS", "4"))
GROUPS = ("a", "b", "c")
TIMEOUT_S = 3
VISIBILITY_S = 4
"""Of the queues that mappings read; not less than the function's timeout."""
OWN_VISIBILITY_S = 2
"""Of the queue whose consumers receive and delete themselves."""
ARCHIVED = 20
PACE_S = 0.02
SEEN = "seen.fifo"
HANDLER = (
    NOTE
    + """
def handler(event, context):
    # Handled is what was noted: the note is on disk before the function answers.
    note([record["Sns"]["Message"] if "Sns" in record else record["body"] for record in event["Records"]])
"""
)

Send = Callable[[str], Any]


@dataclasses.dataclass
class Ledger:
    """What the outside was promised and what it saw."""

    acknowledged: dict[str, list[str]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    received: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    """By consumers of their own: body, and when the call began that brought it."""
    deleted_at: dict[str, float] = dataclasses.field(default_factory=dict)
    """When the deletion had been acknowledged, of what was surely still in flight."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        # A process may end while its files are read.
        with contextlib.suppress(OSError, ValueError):
            children[int((entry / "stat").read_text().rpartition(")")[2].split()[1])].append(int(entry.name))
    found = [pid]
    for one in found:
        found += children[one]
    return found[1:]


class World:
    """A node with one of everything, its producers and its consumers."""

    def __init__(self, node: LambentNode) -> None:
        self.ledger = Ledger()
        self.stop = threading.Event()
        self.functions, self.sqs = connect(node), connect(node, "sqs")
        self.sns, self.events, self.scheduler = (connect(node, name) for name in ("sns", "events", "scheduler"))
        self.urls: dict[str, str] = {}
        self.threads: list[threading.Thread] = []

    def queue(self, name: str, *, dead: str = "", **attributes: str) -> str:
        if name.endswith(".fifo"):
            attributes["FifoQueue"] = "true"
        if dead:
            attributes["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": self.arn(dead), "maxReceiveCount": 10})
        self.urls[name] = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return self.arn(name)

    def arn(self, name: str) -> str:
        account = self.urls[name].split("/")[-2]
        return f"arn:aws:sqs:us-east-1:{account}:{name}"

    def build(self) -> None:
        for name in (SEEN, "dead", "dead.fifo", "dead-topic", "fan", "replayed", "ticks", "timed"):
            self.queue(name)
        self.queue("standard", dead="dead", VisibilityTimeout=str(VISIBILITY_S))
        self.queue("ordered.fifo", dead="dead.fifo", VisibilityTimeout=str(VISIBILITY_S))
        self.queue("own", VisibilityTimeout=str(OWN_VISIBILITY_S))
        account = self.urls["own"].split("/")[-2]
        function = self.functions.create_function(
            FunctionName="f",
            Runtime=PYTHON,
            Role=ROLE,
            Handler="app.handler",
            Timeout=TIMEOUT_S,
            Code={"ZipFile": make_zip({"app.py": HANDLER})},
            Environment={"Variables": {"SEEN": f"{account}/{SEEN}"}},
        )["FunctionArn"]
        self.functions.get_waiter("function_active_v2").wait(FunctionName="f")
        # An asynchronous invocation whose environment is killed is not made again here, and is kept.
        destination = {"OnFailure": {"Destination": self.arn("dead-topic")}}
        self.functions.put_function_event_invoke_config(
            FunctionName="f", MaximumRetryAttempts=0, DestinationConfig=destination
        )
        for name in ("standard", "ordered.fifo"):
            self.functions.create_event_source_mapping(FunctionName="f", EventSourceArn=self.arn(name), BatchSize=10)
        self.topic = self.sns.create_topic(Name="news")["TopicArn"]
        raw = {"RawMessageDelivery": "true"}
        self.sns.subscribe(TopicArn=self.topic, Protocol="sqs", Endpoint=self.arn("fan"), Attributes=raw)
        self.sns.subscribe(TopicArn=self.topic, Protocol="lambda", Endpoint=function)
        self._build_archive()
        self.events.put_rule(Name="tick", ScheduleExpression="rate(1 minute)")
        self.events.put_targets(Rule="tick", Targets=[{"Id": "queue", "Arn": self.arn("ticks")}])
        self.ticking_since = time.monotonic()

    def _build_archive(self) -> None:
        bus = self.events.create_event_bus(Name="shop")["EventBusArn"]
        archive = self.events.create_archive(ArchiveName="kept", EventSourceArn=bus)["ArchiveArn"]
        self.bus, self.archive = bus, archive
        entry = {"EventBusName": "shop", "Source": "shop", "DetailType": "sold"}
        entries = [{**entry, "Detail": json.dumps({"n": number})} for number in range(ARCHIVED)]
        for at in range(0, ARCHIVED, 10):
            self.events.put_events(Entries=entries[at : at + 10])
        # Only what is replayed reaches the queue.
        self.events.put_rule(
            Name="again", EventBusName="shop", EventPattern=json.dumps({"replay-name": [{"exists": True}]})
        )
        self.events.put_targets(
            Rule="again", EventBusName="shop", Targets=[{"Id": "queue", "Arn": self.arn("replayed")}]
        )

    def start(self) -> None:
        sqs = self.sqs
        self._produce("standard", lambda body: sqs.send_message(QueueUrl=self.urls["standard"], MessageBody=body))
        self._produce("own", lambda body: sqs.send_message(QueueUrl=self.urls["own"], MessageBody=body))
        self._produce("topic", lambda body: self.sns.publish(TopicArn=self.topic, Message=body))
        self._produce("timed", self._schedule, pace_s=0.2)
        self._produce("replay", self._replay, pace_s=0.5)
        for group in GROUPS:
            self._produce(group, lambda body, group=group: self._send_ordered(group, body))  # type: ignore[misc]
        for _ in range(2):
            self._begin(self._consume)

    def finish(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def drain(self, name: str) -> list[dict[str, Any]]:
        """All that lies in a queue, in its order, deleted."""
        url, found = self.urls[name], []
        while answer := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            found += answer
            entries = [{"Id": str(at), "ReceiptHandle": one["ReceiptHandle"]} for at, one in enumerate(answer)]
            self.sqs.delete_message_batch(QueueUrl=url, Entries=entries)
        return found

    def count(self, name: str) -> int:
        answer = self.sqs.get_queue_attributes(QueueUrl=self.urls[name], AttributeNames=["All"])["Attributes"]
        kinds = ("", "NotVisible", "Delayed")
        return sum(int(answer[f"ApproximateNumberOfMessages{kind}"]) for kind in kinds)

    def _begin(self, work: Callable[..., None], *values: Any) -> None:
        self.threads.append(threading.Thread(target=work, args=values))
        self.threads[-1].start()

    def _produce(self, kind: str, send: Send, pace_s: float = PACE_S) -> None:
        def run() -> None:
            number = 0
            while not self.stop.is_set():
                number += 1
                body = f"{kind}-{number}"
                # A call that the kill cut short was not acknowledged, whatever became of it.
                with contextlib.suppress(Exception):
                    send(body)
                    self.ledger.acknowledged[kind].append(body)
                self.stop.wait(pace_s)

        self._begin(run)

    def _send_ordered(self, group: str, body: str) -> None:
        self.sqs.send_message(
            QueueUrl=self.urls["ordered.fifo"], MessageGroupId=group, MessageDeduplicationId=body, MessageBody=body
        )

    def _schedule(self, name: str) -> None:
        at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2)
        told = json.dumps({"name": name, "execution": "<aws.scheduler.execution-id>"})
        self.scheduler.create_schedule(
            Name=name,
            ScheduleExpression=f"at({at:%Y-%m-%dT%H:%M:%S})",
            FlexibleTimeWindow={"Mode": "OFF"},
            ActionAfterCompletion="DELETE",
            Target={"Arn": self.arn("timed"), "RoleArn": ROLE, "Input": told},
        )

    def _replay(self, name: str) -> None:
        now = datetime.datetime.now(datetime.UTC)
        self.events.start_replay(
            ReplayName=name,
            EventSourceArn=self.archive,
            EventStartTime=now - datetime.timedelta(hours=2),
            EventEndTime=now,
            Destination={"Arn": self.bus},
        )

    def _consume(self) -> None:
        url = self.urls["own"]
        while not self.stop.is_set():
            began_at = time.monotonic()
            try:
                answer = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=5, WaitTimeSeconds=1)
                for message in answer.get("Messages", ()):
                    self.ledger.received.append((message["Body"], began_at))
                for message in answer.get("Messages", ()):
                    self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                    if (now := time.monotonic()) < began_at + OWN_VISIBILITY_S:
                        self.ledger.deleted_at[message["Body"]] = now
            except Exception:
                self.stop.wait(PACE_S)


def wait_for(look: Callable[[], bool], what: str) -> None:
    deadline_at = time.monotonic() + 120
    while not look():
        assert time.monotonic() < deadline_at, what
        time.sleep(0.1)


def break_things(node: LambentNode, chance: random.Random) -> int:
    """Kill some processes below the node at random moments, then the node. How many of the former."""
    killed = 0
    until = time.monotonic() + chance.uniform(0.2, 2.5)
    while (left_s := until - time.monotonic()) > 0:
        time.sleep(min(left_s, chance.uniform(0.2, 0.8)))
        if below := descendants(node.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(below), signal.SIGKILL)
                killed += 1
    node.kill()
    return killed


# The SDK leaves connections open that its peer broke off.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_was_acknowledged_is_handled_in_order_and_what_was_deleted_stays_so(tmp_path: Path) -> None:
    chance = random.Random(44)
    node = LambentNode(tmp_path / "data", port=free_port())
    node.start()
    world = World(node)
    world.build()
    world.start()
    killed = 0
    try:
        for _ in range(ROUNDS):
            killed += break_things(node, chance)
            node.start()
        time.sleep(chance.uniform(0.2, 1.0))
        world.finish()
        wait_for(lambda: not world.count("standard") and not world.count("ordered.fifo"), "messages are stuck")
        judge(world, killed)
    finally:
        world.finish()
        node.stop()


def judge(world: World, killed: int) -> None:
    promised = {kind: set(bodies) for kind, bodies in world.ledger.acknowledged.items()}
    own = {body for body, _ in world.ledger.received}
    dead: set[str] = set()
    fanned: set[str] = set()
    handled: list[str] = []
    fired: dict[str, set[str]] = defaultdict(set)
    ticks: dict[str, set[str]] = defaultdict(set)
    minutes = int((time.monotonic() - world.ticking_since) // 60)
    replayed: dict[str, set[int]] = defaultdict(set)

    def is_complete() -> bool:
        own.update(one["Body"] for one in world.drain("own"))
        fanned.update(one["Body"] for one in world.drain("fan"))
        handled.extend(body for one in world.drain(SEEN) for body in json.loads(one["Body"]))
        dead.update(one["Body"] for name in ("dead", "dead.fifo") for one in world.drain(name))
        for one in world.drain("dead-topic"):
            records = json.loads(one["Body"])["requestPayload"]["Records"]
            dead.update(record["Sns"]["Message"] for record in records)
        for one in world.drain("timed"):
            told = json.loads(one["Body"])
            fired[told["name"]].add(told["execution"])
        for one in world.drain("ticks"):
            event = json.loads(one["Body"])
            ticks[event["time"]].add(event["id"])
        for one in world.drain("replayed"):
            event = json.loads(one["Body"])
            replayed[event["replay-name"]].add(event["detail"]["n"])
        reached = {*handled, *dead}
        return (
            all(promised[kind] <= reached for kind in ("standard", "topic", *GROUPS))
            and promised["topic"] <= fanned
            and promised["own"] <= own
            and promised["timed"] <= fired.keys()
            and len(ticks) >= minutes
            and all(len(replayed[name]) == ARCHIVED for name in promised["replay"])
        )

    try:
        wait_for(is_complete, "what was acknowledged is missing")
    finally:
        print(f"rounds {ROUNDS}, processes below nodes killed {killed}")
        print("acknowledged", {kind: len(bodies) for kind, bodies in sorted(promised.items())})
        print(
            f"handled {len(handled)}, of these again {len(handled) - len(set(handled))}, dead letters {len(dead)}; "
            f"fanned out to a queue {len(fanned)}; own consumers received {len(world.ledger.received)}, "
            f"surely deleted {len(world.ledger.deleted_at)}; schedules fired {len(fired)}; "
            f"a rate of a minute fired {len(ticks)} times in {minutes} minutes; "
            f"events replayed {sum(map(len, replayed.values()))}"
        )
    for group in GROUPS:
        check_order(group, handled, promised[group] - dead)
    for body, began_at in world.ledger.received:
        assert began_at <= world.ledger.deleted_at.get(body, began_at), f"{body} was received after its deletion"
    assert all(len(executions) == 1 for executions in fired.values())
    assert all(len(events) == 1 for events in ticks.values())
    # One more for the first, which is at once.
    assert len(ticks) <= minutes + 2
    assert all(promised.values())


def check_order(group: str, handled: list[str], acknowledged: set[str]) -> None:
    expected = {int(body.partition("-")[2]) for body in acknowledged}
    before = 0
    for number in (int(body.partition("-")[2]) for body in handled if body.startswith(f"{group}-")):
        left_out = expected.intersection(range(before + 1, number))
        assert not left_out, f"{group}-{number} was handled before {sorted(left_out)}"
        before = number

"""A member of a consumer group, by confluent-kafka.

librdkafka calls back about partitions from within its poll, so that one thread alone polls and does what changes the
assignment; the loop hands it commands, and gets the messages. It assigns no partition by itself: the poller opens each
at its own checkpoint, and until then nothing of it is fetched.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import confluent_kafka
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from lambent.events.mappings.sources.kafka.config import Settings, read_settings
from lambent.events.mappings.sources.kafka.event import make_record
from lambent.events.mappings.sources.ports import Configuration, Connections, Record, SourceLost, Start

READ_AHEAD = 5_000
"""Records of one partition in memory beyond which no more of it is fetched."""
COMMAND_DELAY_S = 0.05
"""How long a command may wait for the thread, which nothing can wake from its poll."""
REQUEST_TIMEOUT_S = 10
_CHUNK = 500
_FATAL = {KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError._FATAL, KafkaError.GROUP_AUTHORIZATION_FAILED}


async def open_source(configuration: Configuration, connections: Connections) -> KafkaSource:
    """Raises SourceLost where no broker answers or the topic is not there."""
    source = KafkaSource(read_settings(configuration, connections), asyncio.get_running_loop())
    try:
        await source.start()
    except BaseException:
        await source.close()
        raise
    return source


class _Partition:
    def __init__(self) -> None:
        self.records: deque[Record] = deque()
        self.changed = asyncio.Event()
        self.paused = False


class KafkaSource:
    """The partitions that the group gives to this member, each read by itself."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._loop = loop
        self._commands: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]]] = queue.SimpleQueue()
        self._assigned: set[int] = set()
        self._open: dict[int, _Partition] = {}
        self._changed = asyncio.Event()
        self._lost: SourceLost | None = None
        self._ending = threading.Event()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._consumer: Consumer = Consumer(
            {
                "client.id": "lambent",
                "bootstrap.servers": settings.servers,
                "group.id": settings.group,
                "enable.auto.commit": False,
                # What the topic no longer has cannot be read; what it has is.
                "auto.offset.reset": "earliest",
                "partition.assignment.strategy": "cooperative-sticky",
                "queued.max.messages.kbytes": 16_384,
                "error_cb": self._hear_error,
                **settings.client,
            },
            logger=None,
        )
        self._thread = threading.Thread(target=self._run, name="kafka consumer", daemon=True)
        self._started = False

    async def start(self) -> None:
        self._started = True
        self._thread.start()
        found = await self._ask(lambda: self._consumer.list_topics(self._settings.topic, timeout=REQUEST_TIMEOUT_S))
        error = found.topics[self._settings.topic].error
        if error is not None:
            raise SourceLost(f"Kafka: the topic {self._settings.topic}: {error.str()}")
        await self._ask(
            lambda: self._consumer.subscribe(
                [self._settings.topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
        )

    async def partitions(self) -> Sequence[str]:
        self._raise_lost()
        return [self._name(number) for number in sorted(self._assigned)]

    async def wait_change(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    async def open(self, partition: str, at: str | Start) -> None:
        number = self._number(partition)
        await self._ask(lambda: self._start_fetching(number, at))

    async def read(self, partition: str, max_records: int, wait_s: float) -> Sequence[Record]:
        fetched = self._open.get(self._number(partition))
        if fetched is None:
            self._raise_lost()
            return []  # given to another member meanwhile
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while not fetched.records and self._lost is None and self._number(partition) in self._open:
                    fetched.changed.clear()
                    await fetched.changed.wait()
        if not fetched.records:
            self._raise_lost()
        taken = [fetched.records.popleft() for _ in range(min(max_records, len(fetched.records)))]
        if fetched.paused and len(fetched.records) < READ_AHEAD // 2:
            fetched.paused = False
            self._tell(lambda: self._consumer.resume([self._locate(partition)]))
        return taken

    async def commit(self, partition: str, checkpoint: str) -> None:
        """Asynchronous at the broker: the poller's own checkpoint is what counts; a lost commit repeats nothing."""
        position = self._locate(partition, int(checkpoint) + 1)
        self._tell(lambda: self._consumer.commit(offsets=[position], asynchronous=True))

    async def lag(self) -> Mapping[str, int]:
        """`messages`: of this member's partitions, not yet committed."""
        measured: Mapping[str, int] = await self._ask(self._measure_lag)
        return measured

    async def drop(self) -> None:
        """The group's offsets stay at the cluster and expire there, as the contract's own do."""

    async def close(self) -> None:
        self._ending.set()
        if self._started:
            await self._ended
            await asyncio.to_thread(self._thread.join)

    # --- on the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ending.is_set():
            self._run_commands()
            try:
                self._poll()
            except (KafkaException, RuntimeError) as exc:
                self._post(self._lose, f"Kafka: {exc}")
                self._ending.wait(1)
        self._consumer.close()
        self._run_commands()
        self._post(self._ended.set_result, None)

    def _poll(self) -> None:
        first = self._consumer.poll(COMMAND_DELAY_S)
        if first is not None:
            self._post(self._take, [first, *self._consumer.consume(_CHUNK, 0)])

    def _run_commands(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                command, answer = self._commands.get_nowait()
                try:
                    result = command()
                except Exception as exc:  # whatever it is belongs to who asked
                    self._post(_settle, answer, None, exc)
                else:
                    self._post(_settle, answer, result, None)

    def _on_assign(self, consumer: Consumer, given: list[TopicPartition]) -> None:
        consumer.incremental_assign([])  # taken note of; fetched from when the poller says where to begin
        self._post(self._note_assigned, {entry.partition for entry in given}, set())

    def _on_revoke(self, consumer: Consumer, taken: list[TopicPartition]) -> None:
        fetched = {entry.partition for entry in consumer.assignment()}
        consumer.incremental_unassign([entry for entry in taken if entry.partition in fetched])
        self._post(self._note_assigned, set(), {entry.partition for entry in taken})

    def _start_fetching(self, number: int, at: str | Start) -> None:
        position = TopicPartition(self._settings.topic, number)
        if any(entry.partition == number for entry in self._consumer.assignment()):
            self._consumer.incremental_unassign([position])
        position.offset = self._find_offset(number, at)
        # In this order on the loop: what was fetched before is gone before anything of the new position arrives.
        self._post(self._note_open, number)
        self._consumer.incremental_assign([position])

    def _find_offset(self, number: int, at: str | Start) -> int:
        if isinstance(at, str):
            return int(at) + 1
        position = TopicPartition(self._settings.topic, number)
        (committed,) = self._consumer.committed([position], timeout=REQUEST_TIMEOUT_S)
        if committed.offset >= 0:  # a group that exists goes on where it is, as the contract has it
            return int(committed.offset)
        if at.position == "AT_TIMESTAMP":
            position.offset = round((at.timestamp or 0) * 1000)
            (found,) = self._consumer.offsets_for_times([position], timeout=REQUEST_TIMEOUT_S)
            if found.offset >= 0:
                return int(found.offset)
        if at.position == "TRIM_HORIZON":
            return int(OFFSET_BEGINNING)
        _, end = self._consumer.get_watermark_offsets(position, timeout=REQUEST_TIMEOUT_S)
        return int(end)

    def _measure_lag(self) -> Mapping[str, int]:
        mine = [TopicPartition(self._settings.topic, number) for number in self._assigned]
        lag = 0
        for entry in self._consumer.committed(mine, timeout=REQUEST_TIMEOUT_S) if mine else ():
            begin, end = self._consumer.get_watermark_offsets(entry, timeout=REQUEST_TIMEOUT_S)
            lag += end - max(entry.offset, begin)
        return {"messages": lag}

    def _hear_error(self, error: KafkaError) -> None:
        if error.code() in _FATAL:
            self._post(self._lose, f"Kafka: {error.str()}")

    def _post(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(function, *arguments)

    # --- on the loop -------------------------------------------------------------------------------------------------

    async def _ask(self, command: Callable[[], Any]) -> Any:
        try:
            return await self._tell(command)
        except KafkaException as exc:
            raise SourceLost(f"Kafka: {exc.args[0].str() if exc.args else exc}") from exc
        except RuntimeError as exc:  # the consumer is closed
            raise SourceLost(f"Kafka: {exc}") from exc

    def _tell(self, command: Callable[[], Any]) -> asyncio.Future[Any]:
        answer = self._loop.create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._commands.put((command, answer))
        return answer

    def _note_assigned(self, given: set[int], taken: set[int]) -> None:
        self._assigned = (self._assigned | given) - taken
        for number in taken:
            gone = self._open.pop(number, None)
            if gone is not None:
                gone.records.clear()
                gone.changed.set()
        self._changed.set()

    def _note_open(self, number: int) -> None:
        self._open[number] = _Partition()

    def _take(self, messages: Sequence[confluent_kafka.Message]) -> None:
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    self._lose(f"Kafka: {error.str()}")
                continue
            fetched = self._open.get(_number_of(message))
            if fetched is None:
                continue
            fetched.records.append(_read_message(message))
            fetched.changed.set()
            if len(fetched.records) >= READ_AHEAD and not fetched.paused:
                fetched.paused = True
                here = TopicPartition(self._settings.topic, _number_of(message))
                self._tell(lambda here=here: self._consumer.pause([here]))  # type: ignore[misc]

    def _lose(self, message: str) -> None:
        self._lost = self._lost or SourceLost(message)
        self._changed.set()
        for fetched in self._open.values():
            fetched.changed.set()

    def _raise_lost(self) -> None:
        if self._lost is not None:
            raise self._lost

    def _name(self, number: int) -> str:
        return f"{self._settings.topic}-{number}"

    def _number(self, partition: str) -> int:
        return int(partition.rpartition("-")[2])

    def _locate(self, partition: str, offset: int | None = None) -> TopicPartition:
        place = TopicPartition(self._settings.topic, self._number(partition))
        if offset is not None:
            place.offset = offset
        return place


def _settle(answer: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)


def _number_of(message: confluent_kafka.Message) -> int:
    number = message.partition()
    assert number is not None
    return number


def _read_message(message: confluent_kafka.Message) -> Record:
    topic, offset = message.topic(), message.offset()
    assert topic is not None and offset is not None
    headers: Any = message.headers() or ()
    key: Any = message.key()
    value: Any = message.value()
    return make_record(
        topic=topic,
        partition=_number_of(message),
        offset=offset,
        timestamp=message.timestamp(),
        key=key,
        value=value,
        headers=headers,
    )

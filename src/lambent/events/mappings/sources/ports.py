"""What a polled source implements. There are two kinds, and the pollers know nothing else of any of them.

A *queue* hands out messages, each of which is given back by itself: done with, or to be had again. A *stream* has
partitions of ordered records; how far a partition was read is one checkpoint, which the poller keeps as well.

A source's folder has `config.py` (the mapping's configuration to settings, refusing what cannot be served), `source.py`
(the client) and `event.py` (the contract's shapes), and names itself in one `SourceKind`, listed in `kinds.py`. The
client library is imported when a source is opened, not before: it may be an extra that is not installed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from lambent.model.errors import OperatorError, PlatformError

Values = Mapping[str, Any]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a queue, received and not yet settled."""

    id: str
    """What a function names it by in `batchItemFailures`; unique among those received together."""
    event: Values
    """As it stands in the function's event, JSON without bytes. The filter sees it with `data` in its data key."""
    data: bytes
    """The decoded content (`body`, `data`), which filters look into."""
    at: float
    """When it was sent, seconds since 1970."""
    group: str = ""
    """Messages of one group are handled one after the other, and one that fails holds back those behind it."""
    receipt: Any = None
    """The source's own: what it settles the message by."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One record of a stream's partition."""

    id: str
    """What a function names it by in `batchItemFailures`: a sequence number; of Kafka `TOPIC-PARTITION-OFFSET`, which
    functions name as `{"partition": "TOPIC-PARTITION", "offset": OFFSET}`."""
    event: Values
    data: bytes
    at: float
    checkpoint: str
    """Where to go on after this record: what `open` takes and `commit` is told. Opaque to the poller."""
    group: str = ""
    """The key: with a parallelisation factor, records of the same key stay in order."""


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Where to begin in a partition that has no checkpoint yet."""

    position: Literal["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"] = "LATEST"
    timestamp: float | None = None
    """For AT_TIMESTAMP: seconds since 1970."""


class SourceLost(PlatformError):
    """The connection is gone or refused; the poller closes the source and opens it again after a pause.

    The message is what the owner of the mapping reads as its LastProcessingResult: name what to do, no credentials.
    """


class QueueSource(Protocol):
    async def receive(self, max_messages: int, wait_s: float) -> Sequence[Message]:
        """At least one as soon as there is one, at most `max_messages`; none after `wait_s`. Safe to cancel: what
        was received by a cancelled call comes again. May be called by several pollers at once. Raises SourceLost."""
        ...

    async def settle(self, done: Sequence[Message], again: Sequence[Message]) -> None:
        """`done` never comes again, `again` does: at once, or after the source's own delay. Raises SourceLost."""
        ...

    async def close(self) -> None:
        """What is not settled comes again."""
        ...

    async def drop(self) -> None:
        """The mapping was deleted: remove what the source holds for it there (a durable consumer, a session). Called
        before `close`."""
        ...


@runtime_checkable
class Measured(Protocol):
    """A source that can tell how far behind its mapping is."""

    async def lag(self) -> Mapping[str, int]:
        """By what is measured, with its unit in the name: slotLagBytes, messages. Raises SourceLost."""
        ...


class StreamSource(Protocol):
    async def partitions(self) -> Sequence[str]:
        """The partitions that this node is to read now. Raises SourceLost."""
        ...

    async def wait_change(self) -> None:
        """Return when `partitions` may give another answer than last time; never, where they are fixed."""
        ...

    async def open(self, partition: str, at: str | Start) -> None:
        """Read from a checkpoint (the record after it) or from where the mapping starts. Opens again at will."""
        ...

    async def read(self, partition: str, max_records: int, wait_s: float) -> Sequence[Record]:
        """The next records in order, at least one as soon as there is one; none after `wait_s`. Only one call for a
        partition at a time; partitions are read concurrently. Raises SourceLost."""
        ...

    async def commit(self, partition: str, checkpoint: str) -> None:
        """All up to here is done with and durably noted by the poller: acknowledge it where the source wants that."""
        ...

    async def close(self) -> None: ...

    async def drop(self) -> None:
        """The mapping was deleted: remove what the source holds for it there (a consumer group, a slot). Called before
        `close`."""
        ...


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """What a source is opened with."""

    uuid: str
    """Of the mapping: names consumer groups, durable consumers and slots that nobody else uses."""
    account: str
    region: str
    function_arn: str
    values: Values
    """The mapping's members by their names in the contract: EventSourceArn, Topics, StartingPosition, ..."""

    @property
    def source_arn(self) -> str:
        return str(self.values.get("EventSourceArn", ""))


Connections = Mapping[str, Mapping[str, str]]
"""`[connections.NAME]` of lambent.toml: `url` and what else the operator gives to a kind of source."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the contract lets a mapping of this kind say."""

    takes: frozenset[str]
    """Members beyond those that every mapping has (FunctionName, EventSourceArn, Enabled, BatchSize, FilterCriteria,
    MaximumBatchingWindowInSeconds, Tags)."""
    needs: frozenset[str] = frozenset()
    default_batch_size: int = 100
    max_batch_size: int = 10_000
    free_batch_size: int = 10_000
    """Beyond it MaximumBatchingWindowInSeconds has to be at least 1."""
    max_window_s: int = 300


STREAM_FIELDS = frozenset(
    {
        "StartingPosition",
        "StartingPositionTimestamp",
        "DestinationConfig",
        "MaximumRecordAgeInSeconds",
        "MaximumRetryAttempts",
        "BisectBatchOnFunctionError",
        "FunctionResponseTypes",
    }
)
"""Of streams with checkpoints; those read by shards may add PARALLEL_FIELDS."""
PARALLEL_FIELDS = frozenset({"ParallelizationFactor", "TumblingWindowInSeconds"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SourceKind:
    """One kind of source, as `kinds.py` lists it."""

    name: str
    style: Literal["queue", "stream"]
    claims: Callable[[Values], bool]
    """Whether these members of a request name a source of this kind (usually by the service in EventSourceArn)."""
    rules: Callable[[Values], Rules]
    check: Callable[[Configuration, Connections], Awaitable[None]]
    """Of `config.py`, at create and update, without connecting. Raises CallerError `InvalidParameterValueException`,
    also for a connection that the operator has not named, or an extra that is missing."""
    open: Callable[[Configuration, Connections], Awaitable[QueueSource | StreamSource]]
    """Connect. Raises SourceLost, OperatorError (a missing extra)."""
    shape: Callable[[Configuration, Sequence[Values]], Values]
    """Of `event.py`: the function's event of the records' `event`."""
    batch_info: Callable[[Configuration, str, Sequence[Record]], tuple[str, Values]] | None = None
    """Of `event.py`, streams only: name and value of the member of an on-failure record that says which records
    of which partition it is about (`KafkaBatchInfo`); None leaves the general `StreamBatchInfo`."""
    data_key: str
    """The key of a record's `event` that filters see replaced by the decoded data: `body`, `value`, `data`."""
    marks_start: bool = False
    """Opening it marks at the source from where on records are kept for the mapping, which is therefore not Enabled
    before."""


def split_source(arn: str) -> tuple[str, str, str, str]:
    """(service, region, account, resource) of a source's ARN; empty for what is not one."""
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn":
        return "", "", "", ""
    return parts[2], parts[3], parts[4], parts[5]


def missing_extra(extra: str) -> OperatorError:
    return OperatorError(f"This source needs a package that is not installed: pip install 'lambent[{extra}]'")

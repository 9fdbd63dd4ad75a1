"""How records become batches: by number, by size and by time. No I/O and no clock; times are handed in."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from lambent.events.mappings.sources.ports import Message, Record

Item = TypeVar("Item", Message, Record)

MAX_PAYLOAD_BYTES = 6 * 1_048_576 - 65_536
"""Of the records of one invocation: the limit of a synchronous one, less what surrounds them."""


def measure(item: Message | Record) -> int:
    return len(msgspec.json.encode(item.event)) + 1


class Gathering:
    """A batch while it is gathered: it is full by number or by bytes, or its window has passed."""

    def __init__(self, *, size: int, window_s: float) -> None:
        self._size = size
        self._window_s = window_s
        self._bytes = 0
        self._begun_at: float | None = None
        self.count = 0

    @property
    def room(self) -> int:
        return self._size - self.count

    def add(self, items: Sequence[Message | Record], now: float) -> None:
        if items and self._begun_at is None:
            self._begun_at = now
        self.count += len(items)
        self._bytes += sum(map(measure, items))

    def wait_s(self, now: float) -> float:
        """How long to wait for more; 0 or less when the batch is to go. Only after the first record."""
        assert self._begun_at is not None
        if self.room <= 0 or self._bytes >= MAX_PAYLOAD_BYTES:
            return 0.0
        return self._begun_at + self._window_s - now


def cut(items: Sequence[Item], *, size: int, max_bytes: int = MAX_PAYLOAD_BYTES) -> list[list[Item]]:
    """In order, into batches of at most `size` items and `max_bytes`; an item that is larger goes alone."""
    batches: list[list[Item]] = []
    taken = 0
    for item in items:
        length = measure(item)
        if not batches or len(batches[-1]) >= size or taken + length > max_bytes:
            batches.append([])
            taken = 0
        batches[-1].append(item)
        taken += length
    return batches


def split_lanes(records: Sequence[Record], lanes: int) -> list[list[Record]]:
    """By key, so that records of one key stay in order while lanes run beside each other; empty lanes left out."""
    if lanes <= 1:
        return [list(records)] if records else []
    split: list[list[Record]] = [[] for _ in range(lanes)]
    for record in records:
        digest = hashlib.blake2b(record.group.encode(), digest_size=4).digest()
        split[int.from_bytes(digest, "big") % lanes].append(record)
    return [lane for lane in split if lane]


@dataclasses.dataclass(slots=True)
class Concurrency:
    """How many batches of a queue run at once: as many as there is work for, halved by each throttle, and one more
    again with each success, never beyond `most`."""

    most: int
    limit: int = 0
    running: int = 0

    def __post_init__(self) -> None:
        self.limit = self.most

    @property
    def has_room(self) -> bool:
        return self.running < self.limit

    def throttled(self) -> None:
        self.limit = max(1, self.limit // 2)

    def succeeded(self) -> None:
        self.limit = min(self.most, self.limit + 1)


FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


def pause_s(failures: int) -> float:
    """Before the attempt after `failures` of them: 1 s, doubling, to a minute."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(max(0, failures - 1), 10))

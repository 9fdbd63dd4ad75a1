"""Hand-overs to a target with a retry policy and a dead-letter queue: what rules and schedules have in common.

A target that says the record is wrong, or that is gone, is not asked again; one that is busy or broken is, until the
attempts or the age run out. What did not arrive goes to the dead-letter queue with the reason in its attributes.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

import msgspec

from lambent.events import outbox
from lambent.events.deliveries import Deliveries, Delivery
from lambent.events.outbox import Outbox, Parcel
from lambent.model.errors import CallerError, PlatformError
from lambent.substrate.ports import Connection, Tables

log = logging.getLogger(__name__)

MAX_AGE_S = 86_400
MAX_RETRIES = 185
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 900.0
_BUSY = 429


class HandOver(msgspec.Struct, frozen=True, kw_only=True):
    delivery: Delivery
    since: float
    """When it was first due, in seconds since 1970: its age counts from here."""
    max_retries: int = MAX_RETRIES
    max_age_s: int = MAX_AGE_S
    dead_letters: str = ""
    """The ARN of a queue."""
    names: dict[str, str] = {}
    """Attributes that a dead letter has beside the reason."""
    attempt_mark: str = ""
    """In the body, stands for the number of the attempt."""


def put(connection: Connection, box: str, lane: str, handed: HandOver, *, now: float, delay_s: float = 0.0) -> None:
    """Within the sender's transaction; ring the lane afterwards."""
    outbox.put(connection, box, lane, msgspec.msgpack.encode(handed), now=now, delay_s=delay_s)


class HandOvers:
    """The outbox of one kind of sender, named `box`."""

    def __init__(
        self,
        box: str,
        tables: Tables,
        deliveries: Deliveries,
        *,
        now: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`jitter` gives a number from 0 to 1."""
        self._deliveries = deliveries
        self._now = now
        self._jitter = jitter
        self._outbox = Outbox(box, tables, self._send, next_wait=self._next_wait, give_up=self._give_up, now=now)
        self.start = self._outbox.start
        self.stop = self._outbox.stop
        self.ring = self._outbox.ring
        self.count = self._outbox.count

    async def _send(self, parcel: Parcel) -> None:
        handed = msgspec.msgpack.decode(parcel.body, type=HandOver)
        try:
            await self._deliveries.deliver(_number(handed, parcel.attempts + 1))
        except CallerError as exc:
            if exc.status == _BUSY or exc.status >= 500:
                raise PlatformError(f"{exc.code}: {exc.message}") from exc
            await self._put_away(handed, parcel, exc.code, exc.message, exhausted="")

    async def _next_wait(self, parcel: Parcel) -> float | None:
        handed = msgspec.msgpack.decode(parcel.body, type=HandOver)
        if parcel.attempts > handed.max_retries:
            return None
        doubled = min(FIRST_WAIT_S * 2.0 ** min(parcel.attempts - 1, 20), LONGEST_WAIT_S)
        wait_s = doubled * (0.5 + self._jitter() / 2)
        return None if self._now() + wait_s - handed.since > handed.max_age_s else wait_s

    async def _give_up(self, parcel: Parcel, reason: str) -> None:
        handed = msgspec.msgpack.decode(parcel.body, type=HandOver)
        by_count = parcel.attempts > handed.max_retries
        exhausted = "MaximumRetryAttempts" if by_count else "MaximumEventAgeInSeconds"
        await self._put_away(handed, parcel, "ServiceException", reason, exhausted=exhausted)

    async def _put_away(self, handed: HandOver, parcel: Parcel, code: str, reason: str, *, exhausted: str) -> None:
        names = {
            **handed.names,
            "TARGET_ARN": handed.delivery.target,
            "ERROR_CODE": code,
            "ERROR_MESSAGE": reason or code,
            "RETRY_ATTEMPTS": str(max(0, parcel.attempts - 1)),
        }
        if exhausted:
            names["EXHAUSTED_RETRY_CONDITION"] = exhausted
        if handed.dead_letters:
            letter = msgspec.structs.replace(
                handed.delivery, target=handed.dead_letters, attributes={}, message_attributes=names
            )
            try:
                await self._deliveries.deliver(letter)
                return
            except CallerError as exc:
                reason = f"{reason}; and its dead-letter queue refused it: {exc.message}"
        log.error(
            "a record did not reach its target and is dropped",
            extra={
                "action": "handover_dropped",
                "lane": parcel.lane,
                "target": handed.delivery.target,
                "reason": reason,
            },
        )


def _number(handed: HandOver, attempt: int) -> Delivery:
    if not handed.attempt_mark:
        return handed.delivery
    body = handed.delivery.body.replace(handed.attempt_mark.encode(), str(attempt).encode())
    return msgspec.structs.replace(handed.delivery, body=body)

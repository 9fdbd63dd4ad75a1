"""One accepted event: its states, what an attempt came to, and the settings that decide what follows."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from lambent.model.function import LATEST

MAX_RETRIES = 2
MAX_AGE_S, MIN_AGE_S = 21_600, 60
RETRY_WAITS_S = (60.0, 120.0)
FIRST_BACKOFF_S, MAX_BACKOFF_S = 1.0, 300.0


class State(enum.StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """Ran out; its record was handed to a destination or a dead-letter target."""
    DEAD = "dead"
    """Ran out and nothing was configured to take it, or could not: kept until its owner redrives or drops it."""


class Verdict(enum.StrEnum):
    """What an attempt came to."""

    SUCCEEDED = "succeeded"
    AGAIN = "again"
    RAN_OUT = "ran out"
    INTERRUPTED = "interrupted"
    """The node stopped or died in it."""
    REDRIVEN = "redriven"
    UNDELIVERED = "undelivered"
    """No destination took its record."""


NEXT: Mapping[tuple[State, Verdict], State] = {
    (State.RUNNING, Verdict.SUCCEEDED): State.DONE,
    (State.RUNNING, Verdict.AGAIN): State.WAITING,
    (State.RUNNING, Verdict.RAN_OUT): State.FAILED,
    (State.RUNNING, Verdict.INTERRUPTED): State.WAITING,
    (State.RUNNING, Verdict.UNDELIVERED): State.DEAD,
    (State.FAILED, Verdict.UNDELIVERED): State.DEAD,
    (State.DONE, Verdict.REDRIVEN): State.WAITING,
    (State.FAILED, Verdict.REDRIVEN): State.WAITING,
    (State.DEAD, Verdict.REDRIVEN): State.WAITING,
}
"""All that can happen; `running` is entered by the claim alone."""
ENDED = (State.DONE, State.FAILED, State.DEAD)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A function's, version's or alias's event invoke config; None for what was not set."""

    max_retries: int | None = None
    max_age_s: int | None = None
    on_success: str = ""
    on_failure: str = ""
    modified_at: float = 0.0

    @property
    def retries(self) -> int:
        return MAX_RETRIES if self.max_retries is None else self.max_retries

    @property
    def age_s(self) -> int:
        return MAX_AGE_S if self.max_age_s is None else self.max_age_s


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """`attempts` counts those that were started, so it survives a crash within one."""

    id: int = 0
    account: str
    region: str
    function: str
    qualifier: str
    request_id: str
    payload: bytes
    trace_id: str
    client_context: str
    accepted_at: float
    """Seconds since 1970; the age is counted from here, or from when it was redriven."""
    attempts: int = 0
    errors: int = 0
    """Attempts that the function itself failed."""
    backoffs: int = 0
    """Throttles and errors of ours, in a row."""

    @property
    def arn(self) -> str:
        """As the records of destinations name it: always qualified."""
        return f"arn:aws:lambda:{self.region}:{self.account}:function:{self.function}:{self.qualifier or LATEST}"

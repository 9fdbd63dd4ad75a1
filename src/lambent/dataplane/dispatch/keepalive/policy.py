"""How long an idle environment is kept, and whether one is made again ahead of the next arrival."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from lambent.dataplane.dispatch.keepalive.histogram import IdleTimes


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """Both in seconds from when the environment became idle."""

    warm_after_s: float
    """0: it is kept. Otherwise it goes at once and another is made after this long."""
    keep_until_s: float


class KeepAlive(Protocol):
    learns: bool
    """Whether idle times are worth recording."""

    further: Plan
    """For the environments that a version was scaled out to; they are never made ahead."""

    def plan(self, idle_times: IdleTimes) -> Plan:
        """For the last environment of a version that became idle."""


class FixedKeepAlive:
    """The same time for everything."""

    learns = False

    def __init__(self, keep_s: float) -> None:
        self.further = Plan(0.0, keep_s)

    def plan(self, idle_times: IdleTimes) -> Plan:
        return self.further

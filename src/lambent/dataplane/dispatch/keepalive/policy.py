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

    def plan(self, idle_times: IdleTimes) -> Plan:
        """For the first environment of a version."""

    def plan_further(self, idle_times: IdleTimes) -> Plan:
        """For those that it was scaled out to; never made ahead."""


class FixedKeepAlive:
    """The same time for everything."""

    learns = False

    def __init__(self, keep_s: float) -> None:
        self._plan = Plan(0.0, keep_s)

    def plan(self, idle_times: IdleTimes) -> Plan:
        return self._plan

    def plan_further(self, idle_times: IdleTimes) -> Plan:
        return self._plan

# Life of one version, from the answer of CreateFunction to the last update.
#
# Rule 1: every legal transition is in TRANSITIONS; nothing else may change a version's state.
# Rule 2: this file knows no clock, no storage and no asyncio. It is told what happened and answers
#         what the version is now. `activation.py` does the waiting and the writing.
"""The states of a version that the contract shows (`State`, `LastUpdateStatus`), as a table."""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from lambent.model.function import Version


class Phase(enum.Enum):
    CREATING = "creating"
    READY = "ready"
    UPDATING = "updating"
    CREATE_FAILED = "create_failed"
    INIT_FAILED = "init_failed"
    UPDATE_FAILED = "update_failed"


class Event(enum.Enum):
    UPDATED = "updated"
    """The caller changed code or configuration."""
    PREPARED = "prepared"
    """The code's tree, and that of its layers, lies on disk."""
    BROKEN = "broken"
    """The trees cannot be made."""
    INIT_FAILED = "init_failed"
    """The function's own init failed, which is run when a version with SnapStart is published."""


class Shown(NamedTuple):
    """What the contract shows while a version is in a phase."""

    state: str
    state_reason_code: str
    state_reason: str
    last_update_status: str
    last_update_reason_code: str
    last_update_reason: str


CREATING_REASON = "The function is being created."
BROKEN_REASON = "The code package is lost or damaged. Update the function's code to mend it."

SHOWN: dict[Phase, Shown] = {
    Phase.CREATING: Shown("Pending", "Creating", CREATING_REASON, "", "", ""),
    Phase.READY: Shown("Active", "", "", "Successful", "", ""),
    # The contract gives the reason of a creation here too.
    Phase.UPDATING: Shown("Active", "", "", "InProgress", "Creating", CREATING_REASON),
    Phase.CREATE_FAILED: Shown("Failed", "InternalError", BROKEN_REASON, "Failed", "InternalError", BROKEN_REASON),
    # Reason and code are the function's own: `enter` is told them.
    Phase.INIT_FAILED: Shown("Failed", "FunctionError", "", "", "", ""),
    Phase.UPDATE_FAILED: Shown("Active", "", "", "Failed", "InternalError", BROKEN_REASON),
}

# There is no (CREATING, UPDATED) and no (UPDATING, UPDATED) row: a second change while the first is
# under way raises, and the caller is told to come back.
TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.CREATING, Event.PREPARED): Phase.READY,
    (Phase.CREATING, Event.BROKEN): Phase.CREATE_FAILED,
    (Phase.CREATING, Event.INIT_FAILED): Phase.INIT_FAILED,
    (Phase.READY, Event.UPDATED): Phase.UPDATING,
    # At the node's start a version whose blob is gone is found out.
    (Phase.READY, Event.BROKEN): Phase.CREATE_FAILED,
    (Phase.UPDATING, Event.PREPARED): Phase.READY,
    (Phase.UPDATING, Event.BROKEN): Phase.UPDATE_FAILED,
    (Phase.UPDATE_FAILED, Event.UPDATED): Phase.UPDATING,
    (Phase.CREATE_FAILED, Event.UPDATED): Phase.CREATING,
}

_PHASES = {(shown.state, shown.last_update_status): phase for phase, shown in SHOWN.items()}


class IllegalTransition(Exception):
    """The version cannot take this event in its present phase."""

    def __init__(self, phase: Phase, event: Event) -> None:
        super().__init__(f"{event.value} is not legal while {phase.value}")
        self.phase = phase
        self.event = event


def phase_of(version: Version) -> Phase:
    return _PHASES[version.state, version.last_update_status]


def next_phase(phase: Phase, event: Event) -> Phase:
    """Raises IllegalTransition."""
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise IllegalTransition(phase, event) from None


def enter(version: Version, phase: Phase) -> Version:
    """The same version, showing the phase."""
    return msgspec.structs.replace(version, **SHOWN[phase]._asdict())


def take(version: Version, event: Event) -> Version:
    """The version after the event; an illegal event raises IllegalTransition and changes nothing."""
    return enter(version, next_phase(phase_of(version), event))

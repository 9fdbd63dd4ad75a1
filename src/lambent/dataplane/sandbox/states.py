# Life of one environment, from spawn to reaping.
#
# Rule 1: every legal transition is in TRANSITIONS; nothing else may change a state.
# Rule 2: this file knows no clock, no process and no asyncio. It is told what
#         happened and answers what the environment is now. `environment.py` does the rest.
from __future__ import annotations

import dataclasses
import enum


class State(enum.Enum):
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"
    DEAD = "dead"

    # Members are single objects, and the table is asked twice in every invocation.
    __hash__ = object.__hash__


class Event(enum.Enum):
    BOOTED = "booted"
    LEASED = "leased"
    FINISHED = "finished"
    STOPPED = "stopped"
    EXITED = "exited"

    __hash__ = object.__hash__


# A keep-alive that expires while a lease is being taken must lose: the pool takes an environment
# out of its idle list in the same step as LEASED, and only what is in that list can expire.
TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.STARTING, Event.BOOTED): State.BUSY,
    (State.STARTING, Event.STOPPED): State.STOPPING,
    (State.STARTING, Event.EXITED): State.DEAD,
    (State.IDLE, Event.LEASED): State.BUSY,
    (State.IDLE, Event.STOPPED): State.STOPPING,
    (State.IDLE, Event.EXITED): State.DEAD,
    (State.BUSY, Event.FINISHED): State.IDLE,
    (State.BUSY, Event.STOPPED): State.STOPPING,
    (State.BUSY, Event.EXITED): State.DEAD,
    (State.STOPPING, Event.STOPPED): State.STOPPING,
    (State.STOPPING, Event.EXITED): State.DEAD,
    (State.DEAD, Event.STOPPED): State.DEAD,
}


class IllegalTransition(Exception):
    """The environment cannot take this event in its present state."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"{event.value} is not legal while {state.value}")
        self.state = state
        self.event = event


@dataclasses.dataclass(slots=True)
class EnvironmentState:
    current: State = State.STARTING

    def take(self, event: Event) -> State:
        """Move to the next state; an illegal event raises and changes nothing."""
        try:
            self.current = TRANSITIONS[self.current, event]
        except KeyError:
            raise IllegalTransition(self.current, event) from None
        return self.current

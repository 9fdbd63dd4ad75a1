# What a runtime may ask of the Runtime API, and when.
#
# Rule 1: every legal transition is in TRANSITIONS; nothing else may change a state.
# Rule 2: this file knows no socket, no HTTP and no asyncio. `runtime_api.py` does the rest.
#
# States, their names and the rows were read off the contract's own emulator, request by request.
from __future__ import annotations

import dataclasses
import enum


class State(enum.Enum):
    """The values are the names that the contract's messages use."""

    STARTED = "Started"
    INIT_ERROR = "InitError"
    READY = "Ready"
    RUNNING = "Running"
    RESPONDING = "InvocationResponse"
    REPORTING = "InvocationErrorResponse"
    ANSWERED = "RuntimeResponseSentState"


class Event(enum.Enum):
    """The values are the states that are asked for, as the contract's messages name them."""

    ASK_NEXT = "Ready"
    FAIL_INIT = "InitError"
    DELIVER = "Running"
    RESPOND = "InvocationResponse"
    REPORT = "InvocationErrorResponse"
    FINISH = "RuntimeResponseSentState"


# RESPOND and REPORT come with the head of a request and FINISH with the end of its body: while a
# body is on its way there is no row for a second answer, so the first to begin is the one that counts.
# A runtime that asks for the next event before it answered is given the same one again (RUNNING stays).
TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.STARTED, Event.ASK_NEXT): State.READY,
    (State.STARTED, Event.FAIL_INIT): State.INIT_ERROR,
    (State.READY, Event.ASK_NEXT): State.READY,
    (State.READY, Event.DELIVER): State.RUNNING,
    (State.RUNNING, Event.ASK_NEXT): State.RUNNING,
    (State.RUNNING, Event.RESPOND): State.RESPONDING,
    (State.RUNNING, Event.REPORT): State.REPORTING,
    (State.RESPONDING, Event.FINISH): State.ANSWERED,
    (State.REPORTING, Event.FINISH): State.ANSWERED,
    (State.ANSWERED, Event.ASK_NEXT): State.READY,
}


class IllegalTransition(Exception):
    """The runtime asked for something that it cannot have now; the message is the contract's."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(
            f"State transition from {state.value} to {event.value} failed for runtime. "
            "Error: State transition is not allowed"
        )
        self.state = state
        self.event = event


@dataclasses.dataclass(slots=True)
class RuntimeState:
    current: State = State.STARTED

    def take(self, event: Event) -> State:
        """Move to the next state; an illegal event raises and changes nothing."""
        try:
            self.current = TRANSITIONS[self.current, event]
        except KeyError:
            raise IllegalTransition(self.current, event) from None
        return self.current

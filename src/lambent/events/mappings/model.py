# A mapping as it is kept, and the life of one.
#
# Rule 1: every legal transition is in TRANSITIONS. An operation moves a mapping to a state that ends in -ing, durably;
#         the poller that has then stopped, started or gone moves it on.
# Rule 2: a mapping found in such a state after a restart is moved on by the start, so no state needs undoing.
from __future__ import annotations

import enum
from typing import Any

import msgspec

from lambent.events.mappings.sources.ports import Configuration

NOTHING_YET = "No records processed"
USER = "USER_INITIATED"


class State(enum.Enum):
    CREATING = "Creating"
    ENABLING = "Enabling"
    ENABLED = "Enabled"
    DISABLING = "Disabling"
    DISABLED = "Disabled"
    UPDATING = "Updating"
    DELETING = "Deleting"


class Asked(enum.Enum):
    ENABLE = "enable"
    DISABLE = "disable"
    CHANGE = "change"
    DELETE = "delete"
    SETTLED = "settled"
    """The poller is as the mapping says."""


_RESTING = (State.ENABLED, State.DISABLED)
_MOVING = (State.CREATING, State.ENABLING, State.DISABLING, State.UPDATING)

TRANSITIONS: dict[tuple[State, Asked], State] = {
    **{(state, Asked.DELETE): State.DELETING for state in (*_RESTING, *_MOVING)},
    **{(state, Asked.CHANGE): State.UPDATING for state in _RESTING},
    (State.DISABLED, Asked.ENABLE): State.ENABLING,
    (State.ENABLED, Asked.ENABLE): State.UPDATING,
    (State.ENABLED, Asked.DISABLE): State.DISABLING,
    (State.DISABLED, Asked.DISABLE): State.UPDATING,
}
"""What is absent is refused as in use: two changes at once would leave it open which one the poller runs with."""


class Mapping(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    account: str
    region: str
    kind: str
    """The name of its `SourceKind`."""
    function: str
    qualifier: str
    values: dict[str, Any]
    """Members of the request by name, defaults included; StartingPositionTimestamp in seconds since 1970."""
    source: str
    """What the mapping reads, in one text: at most one mapping for it and the function."""
    enabled: bool
    state: State
    reason: str = USER
    result: str = NOTHING_YET
    modified_at: float
    tags: dict[str, str] = {}
    start: int = 0
    """Grows with each change, so that a poller that ran with older values does not settle newer ones."""

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{self.region}:{self.account}:event-source-mapping:{self.uuid}"

    @property
    def function_arn(self) -> str:
        arn = f"arn:aws:lambda:{self.region}:{self.account}:function:{self.function}"
        return f"{arn}:{self.qualifier}" if self.qualifier else arn

    @property
    def configuration(self) -> Configuration:
        return Configuration(
            uuid=self.uuid,
            account=self.account,
            region=self.region,
            function_arn=self.function_arn,
            values=self.values,
        )


def move(mapping: Mapping, asked: Asked) -> Mapping | None:
    """The mapping after an operation or after its poller settled; None where the table has no way."""
    if asked is Asked.SETTLED:
        state: State | None = State.ENABLED if mapping.enabled else State.DISABLED
    else:
        state = TRANSITIONS.get((mapping.state, asked))
    return None if state is None else msgspec.structs.replace(mapping, state=state)

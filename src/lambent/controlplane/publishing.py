"""Publishing: `$LATEST` becomes a numbered version that never changes."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from lambent.controlplane import states
from lambent.controlplane.refusals import conflict, update_in_progress
from lambent.controlplane.registry import ABSENT, Registry, put
from lambent.model.function import SNAP_START, Function, Version
from lambent.substrate.ports import Write

_SETTLED = ("optimization", "init_ms")
_NOT_CODE = ("version", "description", "last_modified", "revision_id", *_SETTLED, *states.Shown._fields)


class Publication(NamedTuple):
    version: Version
    function: Function
    writes: list[Write]
    """Empty when nothing changed since the last version, which is then the answer."""


async def plan_publication(
    registry: Registry, function: Function, latest: Version, *, revision_id: str, description: str | None
) -> Publication:
    """The version that `latest` becomes. The caller commits the writes together with `function`."""
    last = await registry.version(function.account, function.name, str(function.next_version - 1))
    if last is not None and not _has_changed(last.value, latest):
        return Publication(last.value, function, [])
    version = msgspec.structs.replace(
        latest,
        version=str(function.next_version),
        revision_id=revision_id,
        description=latest.description if description is None else description,
    )
    # What is published while its $LATEST still settles settles by itself, as a creation; so does what is initialised.
    if version.snap_start == SNAP_START or states.phase_of(latest) is not states.Phase.READY:
        version = states.enter(version, states.Phase.CREATING)
    grown = msgspec.structs.replace(function, next_version=function.next_version + 1)
    return Publication(version, grown, [put(version, expect=ABSENT)])


def check_settled(latest: Version) -> None:
    """Raises CallerError `ResourceConflictException` while a version is being created or updated."""
    phase = states.phase_of(latest)
    if phase is states.Phase.UPDATING:
        raise update_in_progress(latest.function_arn)
    if phase is states.Phase.CREATING:
        raise conflict(
            "The operation cannot be performed at this time. "
            f"The function is currently in the following state: {latest.state}"
        )


def _has_changed(last: Version, latest: Version) -> bool:
    same: dict[str, Any] = dict.fromkeys(_NOT_CODE, "")
    if msgspec.structs.replace(last, **same) != msgspec.structs.replace(latest, **same):
        return True
    # A version may have got a description of its own; then only a later change of $LATEST can be a new one.
    return last.description != latest.description and last.last_modified != latest.last_modified

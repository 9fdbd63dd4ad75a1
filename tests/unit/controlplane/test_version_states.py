from __future__ import annotations

import itertools

import pytest

from lambent.controlplane.states import SHOWN, TRANSITIONS, Event, IllegalTransition, Phase, enter, phase_of, take
from lambent.model.function import Version


def make_version(phase: Phase) -> Version:
    version = Version(
        account="1",
        region="r",
        name="f",
        runtime="python3.12",
        digest="0" * 64,
        code_size=1,
        last_modified="",
        revision_id="1",
    )
    return enter(version, phase)


@pytest.mark.parametrize("phase", Phase)
def test_what_the_contract_shows_tells_the_phase(phase: Phase) -> None:
    assert phase_of(make_version(phase)) is phase


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(Phase, Event)))
def test_only_transitions_of_the_table_happen(phase: Phase, event: Event) -> None:
    version = make_version(phase)
    if (phase, event) in TRANSITIONS:
        assert phase_of(take(version, event)) is TRANSITIONS[phase, event]
        return
    with pytest.raises(IllegalTransition, match=f"{event.value} is not legal while {phase.value}"):
        take(version, event)


@pytest.mark.parametrize("phase", [Phase.CREATING, Phase.UPDATING])
def test_a_second_update_while_one_is_under_way_loses(phase: Phase) -> None:
    with pytest.raises(IllegalTransition):
        take(make_version(phase), Event.UPDATED)


def test_every_failed_version_can_be_mended_by_an_update() -> None:
    assert TRANSITIONS[Phase.CREATE_FAILED, Event.UPDATED] is Phase.CREATING
    assert TRANSITIONS[Phase.UPDATE_FAILED, Event.UPDATED] is Phase.UPDATING


def test_an_update_never_makes_an_active_function_inactive() -> None:
    assert {SHOWN[phase].state for phase in (Phase.READY, Phase.UPDATING, Phase.UPDATE_FAILED)} == {"Active"}

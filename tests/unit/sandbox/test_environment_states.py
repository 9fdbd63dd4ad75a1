from __future__ import annotations

import pytest

from lambent.dataplane.sandbox.states import EnvironmentState, Event, IllegalTransition, State


def test_an_environment_that_is_leased_cannot_be_leased_again() -> None:
    environment = EnvironmentState(State.BUSY)
    with pytest.raises(IllegalTransition, match="leased is not legal while busy"):
        environment.take(Event.LEASED)
    assert environment.current is State.BUSY


def test_a_stopping_environment_never_becomes_idle() -> None:
    environment = EnvironmentState(State.STOPPING)
    with pytest.raises(IllegalTransition):
        environment.take(Event.FINISHED)


@pytest.mark.parametrize("state", [state for state in State if state is not State.DEAD])
def test_an_environment_can_die_in_every_living_state(state: State) -> None:
    assert EnvironmentState(state).take(Event.EXITED) is State.DEAD


@pytest.mark.parametrize("state", list(State))
def test_an_environment_can_be_stopped_in_every_state(state: State) -> None:
    assert EnvironmentState(state).take(Event.STOPPED) in (State.STOPPING, State.DEAD)


def test_nothing_leaves_death() -> None:
    for event in Event:
        dead = EnvironmentState(State.DEAD)
        if event is Event.STOPPED:
            continue
        with pytest.raises(IllegalTransition):
            dead.take(event)

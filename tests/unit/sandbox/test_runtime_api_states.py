from __future__ import annotations

import pytest

from lambent.dataplane.sandbox.runtime_api_states import TRANSITIONS, Event, IllegalTransition, RuntimeState, State


def test_a_runtime_asks_is_served_answers_and_asks_again() -> None:
    runtime = RuntimeState()
    story = (Event.ASK_NEXT, Event.DELIVER, Event.RESPOND, Event.FINISH, Event.ASK_NEXT, Event.DELIVER, Event.REPORT)
    seen = [runtime.take(event) for event in story]
    assert seen == [
        State.READY,
        State.RUNNING,
        State.RESPONDING,
        State.ANSWERED,
        State.READY,
        State.RUNNING,
        State.REPORTING,
    ]


def test_a_refusal_says_it_in_the_words_of_the_contract_and_changes_nothing() -> None:
    runtime = RuntimeState(State.READY)
    with pytest.raises(IllegalTransition) as refused:
        runtime.take(Event.RESPOND)
    assert str(refused.value) == (
        "State transition from Ready to InvocationResponse failed for runtime. Error: State transition is not allowed"
    )
    assert runtime.current is State.READY


def test_nothing_follows_a_failed_init() -> None:
    assert not [row for row in TRANSITIONS if row[0] is State.INIT_ERROR]


@pytest.mark.parametrize("state", [state for state in State if state is not State.STARTED])
def test_init_can_only_fail_before_the_first_event_was_asked_for(state: State) -> None:
    with pytest.raises(IllegalTransition):
        RuntimeState(state).take(Event.FAIL_INIT)


@pytest.mark.parametrize("event", [Event.RESPOND, Event.REPORT])
def test_an_answer_is_only_legal_while_an_event_is_unanswered(event: Event) -> None:
    assert [source for source, taken in TRANSITIONS if taken is event] == [State.RUNNING]

"""What is written about an invocation that goes to another environment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from lambent.dataplane.dispatch.journal import Journal
from lambent.dataplane.sandbox.environment import Environment
from lambent.model.function import Version
from lambent.telemetry.function_logs import LogStream

VERSION = Version(
    account="1", region="us-east-1", name="f", runtime="x", digest="d", code_size=1, last_modified="", revision_id="r1"
)


class Sink:
    def __init__(self) -> None:
        self.messages: list[str] = []

    def write(self, stream: LogStream, events: Any) -> None:
        self.messages += [event.message for event in events]


def make_journal(sink: Sink) -> Journal:
    return Journal(sink, cast(Environment, SimpleNamespace(id="e", version=VERSION)))


def test_a_start_that_nobody_has_seen_is_taken_back() -> None:
    sink = Sink()
    journal = make_journal(sink)
    journal.note_start("one", wants_tail=False)
    journal.withdraw_start()
    journal.flush()
    assert sink.messages == []


def test_a_start_that_is_written_is_followed_by_where_the_invocation_went() -> None:
    sink = Sink()
    journal = make_journal(sink)
    journal.note_start("one", wants_tail=False)
    journal.flush()
    journal.withdraw_start()
    assert sink.messages == [
        "START RequestId: one Version: $LATEST",
        "RequestId: one is run by another environment: this one had ended",
    ]

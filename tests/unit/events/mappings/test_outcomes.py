from __future__ import annotations

import json
from typing import Any

import pytest
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

from lambent.events.mappings.batching import Concurrency, Gathering, cut, split_lanes
from lambent.events.mappings.outcomes import GivenUp, Piece, Retries, after_failure, failed_ids, split_aged
from lambent.events.mappings.sources.ports import Record

IDS = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", ""),
        (b"null", ""),
        (b"{}", ""),
        (b'""', ""),
        (b'{"batchItemFailures": []}', ""),
        (b'{"batchItemFailures": null}', ""),
        (b'{"something": 1}', ""),
        (b'{"batchItemFailures": [{"itemIdentifier": "b"}]}', "b"),
        (b'{"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "c"}]}', "bc"),
        (b'{"batchItemFailures": [{"itemIdentifier": ""}]}', "abc"),
        (b'{"batchItemFailures": [{"itemIdentifier": null}]}', "abc"),
        (b'{"batchItemFailures": [{"itemidentifier": "b"}]}', "abc"),
        (b'{"batchItemFailures": [{"itemIdentifier": "x"}]}', "abc"),
        (b'{"batchItemFailures": ["b"]}', "abc"),
        (b'{"batchItemFailures": "b"}', "abc"),
        (b'{"batch', "abc"),
        (b"[1]", "abc"),
    ],
)
def test_an_answer_that_is_not_understood_fails_the_whole_batch(payload: bytes, expected: str) -> None:
    assert failed_ids(payload, IDS) == frozenset(expected)


def test_kafka_names_a_record_by_partition_and_offset() -> None:
    answer = b'{"batchItemFailures": [{"itemIdentifier": {"partition": "orders-0", "offset": 15}}]}'
    assert failed_ids(answer, ["orders-0-14", "orders-0-15"]) == {"orders-0-15"}


def test_the_failures_that_powertools_reports_of_kafka_are_understood() -> None:
    records: list[dict[str, Any]] = [
        {"topic": "orders", "partition": 0, "offset": offset, "value": "e30=", "headers": []} for offset in (14, 15)
    ]

    def handle(record: Any) -> None:
        assert record.offset == 14

    answer = process_partial_response(
        event={"eventSource": "SelfManagedKafka", "records": {"orders-0": records}},
        record_handler=handle,
        processor=BatchProcessor(event_type=EventType.Kafka),
        context=None,
    )
    assert failed_ids(json.dumps(answer).encode(), ["orders-0-14", "orders-0-15"]) == {"orders-0-15"}


def make(*names: str, at: float = 0.0, body: str = "x") -> tuple[Record, ...]:
    return tuple(Record(id=name, event={"d": body}, data=b"", at=at, checkpoint=name, group=name) for name in names)


def names(records: Any) -> str:
    return "".join(record.id for record in records)


def test_what_stands_before_the_first_failure_is_done() -> None:
    step = after_failure(Piece(make(*"abcd")), frozenset("cd"), Retries())
    assert (names(step.done), [names(piece.records) for piece in step.todo]) == ("ab", ["cd"])


def test_a_batch_is_halved_without_using_an_attempt() -> None:
    step = after_failure(Piece(make(*"abcd")), frozenset("abcd"), Retries(max_attempts=0, bisect=True))
    assert [(names(piece.records), piece.failures) for piece in step.todo] == [("ab", 0), ("cd", 0)]


def test_one_record_cannot_be_halved_and_is_given_up_after_its_attempts() -> None:
    retries = Retries(max_attempts=1, bisect=True)
    first = after_failure(Piece(make("a")), frozenset("a"), retries)
    assert first.todo == (Piece(make("a"), 1),)
    second = after_failure(first.todo[0], frozenset("a"), retries)
    assert (names(second.given_up), second.reason) == ("a", GivenUp.RETRIES)


def test_without_limits_it_is_tried_for_good() -> None:
    assert after_failure(Piece(make("a"), 10_000), frozenset("a"), Retries()).todo == (Piece(make("a"), 10_001),)


def test_records_beyond_the_age_are_split_off_the_front() -> None:
    records = make("a", at=0.0) + make("b", at=50.0)
    aged, rest = split_aged(records, Retries(max_age_s=60), now=100.0)
    assert (names(aged), names(rest)) == ("a", "b")


def test_a_batch_ends_at_its_number_its_bytes_or_its_window() -> None:
    gathering = Gathering(size=3, window_s=5)
    gathering.add(make("a"), 100.0)
    assert gathering.wait_s(102.0) == 3.0
    gathering.add(make("b", "c"), 102.0)
    assert gathering.wait_s(102.0) == 0.0
    large = Gathering(size=10, window_s=5)
    large.add(make("a", body="x" * 7_000_000), 0.0)
    assert large.wait_s(0.0) == 0.0


def test_batches_are_cut_by_bytes_and_a_record_that_is_too_large_goes_alone() -> None:
    records = make("a", "b") + make("c", body="x" * 100) + make("d")
    assert [names(batch) for batch in cut(records, size=10, max_bytes=40)] == ["ab", "c", "d"]
    assert [names(batch) for batch in cut(records, size=3, max_bytes=4000)] == ["abc", "d"]


def test_a_key_stays_in_its_lane() -> None:
    records = [make(name)[0] for name in "abcabcabc"]
    lanes = split_lanes(records, 3)
    assert sum(len(lane) for lane in lanes) == 9
    for name in "abc":
        assert len([lane for lane in lanes if any(record.id == name for record in lane)]) == 1


def test_throttles_halve_the_concurrency_and_successes_bring_it_back() -> None:
    concurrency = Concurrency(most=8)
    concurrency.throttled()
    concurrency.throttled()
    concurrency.throttled()
    concurrency.throttled()
    assert concurrency.limit == 1
    for _ in range(20):
        concurrency.succeeded()
    assert concurrency.limit == 8

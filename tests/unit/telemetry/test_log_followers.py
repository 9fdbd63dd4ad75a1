from __future__ import annotations

from lambent.telemetry.function_logs import StoredEvent
from lambent.telemetry.log_followers import Follower


def stored(sequence: int) -> StoredEvent:
    return StoredEvent(sequence=sequence, timestamp_ms=1, stream="", request_id="", kind="function", message="x" * 700)


async def test_a_follower_that_reads_too_slowly_is_told_what_was_left_out_where_it_was() -> None:
    follower = Follower("123456789012", "hello", max_waiting_bytes=3_000)
    follower.deliver([stored(number) for number in range(1, 11)])
    events = [await anext(follower) for _ in range(4)]
    follower.deliver([stored(11)])
    events.append(await anext(follower))
    assert [event.sequence for event in events] == [1, 2, 3, 10, 11]
    assert events[3].message.startswith("[lambent] 7 log lines were left out here")


async def test_a_closed_follower_ends_after_what_it_was_given() -> None:
    follower = Follower("123456789012", "hello")
    follower.deliver([stored(1)])
    follower.close()
    assert [event.sequence async for event in follower] == [1]

from __future__ import annotations

import asyncio
import gc
import json
import logging
import stat
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from lambent.telemetry.function_logs import LogEvent, LogStream, QuickInvocation, StoredEvent
from lambent.telemetry.log_files import LogFiles, file_name
from lambent.telemetry.log_segments import LogLimits, SegmentWriter
from lambent.telemetry.records import InvocationRecord

STREAM = LogStream(account="123456789012", function="hello", version="$LATEST", environment_id="e1")


@pytest.fixture
async def logs(tmp_path: Path) -> AsyncIterator[LogFiles]:
    files = LogFiles(tmp_path / "logs")
    yield files
    await files.close()


def line(message: str | bytes, *, at_ms: int = 1_000, request_id: str = "r1") -> LogEvent:
    return LogEvent(timestamp_ms=at_ms, request_id=request_id, message=message, kind="function")


def of(function: str) -> LogStream:
    return LogStream(account="123456789012", function=function, version="1", environment_id="e2")


def list_files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


async def messages(logs: LogFiles, function: str = "hello", *, limit: int = 1_000) -> list[str]:
    return [event.message for event in await logs.read("123456789012", function, limit=limit)]


async def take(events: AsyncIterator[StoredEvent], count: int) -> list[str]:
    async with asyncio.timeout(10):
        return [(await anext(events)).message for _ in range(count)]


class Gate:
    """Holds the writing thread where it opens a function's files, so that a test decides when the disk is slow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        append = SegmentWriter.append

        def wait_and_append(writer: SegmentWriter, lines: Sequence[bytes]) -> None:
            self.reached.set()
            assert self.open.wait(10)
            append(writer, lines)

        monkeypatch.setattr(SegmentWriter, "append", wait_and_append)


async def test_what_was_written_is_read_in_order_with_all_its_members(logs: LogFiles) -> None:
    logs.write(STREAM, [line("one", at_ms=1), line(b"two", at_ms=2)])
    logs.write(STREAM, [LogEvent(timestamp_ms=3, request_id="", message="three", kind="platform")])
    events = await logs.read("123456789012", "hello")
    assert [(event.timestamp_ms, event.request_id, event.kind, event.message) for event in events] == [
        (1, "r1", "function", "one"),
        (2, "r1", "function", "two"),
        (3, "", "platform", "three"),
    ]
    assert {event.stream for event in events} == {"[$LATEST]e1"}
    assert [event.sequence for event in events] == sorted({event.sequence for event in events})


async def test_a_log_that_was_never_written_reads_as_empty(logs: LogFiles) -> None:
    assert await logs.read("123456789012", "nobody") == []


async def test_functions_and_accounts_have_logs_of_their_own(logs: LogFiles) -> None:
    logs.write(of("a"), [line("from a")])
    logs.write(of("b"), [line("from b")])
    assert await messages(logs, "a") == ["from a"]
    assert await logs.read("000000000000", "a") == []


async def test_each_line_of_the_file_is_one_json_document(logs: LogFiles, tmp_path: Path) -> None:
    logs.write(STREAM, [line("a\nb\r\n\x00\x1b[31m"), line("“ü”")])
    await logs.flush()
    [file] = (tmp_path / "logs" / "123456789012" / "hello").iterdir()
    documents = [json.loads(text) for text in file.read_bytes().splitlines()]
    assert [document["message"] for document in documents] == ["a\nb\r\n\x00\x1b[31m", "“ü”"]
    assert set(documents[0]) == {"sequence", "timestamp_ms", "stream", "request_id", "kind", "message"}


async def test_bytes_and_text_that_are_no_unicode_do_not_stop_the_log(logs: LogFiles) -> None:
    logs.write(STREAM, [line(b"\xff\xfe!"), line("\ud800!"), line("next")])
    assert await messages(logs) == ["\ufffd\ufffd!", "?!", "next"]


async def test_only_the_owner_can_read_logs(logs: LogFiles, tmp_path: Path) -> None:
    logs.write(STREAM, [line("secret")])
    await logs.flush()
    modes = {path.is_dir(): stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "logs").rglob("*")}
    assert modes == {True: 0o700, False: 0o600}
    assert stat.S_IMODE((tmp_path / "logs").stat().st_mode) == 0o700


async def test_a_limit_keeps_the_newest_lines_oldest_first(logs: LogFiles) -> None:
    logs.write(STREAM, [line(str(number)) for number in range(100)])
    assert await messages(logs, limit=3) == ["97", "98", "99"]
    assert await messages(logs, limit=0) == []


async def test_lines_before_the_asked_time_are_left_out(logs: LogFiles) -> None:
    now_ms = int(time.time() * 1_000)
    logs.write(STREAM, [line("old", at_ms=now_ms - 10_000), line("new", at_ms=now_ms)])
    events = await logs.read("123456789012", "hello", since_ms=now_ms)
    assert [event.message for event in events] == ["new"]
    assert await logs.read("123456789012", "hello", since_ms=now_ms + 10_000_000) == []


async def test_long_lines_are_kept_whole(logs: LogFiles) -> None:
    long = [str(number) * 700_000 for number in range(3)]
    logs.write(STREAM, [line(text) for text in long])
    assert await messages(logs) == long


async def test_a_log_goes_on_after_a_restart_with_growing_sequences(tmp_path: Path) -> None:
    for message in ("before", "after"):
        files = LogFiles(tmp_path)
        files.write(STREAM, [line(message)])
        await files.close()
    events = await files.read("123456789012", "hello")
    assert [event.message for event in events] == ["before", "after"]
    assert events[0].sequence < events[1].sequence


async def test_a_line_that_a_kill_cut_short_takes_no_other_line_with_it(tmp_path: Path) -> None:
    first = LogFiles(tmp_path)
    first.write(STREAM, [line("whole")])
    await first.close()
    [file] = (tmp_path / "123456789012" / "hello").iterdir()
    with file.open("ab") as torn:
        torn.write(b'{"sequence":1,"mess')
    second = LogFiles(tmp_path)
    assert await messages(second) == ["whole"]
    second.write(STREAM, [line("next")])
    assert await messages(second) == ["whole", "next"]
    await second.close()


async def test_files_rotate_by_size_and_the_oldest_are_dropped(tmp_path: Path) -> None:
    limits = LogLimits(file_bytes=2_000, files=3, total_bytes=100_000)
    files = LogFiles(tmp_path, limits=limits)
    for number in range(100):
        files.write(STREAM, [line(f"{number:03d}" + "x" * 300)])
        if number % 7 == 0:
            await files.flush()
    kept = [message[:3] for message in await messages(files)]
    await files.close()
    sizes = [path.stat().st_size for path in (tmp_path / "123456789012" / "hello").iterdir()]
    assert len(sizes) == 3
    assert max(sizes) <= 2_000
    assert kept == [f"{number:03d}" for number in range(100 - len(kept), 100)]
    assert 8 <= len(kept) <= 12
    assert files.statistics().dropped == 0


async def test_one_batch_larger_than_a_file_rotates_within_it(tmp_path: Path) -> None:
    files = LogFiles(tmp_path, limits=LogLimits(file_bytes=1_000, files=50, total_bytes=50_000))
    files.write(STREAM, [line(f"{number:03d}" + "x" * 300) for number in range(20)])
    assert [message[:3] for message in await messages(files)] == [f"{number:03d}" for number in range(20)]
    assert all(path.stat().st_size <= 1_000 for path in (tmp_path / "123456789012" / "hello").iterdir())
    await files.close()


async def test_the_total_of_a_function_is_capped_whatever_the_number_of_files(tmp_path: Path) -> None:
    files = LogFiles(tmp_path, limits=LogLimits(file_bytes=1_000, files=50, total_bytes=3_000))
    for _ in range(5):
        files.write(STREAM, [line("x" * 300) for _ in range(10)])
        await files.flush()
        assert sum(path.stat().st_size for path in (tmp_path / "123456789012" / "hello").iterdir()) <= 3_000
    await files.close()


async def test_rotation_counts_what_an_earlier_run_left(tmp_path: Path) -> None:
    limits = LogLimits(file_bytes=1_000, files=2, total_bytes=10_000)
    for number in range(6):
        files = LogFiles(tmp_path, limits=limits)
        files.write(STREAM, [line(f"{number}" * 700)])
        await files.close()
    assert [message[0] for message in await messages(files)] == ["4", "5"]
    names = sorted(path.name for path in (tmp_path / "123456789012" / "hello").iterdir())
    assert names == ["00000005.jsonl", "00000006.jsonl"]


@pytest.mark.parametrize(
    "limits", [{"files": 0}, {"file_bytes": 0}, {"file_bytes": 2_000, "total_bytes": 1_999}], ids=str
)
def test_limits_that_hold_no_file_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        LogLimits(**limits)


async def test_a_follower_gets_what_is_written_after_it_began(logs: LogFiles) -> None:
    logs.write(STREAM, [line("before")])
    await logs.flush()
    await asyncio.sleep(0)
    following = logs.follow("123456789012", "hello")
    logs.write(of("other"), [line("of another function")])
    logs.write(STREAM, [line("one"), line("two")])
    assert await take(following, 2) == ["one", "two"]


async def test_who_follows_and_then_reads_misses_nothing_and_can_tell_what_comes_twice(logs: LogFiles) -> None:
    logs.write(STREAM, [line("0")])
    following = logs.follow("123456789012", "hello")
    logs.write(STREAM, [line("1")])
    events = await logs.read("123456789012", "hello")
    logs.write(STREAM, [line("2")])
    async with asyncio.timeout(10):
        while len(events) < 3:
            event = await anext(following)
            if event.sequence > events[-1].sequence:
                events.append(event)
    assert [event.message for event in events] == ["0", "1", "2"]


async def test_a_follower_that_was_dropped_is_forgotten(logs: LogFiles) -> None:
    following = logs.follow("123456789012", "hello")
    assert len(logs._followers._list()) == 1
    del following
    gc.collect()
    assert logs._followers._list() == []


async def test_closing_writes_what_waits_and_ends_the_followers(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    following = files.follow("123456789012", "hello")
    files.write(STREAM, [line("last")])
    await files.close()
    await files.close()
    assert [event.message async for event in following] == ["last"]
    assert await messages(files) == ["last"]
    assert files.statistics().written == 1


async def test_a_line_after_closing_is_counted_as_dropped(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    await files.close()
    files.write(STREAM, [line("late")])
    assert await messages(files) == []
    assert files.statistics().dropped == 1


async def test_what_a_slow_disk_does_not_take_is_dropped_counted_and_told_at_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    files = LogFiles(tmp_path, max_waiting_bytes=4_000)
    files.write(STREAM, [line("in hand")])
    await asyncio.to_thread(gate.reached.wait, 10)
    for number in range(50):
        files.write(STREAM, [line(f"{number:02d}")])
    files.write(of("other"), [line("from another")])
    gate.open.set()
    await files.flush()
    files.write(STREAM, [line("after")])
    found = await messages(files)
    statistics = files.statistics()
    *kept, gap, last = found
    assert kept == ["in hand", *(f"{number:02d}" for number in range(len(kept) - 1))]
    assert gap.startswith(f"[lambent] {51 - len(kept)} log lines were dropped here")
    assert last == "after"
    assert [text[:11] for text in await messages(files, "other")] == ["[lambent] 1"]
    assert statistics.dropped == 51 - len(kept) + 1
    await files.close()
    assert files.statistics().written + files.statistics().dropped == 53


async def test_lines_the_disk_refused_are_counted_and_told_once_it_takes_them_again(
    logs: LogFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    account = tmp_path / "logs" / "123456789012"
    account.write_bytes(b"a file where the folder should be")
    with caplog.at_level(logging.ERROR):
        logs.write(STREAM, [line("lost"), line("lost too")])
        await logs.flush()
        logs.write(STREAM, [line("lost as well")])
        await logs.flush()
    assert {record.__dict__["action"] for record in caplog.records} == {"function_log_not_written"}
    account.unlink()
    logs.write(STREAM, [line("kept")])
    gap, kept = await messages(logs)
    assert gap.startswith("[lambent] 3 log lines were dropped here")
    assert kept == "kept"
    assert (logs.statistics().written, logs.statistics().dropped) == (1, 3)


async def test_a_folder_that_somebody_removed_is_begun_again(logs: LogFiles, tmp_path: Path) -> None:
    logs.write(STREAM, [line("gone")])
    await logs.flush()
    folder = tmp_path / "logs" / "123456789012" / "hello"
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    logs.write(STREAM, [line("kept")])
    assert await messages(logs) == ["kept"]
    assert logs.statistics().dropped == 0


@pytest.mark.parametrize(
    "name", ["..", ".", "", "../../../etc/cron.d/x", "/etc", "a/b", "a\x00b", "x" * 400, "ü" * 100]
)
async def test_no_name_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    files = LogFiles(tmp_path / "logs")
    stream = LogStream(account=name, function=name, version="1", environment_id="e")
    files.write(stream, [line("here")])
    assert [event.message for event in await files.read(name, name)] == ["here"]
    await files.close()
    [written] = list_files(tmp_path)
    assert len(written.relative_to(tmp_path / "logs").parts) == 3
    assert files.statistics().dropped == 0


def test_different_names_have_different_files_and_usual_names_their_own() -> None:
    names = ["hello", "Hello-World_2", ".", "..", "%2E", "", "a/b", "a%2Fb", "x" * 300, "x" * 301, "ü" * 90, "ü" * 91]
    assert len({file_name(name) for name in names}) == len(names)
    assert [file_name(name) for name in names[:2]] == names[:2]


async def test_many_writers_at_once_lose_nothing_and_keep_each_ones_order(logs: LogFiles) -> None:
    def write_all(function: str) -> None:
        for number in range(500):
            logs.write(of(function), [line(f"{number}a"), line(f"{number}b")])

    await asyncio.gather(*(asyncio.to_thread(write_all, function) for function in ("f1", "f2", "f3", "f4")))
    expected = [f"{number}{half}" for number in range(500) for half in "ab"]
    for function in ("f1", "f2", "f3", "f4"):
        assert await messages(logs, function, limit=2_000) == expected
    assert logs.statistics().written == logs.statistics().accepted == 4_000


def quick(request_id: str, *, at_ms: int = 2_000) -> QuickInvocation:
    record = InvocationRecord(
        request_id=request_id,
        account="123456789012",
        function="hello",
        version="$LATEST",
        environment_id="e1",
        cold=False,
        init_ms=None,
        duration_ms=1.236,
        billed_ms=2,
        memory_mb=128,
        max_memory_mb=33,
        error_type="",
    )
    return QuickInvocation(record=record, started_ms=at_ms - 1, ended_ms=at_ms)


async def test_a_quick_invocation_reads_as_its_three_lines(logs: LogFiles) -> None:
    logs.write(STREAM, [line("before", at_ms=1_000)])
    logs.write(STREAM, quick("r7"))
    logs.write(STREAM, [line("after", at_ms=3_000)])
    events = await logs.read("123456789012", "hello")
    assert [(event.timestamp_ms, event.kind, event.message) for event in events] == [
        (1_000, "function", "before"),
        (1_999, "platform", "START RequestId: r7 Version: $LATEST"),
        (2_000, "platform", "END RequestId: r7"),
        (
            2_000,
            "platform",
            "REPORT RequestId: r7\tDuration: 1.24 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\t"
            "Max Memory Used: 33 MB\t",
        ),
        (3_000, "function", "after"),
    ]
    sequences = [event.sequence for event in events]
    assert sequences == sorted(set(sequences))
    assert {event.stream for event in events} == {"[$LATEST]e1"}
    assert logs.statistics().written == 5


async def test_a_follower_gets_a_quick_invocation_as_it_is_read(logs: LogFiles) -> None:
    follower = logs.follow("123456789012", "hello")
    logs.write(STREAM, quick("r7"))
    told = await take(follower, 3)
    assert told == await messages(logs)


async def test_a_limit_and_a_time_cut_between_the_lines_of_a_quick_invocation(logs: LogFiles) -> None:
    logs.write(STREAM, quick("r1"))
    logs.write(STREAM, quick("r2"))
    assert [text.split()[0] for text in await messages(logs, limit=4)] == ["REPORT", "START", "END", "REPORT"]
    late = await logs.read("123456789012", "hello", since_ms=2_000)
    assert [event.message.split()[0] for event in late] == ["END", "REPORT"] * 2


async def test_a_quick_invocation_counts_as_three_lines_where_lines_are_dropped(tmp_path: Path) -> None:
    files = LogFiles(tmp_path / "logs", max_waiting_bytes=10)
    files.write(STREAM, quick("r1"))
    await files.flush()
    assert files.statistics().dropped == 3
    files.write(STREAM, [])
    assert "3 log lines were dropped" in (await messages(files))[0]
    await files.close()

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lambent.members.frames import FrameReader, pack, pack_question, split_question
from lambent.members.transport import Done, MemberGone
from lambent.members.unix_transport import UnixTransport
from lambent.model.errors import CallerError, PlatformError


@contextlib.asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[tuple[UnixTransport, UnixTransport]]:
    first, second = UnixTransport(folder, "0"), UnixTransport(folder, "1")
    await first.start()
    await second.start()
    try:
        yield first, second
    finally:
        await first.stop()
        await second.stop()


def test_frames_come_out_as_they_went_in_however_they_are_cut() -> None:
    frames = pack_question(7, "invoke", b"body") + pack(2, 8, b"") + pack(3, 9, bytes(range(256)))
    for size in (1, 3, 10, 1_000):
        reader = FrameReader()
        got = [frame for at in range(0, len(frames), size) for frame in reader.feed(frames[at : at + size])]
        assert [(kind, number) for kind, number, _ in got] == [(1, 7), (2, 8), (3, 9)]
        assert split_question(got[0][2]) == ("invoke", b"body")
        assert got[2][2] == bytes(range(256))


async def test_many_questions_share_a_connection_and_each_gets_its_own_answer(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second):
        waiting: list[tuple[bytes, Done]] = []

        def keep(body: bytes, done: Done) -> None:
            waiting.append((body, done))
            if len(waiting) == 50:
                for kept, answer in reversed(waiting):
                    answer(kept * 2)

        second.serve("double", keep)
        answers = await asyncio.gather(*(first.ask("1", "double", b"%d," % n) for n in range(50)))
        assert answers == [b"%d,%d," % (n, n) for n in range(50)]
        assert [body for body, _ in waiting] == [b"%d," % n for n in range(50)], "taken in the order they were asked"


async def test_a_body_of_megabytes_passes_untouched(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second):
        second.serve("echo", lambda body, done: done(body))
        body = bytes(range(256)) * 40_000
        assert await first.ask("1", "echo", body) == body


async def test_errors_come_back_as_they_were_raised(tmp_path: Path) -> None:
    throttled = CallerError(
        "TooManyRequestsException", "Rate", status=429, members={"Reason": "r"}, headers={"Retry-After": "1"}
    )

    def refuse(body: bytes, _done: Done) -> None:
        raise throttled if body == b"caller" else PlatformError("ours", retry_safe=True)

    async with pair(tmp_path) as (first, second):
        second.serve("refuse", refuse)
        with pytest.raises(CallerError) as caller:
            await first.ask("1", "refuse", b"caller")
        error = caller.value
        assert (error.code, error.message, error.status) == (throttled.code, throttled.message, throttled.status)
        assert (error.members, error.headers) == (throttled.members, throttled.headers)
        with pytest.raises(PlatformError, match="ours") as ours:
            await first.ask("1", "refuse", b"platform")
        assert ours.value.retry_safe


async def test_a_question_under_way_fails_when_the_member_ends_and_the_next_waits_for_its_replacement(
    tmp_path: Path,
) -> None:
    first, second = UnixTransport(tmp_path, "0"), UnixTransport(tmp_path, "1")
    await second.start()
    taken = asyncio.Event()
    second.serve("never", lambda _body, _done: taken.set())
    asked = asyncio.create_task(first.ask("1", "never", b""))
    await taken.wait()
    await second.stop()
    with pytest.raises(MemberGone) as gone:
        await asked
    assert not gone.value.retry_safe
    patient = asyncio.create_task(first.ask("1", "echo", b"hello"))
    third = UnixTransport(tmp_path, "1")
    third.serve("echo", lambda body, done: done(body))
    await third.start()
    assert await patient == b"hello"
    await first.stop()
    await third.stop()


async def test_without_patience_a_member_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    transport = UnixTransport(tmp_path, "0")
    with pytest.raises(MemberGone) as gone:
        await transport.ask("1", "echo", b"", patience_s=0.0)
    assert gone.value.retry_safe
    await transport.stop()


async def test_a_question_that_comes_before_its_handler_waits_for_it(tmp_path: Path) -> None:
    async with pair(tmp_path) as (first, second):
        asked = asyncio.create_task(first.ask("1", "late", b"x"))
        second.serve("early", lambda body, done: done(body))
        assert await first.ask("1", "early", b"y") == b"y"
        second.serve("late", lambda body, done: done(body))
        assert await asked == b"x"


async def test_a_folder_with_a_long_path_is_no_problem(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    async with pair(folder) as (first, second):
        second.serve("echo", lambda body, done: done(body))
        assert await first.ask("1", "echo", b"x") == b"x"

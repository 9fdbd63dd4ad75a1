"""Questions between processes whose answers come in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lambent.members.streamed import StreamServer, ask_streamed
from lambent.members.transport import MemberGone
from lambent.model.errors import CallerError
from lambent.model.streams import HELD_BYTES, ResponseStream


class Answerer:
    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.written = 0

    async def __call__(self, question: bytes, stream: ResponseStream) -> bytes:
        try:
            return await self._answer(question, stream)
        finally:
            stream.end()

    async def _answer(self, question: bytes, stream: ResponseStream) -> bytes:
        if question == b"refuse":
            raise CallerError("TooManyRequestsException", "no", status=429)
        if question == b"whole":
            return b"whole"
        stream.on_cancel = self.cancelled.set
        stream.begin("text/plain")
        if question == b"endless":
            room = asyncio.Event()
            stream.on_room = room.set
            while not stream.cancelled:
                stream.write(b"x" * 65_536)
                self.written += 65_536
                while stream.is_full and not stream.cancelled:
                    room.clear()
                    await room.wait()
                await asyncio.sleep(0)
            return b"cut"
        for piece in (b"a", b"b", b"c"):
            stream.write(piece)
        return b"end"


@pytest.fixture
async def answerer(tmp_path: Path) -> AsyncIterator[Answerer]:
    answerer = Answerer()
    server = StreamServer(str(tmp_path / "s"), answerer)
    await server.start()
    yield answerer
    await server.stop()


async def test_pieces_arrive_before_the_answer(answerer: Answerer, tmp_path: Path) -> None:
    stream = ResponseStream()
    asking = asyncio.create_task(ask_streamed(str(tmp_path / "s"), "1", b"pieces", stream))
    assert await stream.wait_begun()
    assert stream.content_type == "text/plain"
    pieces = b""
    while piece := await stream.read():
        pieces += piece
    assert pieces == b"abc"
    assert await asking == b"end"


async def test_an_answer_without_pieces_and_a_refusal_come_as_they_are(answerer: Answerer, tmp_path: Path) -> None:
    stream = ResponseStream()
    assert await ask_streamed(str(tmp_path / "s"), "1", b"whole", stream) == b"whole"
    assert not await stream.wait_begun()
    with pytest.raises(CallerError) as refused:
        await ask_streamed(str(tmp_path / "s"), "1", b"refuse", ResponseStream())
    assert refused.value.code == "TooManyRequestsException"


async def test_nothing_is_written_ahead_of_a_reader_who_does_not_read_and_his_leaving_is_told(
    answerer: Answerer, tmp_path: Path
) -> None:
    stream = ResponseStream()
    asking = asyncio.create_task(ask_streamed(str(tmp_path / "s"), "1", b"endless", stream))
    assert await stream.wait_begun()
    while not stream.is_full:
        await asyncio.sleep(0.01)
    before = -1
    while answerer.written != before:
        before = answerer.written
        await asyncio.sleep(0.05)
    assert answerer.written < 16 * HELD_BYTES
    stream.cancel()
    await asyncio.wait_for(answerer.cancelled.wait(), 10)
    with pytest.raises(MemberGone):
        await asking


async def test_a_member_that_is_not_there_has_not_begun(tmp_path: Path) -> None:
    stream = ResponseStream()
    with pytest.raises(MemberGone) as gone:
        await ask_streamed(str(tmp_path / "nobody"), "1", b"pieces", stream)
    assert gone.value.retry_safe
    assert not await stream.wait_begun()

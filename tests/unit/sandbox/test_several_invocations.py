"""The channel of an environment that takes several invocations at a time, against a child of our own making."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest

from lambent.dataplane.sandbox.channel import ChannelClosed, Reply, TurnOver
from lambent.dataplane.sandbox.frame_channel import FrameChannel
from lambent.dataplane.wire import frames
from lambent.dataplane.wire.frames import Call
from lambent.model.streams import FLOOD_BYTES, HELD_BYTES, ResponseStream


class Child:
    """The other end: what it is told, and what it says."""

    def __init__(self, channel: FrameChannel, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.channel = channel
        self._reader = reader
        self.writer = writer

    async def hear(self) -> tuple[bytes, int, bytes]:
        kind, length = frames.HEAD.unpack(await self._reader.readexactly(frames.HEAD.size))
        body = await self._reader.readexactly(length)
        return kind, frames.NUMBER.unpack_from(body)[0], body[frames.NUMBER.size :]

    def say(self, kind: bytes, number: int, body: bytes = b"") -> None:
        self.writer.write(frames.encode_numbered(kind, number, body))

    def send(self, text: str, stream: ResponseStream | None = None) -> asyncio.Future[Reply | ChannelClosed]:
        reply: asyncio.Future[Reply | ChannelClosed] = asyncio.get_running_loop().create_future()
        call = Call(text, b"{}", 0, "arn", "", "", "")
        reply.number = self.channel.send(call, reply.set_result, stream)  # type: ignore[attr-defined]
        return reply


async def open_child(told: object, *, most: int = 16) -> Child:
    ours, theirs = socket.socketpair()
    channel = await FrameChannel.open(ours, most=most)
    reader, writer = await asyncio.open_unix_connection(sock=theirs)
    writer.write(frames.encode(frames.READY, json.dumps(told).encode()))
    await channel.wait_ready()
    return Child(channel, reader, writer)


@pytest.fixture
async def child() -> AsyncIterator[Child]:
    made = await open_child({"init_ms": 1.5, "concurrency": 16})
    assert made.channel.concurrency == 16
    yield made
    made.channel.close()
    made.writer.close()


async def test_answers_go_to_whoever_asked_in_whatever_order_they_come(child: Child) -> None:
    first, second = child.send("a"), child.send("b")
    told = [await child.hear(), await child.hear()]
    assert [frames.decode_call(body).request_id for _, _, body in told] == ["a", "b"]
    child.say(frames.RESULT, told[1][1], b"for b")
    child.say(frames.ERROR, told[0][1], b"Oops\0for a")
    assert (await second, await first) == (Reply(b"for b"), Reply(b"for a", "Oops"))


@pytest.mark.parametrize("told", [{}, [], {"concurrency": 17}, {"concurrency": "16"}, {"concurrency": -1}])
async def test_a_child_that_asks_for_more_than_it_was_offered_gets_one_at_a_time(told: object) -> None:
    made = await open_child(told)
    assert made.channel.concurrency == 1
    made.channel.close()
    made.writer.close()


@pytest.mark.parametrize("body", [b"", b"\0", b"\xff\xffx"])
async def test_an_answer_to_nobody_ends_the_channel(child: Child, body: bytes) -> None:
    reply = child.send("a")
    child.writer.write(frames.encode(frames.RESULT, body))
    assert isinstance(await reply, ChannelClosed)


async def test_one_that_is_abandoned_is_told_so_and_its_answer_dropped(child: Child) -> None:
    stays, ends = child.send("a"), child.send("b")
    await child.hear()
    _, number, _ = await child.hear()
    child.channel.abandon(number)
    child.channel.abandon(number)
    assert isinstance(await ends, TurnOver)
    assert (await child.hear())[:2] == (frames.ABORT, number)
    child.say(frames.BEGIN, number, b"text/plain")
    child.say(frames.PIECE, number, b"late")
    child.say(frames.RESULT, number, b"late")
    third = child.send("c")
    _, again, _ = await child.hear()
    child.say(frames.RESULT, again, b"c")
    assert await third == Reply(b"c")
    assert not stays.done()


async def test_a_reader_who_is_behind_holds_up_its_own_answer_alone(child: Child) -> None:
    stream = ResponseStream()
    slow, quick = child.send("a", stream), child.send("b")
    _, first, _ = await child.hear()
    _, second, _ = await child.hear()
    child.say(frames.BEGIN, first, b"text/plain")
    child.say(frames.PIECE, first, bytes(HELD_BYTES))
    assert await child.hear() == (frames.HOLD, first, b"")
    child.say(frames.RESULT, second, b"quick")
    assert await quick == Reply(b"quick")
    assert await stream.read() == bytes(HELD_BYTES)
    assert await child.hear() == (frames.RELEASE, first, b"")
    child.say(frames.RESULT, first)
    assert await slow == Reply(b"")


async def test_a_child_that_does_not_hold_back_ends_its_channel(child: Child) -> None:
    reply = child.send("a", ResponseStream())
    _, number, _ = await child.hear()
    child.say(frames.BEGIN, number, b"text/plain")
    for _ in range(FLOOD_BYTES // 65_536 + 1):
        child.say(frames.PIECE, number, bytes(65_536))
    assert isinstance(await reply, ChannelClosed)


async def test_a_reader_who_has_left_is_told_of_by_number(child: Child) -> None:
    stream = ResponseStream()
    child.send("a", stream)
    _, number, _ = await child.hear()
    child.say(frames.BEGIN, number, b"text/plain")
    await stream.wait_begun()
    stream.cancel()
    assert await child.hear() == (frames.CANCEL, number, b"")


async def test_the_end_of_the_channel_is_told_to_all(child: Child) -> None:
    replies = [child.send("a"), child.send("b")]
    child.writer.close()
    assert [type(await reply) for reply in replies] == [ChannelClosed, ChannelClosed]
    late = child.send("c")
    closed = await late
    assert isinstance(closed, ChannelClosed)
    assert closed.undelivered

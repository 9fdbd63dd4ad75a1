"""The buffer between a function that writes its answer and whoever reads it."""

from __future__ import annotations

import asyncio

from lambent.model.streams import HELD_BYTES, ResponseStream


async def test_pieces_are_read_in_the_order_in_which_they_were_written() -> None:
    stream = ResponseStream()
    stream.begin("text/plain")
    stream.write(b"one ")
    stream.write(b"two")
    assert await stream.read() == b"one two"
    stream.write(b"three")
    stream.end()
    assert await stream.read() == b"three"
    assert await stream.read() == b""


async def test_a_reader_that_waits_is_woken_by_the_next_piece() -> None:
    stream = ResponseStream()
    reading = asyncio.create_task(stream.read())
    await asyncio.sleep(0)
    stream.write(b"now")
    assert await reading == b"now"


async def test_a_full_stream_tells_its_writer_when_there_is_room_again() -> None:
    stream = ResponseStream()
    told = []
    stream.on_room = lambda: told.append(True)
    stream.write(b"x" * (HELD_BYTES - 1))
    assert not stream.is_full
    stream.write(b"x")
    assert stream.is_full
    await stream.read()
    assert told == [True]
    assert not stream.is_full


async def test_a_function_that_ends_without_a_piece_has_not_begun() -> None:
    stream = ResponseStream()
    waiting = asyncio.create_task(stream.wait_begun())
    await asyncio.sleep(0)
    stream.end()
    assert not await waiting


async def test_cancelling_tells_the_writer_once_and_drops_what_is_still_written() -> None:
    stream = ResponseStream()
    told = []
    stream.on_cancel = lambda: told.append("cancel")
    stream.on_room = lambda: told.append("room")
    stream.write(b"x" * HELD_BYTES)
    stream.cancel()
    stream.cancel()
    stream.write(b"more")
    assert told == ["cancel", "room"]
    assert not stream.is_full
    stream.end()
    assert await stream.read() == b""


async def test_a_stream_that_has_ended_cannot_be_cancelled() -> None:
    stream = ResponseStream()
    stream.on_cancel = lambda: (_ for _ in ()).throw(AssertionError)
    stream.end()
    stream.cancel()
    assert not stream.cancelled

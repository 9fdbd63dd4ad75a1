"""The collector runs rarely on a node: what has ended must be free without it."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import weakref

import pytest

from lambent.dataplane.sandbox.deadlines import Deadlines
from lambent.dataplane.sandbox.environment import Environment, Gauge
from lambent.dataplane.sandbox.frame_channel import FrameChannel
from lambent.dataplane.sandbox.log_pipe import LogPipe
from lambent.dataplane.sandbox.zygote_link import Spawned
from lambent.dataplane.wire import frames
from lambent.dataplane.wire.frames import Call
from lambent.model.function import Version

VERSION = Version(
    account="1", region="r", name="f", runtime="python3.11", digest="d", code_size=1, last_modified="", revision_id="r1"
)


def attach(environment: Environment, channel: FrameChannel, log_fd: int, lines: list[tuple[str, list[bytes]]]) -> None:
    """As the launcher does it."""
    environment.attach(channel, LogPipe(log_fd, lambda found: lines.append((environment.id, found))))


@pytest.mark.parametrize("answered", [True, False])
async def test_an_environment_that_has_ended_is_free_without_a_collection(answered: bool) -> None:
    loop = asyncio.get_running_loop()
    spawned = Spawned(loop)
    # Its own: it has exited before anybody may be killed by it.
    spawned.pidfd.set_result(os.pidfd_open(os.getpid()))
    environment = Environment(
        environment_id="e",
        version=VERSION,
        stream="s",
        trees=frozenset(),
        spawned=spawned,
        gauge=Gauge(),
        deadlines=Deadlines(),
        release=lambda: None,
    )
    ours, theirs = socket.socketpair()
    log_read, log_write = os.pipe()
    lines: list[tuple[str, list[bytes]]] = []
    attach(environment, await FrameChannel.open(ours), log_read, lines)
    theirs.sendall(frames.encode(frames.READY, b"{}"))
    await environment.wait_ready(60_000)
    reply = loop.create_future()
    environment.begin(Call("i", b"{}", 0, "arn", "", "", ""), 60_000, reply.set_result)
    if answered:
        theirs.sendall(frames.encode(frames.RESULT, b"1"))
        await reply
    os.write(log_write, b"last words\n")
    os.close(log_write)
    spawned.exited.set_result(0)
    await environment.stop()
    await reply
    theirs.close()
    assert lines == [("e", [b"last words"])]
    gone = weakref.ref(environment)
    gc.disable()
    try:
        del environment, spawned, reply
        # The transports tell of their end in the loop's next turns; a moment after an exit the rest is read.
        async with asyncio.timeout(10):
            while gone() is not None:
                await asyncio.sleep(0.01)
    finally:
        gc.enable()

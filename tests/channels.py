"""A channel's answers for tests that wait for them."""

from __future__ import annotations

import asyncio

from lambent.dataplane.sandbox.channel import Channel, ChannelClosed, Reply
from lambent.dataplane.wire.frames import Call


async def deliver(channel: Channel, call: Call) -> Reply:
    """Raises ChannelClosed."""
    answer: asyncio.Future[Reply | ChannelClosed] = asyncio.get_running_loop().create_future()
    channel.send(call, answer.set_result)
    reply = await answer
    if isinstance(reply, ChannelClosed):
        raise reply
    return reply

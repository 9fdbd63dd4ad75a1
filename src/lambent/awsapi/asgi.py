"""What answers that are written piece by piece have in common: they end when the client has left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class BrokenOff(Exception):
    """An answer cannot go on and its status is out: raised to the server, which breaks the connection off. Whoever
    raises it has said why where it belongs; the server has nothing to add."""


def run_on(task: asyncio.Task[Any]) -> None:
    """What nobody waits for any more may end as it likes."""
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


async def write_while_present(receive: Receive, writing: Coroutine[Any, Any, None]) -> None:
    """Carry out `writing`, which is cancelled when the client leaves. Raises what it raises."""
    gone = asyncio.create_task(_wait_gone(receive), name="wait for the client to leave")
    work = asyncio.create_task(writing, name="write an answer in pieces")
    try:
        await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (gone, work):
            task.cancel()
        _, result = await asyncio.gather(gone, work, return_exceptions=True)
    if isinstance(result, Exception):
        raise result


async def _wait_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

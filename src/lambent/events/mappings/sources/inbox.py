"""Messages that a client library pushes, for pollers that pull."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

from lambent.events.mappings.sources.ports import Message, SourceLost


class Inbox:
    """First in, first out; several pollers may wait at once. After `fail` every call raises it."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._changed = asyncio.Condition()
        self._lost: SourceLost | None = None

    def __len__(self) -> int:
        return len(self._messages)

    async def put(self, message: Message) -> None:
        async with self._changed:
            self._messages.append(message)
            self._changed.notify()

    async def put_back(self, messages: Iterable[Message]) -> None:
        """To be had again, after what came since: a message that always fails must not hold up the others."""
        async with self._changed:
            self._messages.extend(messages)
            self._changed.notify_all()
        # Who takes and puts back at once would never let the client's own reading have its turn.
        await asyncio.sleep(0)

    async def fail(self, lost: SourceLost) -> None:
        async with self._changed:
            self._lost = lost
            self._changed.notify_all()

    async def receive(self, max_messages: int, wait_s: float) -> Sequence[Message]:
        try:
            async with asyncio.timeout(wait_s):
                async with self._changed:
                    await self._changed.wait_for(lambda: self._messages or self._lost)
                    return self._take(max_messages)
        except TimeoutError:
            return []

    def _take(self, max_messages: int) -> Sequence[Message]:
        # Nothing is awaited between here and the return, so a cancelled call has taken nothing.
        if self._lost is not None:
            raise self._lost
        return [self._messages.popleft() for _ in range(min(max_messages, len(self._messages)))]

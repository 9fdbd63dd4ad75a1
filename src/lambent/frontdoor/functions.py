"""Functions as what stands behind an API: resolved by their ARN, invoked with an event, within the API's time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from lambent.frontdoor.call import HttpAnswer
from lambent.frontdoor.streamed_functions import stream_function
from lambent.model import limits
from lambent.model.errors import CallerError
from lambent.model.identifiers import new_request_id
from lambent.model.invocation import Invocation, Invoker, Outcome, Target

Resolve = Callable[[str, str, str, str], Target]
"""(account, region, name, qualifier) to what is to be invoked now. Raises CallerError."""


class EventTooLarge(Exception):
    """The request does not fit into an event."""


class TimedOut(Exception):
    """The function had not answered within the API's time limit; it runs on."""


class Functions:
    def __init__(self, resolve: Resolve, invoker: Invoker) -> None:
        self._resolve = resolve
        self._invoker = invoker
        self._running: set[asyncio.Task[Outcome]] = set()

    async def invoke(self, account: str, arn: str, event: dict[str, Any], *, timeout_ms: int, trace_id: str) -> Outcome:
        """Of a function of that account. Raises CallerError, EventTooLarge, TimedOut."""
        payload = msgspec.json.encode(event)
        return await self.invoke_with(account, arn, payload, timeout_ms=timeout_ms, trace_id=trace_id)

    async def stream(self, account: str, arn: str, event: dict[str, Any], *, trace_id: str) -> HttpAnswer | Outcome:
        """As it is written. Raises CallerError, EventTooLarge, `v2.Malformed`."""
        payload = msgspec.json.encode(event)
        if len(payload) > limits.SYNC_PAYLOAD_BYTES:
            raise EventTooLarge
        invocation = Invocation(request_id=new_request_id(), payload=payload, trace_id=trace_id)
        return await stream_function(self._invoker, self.resolve(account, arn), invocation)

    async def invoke_with(self, account: str, arn: str, payload: bytes, *, timeout_ms: int, trace_id: str) -> Outcome:
        """With a payload that a template has made. Raises CallerError, EventTooLarge, TimedOut."""
        if len(payload) > limits.SYNC_PAYLOAD_BYTES:
            raise EventTooLarge
        target = self.resolve(account, arn)
        invocation = Invocation(request_id=new_request_id(), payload=payload, trace_id=trace_id)
        task = asyncio.create_task(self._invoker.invoke(target, invocation), name=f"invoke {target.version.name}")
        self._running.add(task)
        task.add_done_callback(self._note_done)
        done, _ = await asyncio.wait([task], timeout=timeout_ms / 1000)
        if not done:
            raise TimedOut
        return task.result()

    def resolve(self, account: str, arn: str) -> Target:
        """Raises CallerError."""
        _, _, _, region, owner, _, name, *qualifier = [*arn.split(":"), *[""] * max(0, 7 - arn.count(":"))]
        if owner != account:
            raise CallerError("AccessDeniedException", f"The function is of another account: {arn}", status=403)
        return self._resolve(account, region, name, qualifier[0] if qualifier else "")

    def _note_done(self, task: asyncio.Task[Outcome]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()

"""A function's answer as it is written: what function URLs and REST APIs stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable

from lambent.awsapi.asgi import BrokenOff, run_on
from lambent.frontdoor.call import HttpAnswer
from lambent.frontdoor.payloads.streamed import Prelude, PreludeReader
from lambent.model.invocation import Invocation, Invoker, Outcome, Target
from lambent.model.streams import ResponseStream


async def stream_function(invoker: Invoker, target: Target, invocation: Invocation) -> HttpAnswer | Outcome:
    """The answer as soon as its head is known, its pieces as they come; the outcome of a function that did not stream.

    Raises CallerError, `v2.Malformed`.
    """
    stream = ResponseStream()
    running = asyncio.create_task(invoker.invoke(target, invocation, stream), name=f"stream {target.version.name}")
    run_on(running)
    try:
        if not await stream.wait_begun():
            return await running
        prelude = await PreludeReader(stream).read()
        if prelude is None:
            # It failed before it had said what it answers.
            return await running
    except BaseException:
        stream.cancel()
        raise
    return HttpAnswer(status=prelude.status, headers=prelude.headers, body=_pieces(stream, prelude, running))


async def _pieces(stream: ResponseStream, prelude: Prelude, running: Awaitable[Outcome]) -> AsyncIterator[bytes]:
    try:
        if prelude.rest:
            yield prelude.rest
        while piece := await stream.read():
            yield piece
        outcome = await running
        if outcome.function_error:
            # The client must not take it for whole.
            raise BrokenOff(outcome.error_type)
    finally:
        stream.cancel()

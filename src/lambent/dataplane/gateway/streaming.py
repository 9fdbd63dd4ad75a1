"""InvokeWithResponseStream: what the function writes leaves as it is written.

Shapes: API reference, "InvokeWithResponseStream". A function that does not stream is answered in one piece.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable

import msgspec

from lambent.awsapi.asgi import Receive, Send, run_on, write_while_present
from lambent.awsapi.context import RequestContext
from lambent.awsapi.event_stream import CONTENT_TYPE, encode_event
from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.model.invocation import Invocation, Invoker, Outcome, Target
from lambent.model.streams import ResponseStream

ROUTE = re.compile(rb"^/2021-11-15/functions/([^/]+)/response-streaming-invocations/?$")
MAX_CHUNK_BYTES = 65_536
_DEFAULT_TYPE = "application/octet-stream"

Parse = Callable[[HttpRequest, bytes, RequestContext], tuple[Target, Invocation, bool]]
"""See `invoke.InvokeEdge.parse_streamed`."""


class StreamingInvokeEdge:
    def __init__(self, parse: Parse, invoker: Invoker) -> None:
        self._parse = parse
        self._invoker = invoker

    async def serve(
        self, request: HttpRequest, reference: bytes, context: RequestContext, receive: Receive, send: Send
    ) -> HttpResponse | None:
        """None when all has been sent. Raises what an invocation raises, before anything was sent."""
        target, invocation, is_dry = self._parse(request, reference, context)
        if is_dry:
            return HttpResponse(status=204)
        stream = ResponseStream()
        running = asyncio.create_task(
            self._invoker.invoke(target, invocation, stream), name=f"stream {target.version.name}"
        )
        run_on(running)
        try:
            if not await stream.wait_begun():
                # It failed before it began, or has an answer in one piece.
                await asyncio.wait([running])
                running.result()
            await self._write(stream, running, target, context, receive=receive, send=send)
        finally:
            stream.cancel()
        return None

    async def _write(
        self,
        stream: ResponseStream,
        running: asyncio.Task[Outcome],
        target: Target,
        context: RequestContext,
        *,
        receive: Receive,
        send: Send,
    ) -> None:
        headers = [
            (b"content-type", CONTENT_TYPE),
            (b"x-amzn-requestid", context.request_id.encode()),
            (b"x-amz-executed-version", target.version.version.encode()),
            (b"x-amzn-remapped-content-type", (stream.content_type or _DEFAULT_TYPE).encode("latin-1", "replace")),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await write_while_present(receive, _pump(stream, running, send))


async def _pump(stream: ResponseStream, running: asyncio.Task[Outcome], send: Send) -> None:
    while data := await stream.read():
        await _send_chunks(data, send)
    outcome = await running
    if not outcome.function_error and outcome.payload:
        await _send_chunks(outcome.payload, send)
    complete: dict[str, str] = {}
    if outcome.function_error:
        complete["ErrorCode"] = outcome.error_type or outcome.function_error
        complete["ErrorDetails"] = outcome.payload.decode("utf-8", "replace")
    if outcome.log_tail:
        complete["LogResult"] = base64.b64encode(outcome.log_tail).decode()
    end = encode_event("InvokeComplete", msgspec.json.encode(complete), content_type="application/json")
    await send({"type": "http.response.body", "body": end})


async def _send_chunks(data: bytes, send: Send) -> None:
    for at in range(0, len(data), MAX_CHUNK_BYTES):
        event = encode_event("PayloadChunk", data[at : at + MAX_CHUNK_BYTES])
        await send({"type": "http.response.body", "body": event, "more_body": True})

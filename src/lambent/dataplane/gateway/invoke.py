"""The Invoke operation on the wire: the one request that does not go through the generic codec.

Shapes: API reference, "Invoke". The payload passes through untouched; it is only checked to be JSON.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import parse_qs, unquote

import msgspec

from lambent.awsapi import arns
from lambent.awsapi.context import RequestContext, check_scope
from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.dataplane.dispatch.directory import Directory
from lambent.model import limits
from lambent.model.errors import CallerError
from lambent.model.identifiers import new_trace_id
from lambent.model.invocation import Invocation, Outcome, Target
from lambent.model.streams import ResponseStream

ROUTE = re.compile(rb"^/2015-03-31/functions/([^/]+)/invocations/?$")

_JSON = (b"content-type", b"application/json")
_ACCEPTED = HttpResponse(status=202)
_checker = msgspec.json.Decoder(msgspec.Raw)
_CLIENT_CONTEXT_BYTES = 3_583
_REFUSED = {
    b"x-amz-tenant-id": "TenantId is not supported: functions have no tenants. Leave it out.",
    b"x-amz-durable-execution-name": (
        "DurableExecutionName is not supported: durable executions are not implemented by Lambent. Leave it out."
    ),
}

Enqueue = Callable[[Target, Invocation], Awaitable[None]]
"""Accepts an event for later; returns when it is durable."""


Answer = Callable[[HttpResponse | Exception], None]


class Dispatch(Protocol):
    """See `dispatcher.Dispatcher`."""

    async def invoke(self, target: Target, invocation: Invocation, stream: ResponseStream | None = None) -> Outcome: ...

    def submit(self, target: Target, invocation: Invocation, done: Callable[[Outcome | Exception], None]) -> None: ...


class InvokeEdge:
    def __init__(self, directory: Directory, dispatch: Dispatch, enqueue: Enqueue) -> None:
        self._directory = directory
        self._dispatch = dispatch
        self._enqueue = enqueue

    def submit(self, request: HttpRequest, reference: bytes, context: RequestContext, answer: Answer) -> bool:
        """`handle` without a task, for the usual request: `answer` is called once, later.

        False, with nothing done, for a request that only `handle` serves. Raises what `handle` raises before anything
        runs.
        """
        headers = request.fields
        if headers.get(b"x-amz-invocation-type", b"RequestResponse") != b"RequestResponse":
            return False
        target = self._resolve(request, reference, context)
        if target.max_wait_ms:
            return False
        invocation = _read_invocation(request, headers, context)
        _check_payload(invocation.payload, is_event=False)
        self._dispatch.submit(
            target,
            invocation,
            lambda result: answer(result if isinstance(result, Exception) else _write_outcome(result)),
        )
        return True

    async def handle(self, request: HttpRequest, reference: bytes, context: RequestContext) -> HttpResponse:
        """Raises CallerError as the contract lists, PlatformError."""
        headers = request.fields
        kind = headers.get(b"x-amz-invocation-type", b"RequestResponse")
        target = self._resolve(request, reference, context)
        if kind == b"DryRun":
            return HttpResponse(status=204)
        invocation = _read_invocation(request, headers, context)
        _check_payload(invocation.payload, is_event=kind == b"Event")
        if kind == b"Event":
            await self._enqueue(target, invocation)
            return _ACCEPTED
        if kind != b"RequestResponse":
            raise _not_one_of("invocationType", kind, "[RequestResponse, Event, DryRun]")
        return _write_outcome(await self._dispatch.invoke(target, invocation))

    def parse_streamed(
        self, request: HttpRequest, reference: bytes, context: RequestContext
    ) -> tuple[Target, Invocation, bool]:
        """Of InvokeWithResponseStream: what is to be run, and whether the caller only asks if it may."""
        headers = request.fields
        kind = headers.get(b"x-amz-invocation-type", b"RequestResponse")
        target = self._resolve(request, reference, context)
        if kind not in (b"RequestResponse", b"DryRun"):
            raise _not_one_of("invocationType", kind, "[RequestResponse, DryRun]")
        invocation = _read_invocation(request, headers, context)
        _check_payload(invocation.payload, is_event=False)
        return target, invocation, kind == b"DryRun"

    def _resolve(self, request: HttpRequest, reference: bytes, context: RequestContext) -> Target:
        check_scope(context)
        name, qualifier = reference.decode("latin-1"), ""
        if request.query_string or b"%" in reference or b":" in reference:
            given = parse_qs(request.query_string.decode("latin-1")).get("Qualifier", [""])[0]
            parsed = arns.parse_function(unquote(name), given or None, context=context)
            name, qualifier = parsed.name, parsed.qualifier or ""
        return self._directory.resolve(context.account, context.region, name, qualifier)


def _read_invocation(request: HttpRequest, headers: dict[bytes, bytes], context: RequestContext) -> Invocation:
    for header, reason in _REFUSED.items():
        if header in headers:
            raise CallerError("InvalidParameterValueException", reason, members={"Type": "User"})
    log_type = headers.get(b"x-amz-log-type")
    if log_type not in (None, b"None", b"Tail"):
        raise _not_one_of("logType", log_type, "[None, Tail]")
    encoded = headers.get(b"x-amz-client-context")
    trace_id = headers.get(b"x-amzn-trace-id")
    return Invocation(
        request_id=context.request_id,
        payload=request.body or b"{}",
        trace_id=trace_id.decode("latin-1") if trace_id else new_trace_id(),
        client_context=_decode_client_context(encoded) if encoded else "",
        wants_log_tail=log_type == b"Tail",
    )


def _not_one_of(field: str, value: bytes, values: str) -> CallerError:
    return CallerError(
        "ValidationException",
        f"1 validation error detected: Value '{value.decode('latin-1')}' at '{field}' failed to satisfy "
        f"constraint: Member must satisfy enum value set: {values}",
    )


def _decode_client_context(encoded: bytes) -> str:
    if len(encoded) > _CLIENT_CONTEXT_BYTES:
        raise CallerError(
            "InvalidRequestContentException",
            f"Client context must be no more than {_CLIENT_CONTEXT_BYTES} bytes when passed as base64-encoded string.",
        )
    try:
        text = base64.b64decode(encoded, validate=True).decode()
        msgspec.json.decode(text)
    except (binascii.Error, ValueError) as exc:
        raise CallerError(
            "InvalidRequestContentException",
            "Client context must be a valid Base64-encoded JSON object.",
        ) from exc
    return text


def _check_payload(payload: bytes, *, is_event: bool) -> None:
    limit = limits.ASYNC_PAYLOAD_BYTES if is_event else limits.SYNC_PAYLOAD_BYTES
    if len(payload) > limit:
        operation = "InvokeAsync" if is_event else "InvokeFunction"
        raise CallerError(
            "RequestTooLargeException",
            f"Request must be smaller than {limit} bytes for the {operation} operation",
            status=413,
            members={"Type": "User"},
        )
    try:
        _checker.decode(payload)
    except (ValueError, RecursionError) as exc:
        raise CallerError(
            "InvalidRequestContentException",
            f"Could not parse request body into json: Could not parse payload into json: {exc}",
            members={"Type": "User"},
        ) from exc


def _write_outcome(outcome: Outcome) -> HttpResponse:
    headers = [_JSON, (b"x-amz-executed-version", outcome.executed_version.encode())]
    if outcome.function_error:
        headers.append((b"x-amz-function-error", outcome.function_error.encode()))
    if outcome.log_tail:
        headers.append((b"x-amz-log-result", base64.b64encode(outcome.log_tail)))
    return HttpResponse(status=200, headers=headers, body=outcome.payload)

"""The HTTP side of object storage: bodies are streamed both ways, so it is an ASGI application of its own.

It decides what is for it, checks the signature before the body comes, and answers in the form of S3.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

import msgspec

from lambent.awsapi.context import RequestContext
from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.awsapi.models import OperationModel, load_model
from lambent.awsapi.rest_xml import RestXml
from lambent.awsapi.sigv4 import StreamedIdentity
from lambent.awsapi.validation import validate
from lambent.events.storage import refusals
from lambent.events.storage.body import Body, Receive
from lambent.events.storage.calls import Call, Download, Operation, Result
from lambent.events.storage.files import Files
from lambent.events.storage.front import FORWARDED, StorageFront
from lambent.events.storage.notifications import lower_filter_names
from lambent.events.storage.objects import parse_source
from lambent.model.errors import CallerError, PlatformError
from lambent.model.identifiers import new_request_id

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LARGEST_DOCUMENT = 4 * 1024**2
"""The most that is read of a body that is XML."""
_SIGNED_FOR_S3 = re.compile(rb"(?:Credential=|X-Amz-Credential=)[^,&\s]*?(?:/|%2F)s3(?:/|%2F)aws4_request", re.I)
_HOST = re.compile(rb"(?:s3(?:\.[a-z0-9-]+)?|([a-z0-9][a-z0-9.-]*?)(?:\.s3(?:\.[a-z0-9-]+)?)?)\.localhost")
"""The service's own name, or a bucket's below it or below the machine's."""
_SERVICE_HOST = re.compile(rb"(?:[a-z0-9.-]+\.)?s3(?:\.[a-z0-9-]+)?\.localhost")
_READ_AGAIN = 3
_CODES = {
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "UnrecognizedClientException": "InvalidAccessKeyId",
    "IncompleteSignatureException": "AuthorizationHeaderMalformed",
    "MissingAuthenticationTokenException": "AccessDenied",
    "SerializationException": "InvalidArgument",
    "ValidationException": "InvalidArgument",
}
"""What the other services call the same."""
_OF_FUNCTIONS = re.compile(r".*Object.*|.*MultipartUploads?|UploadPart(Copy)?|ListParts|HeadBucket|GetBucketLocation")
"""What a function may ask for with its own credentials: what is in buckets, not what buckets there are."""


class Authenticator(Protocol):
    def authenticate_streamed(
        self, request: HttpRequest, request_id: str, path: bytes
    ) -> tuple[RequestContext, StreamedIdentity | None]: ...


class StorageEdge:
    """Implements the gateway's `StreamingApi`."""

    def __init__(
        self,
        authenticator: Authenticator,
        files: Files,
        operations: Mapping[str, Operation],
        front: StorageFront | None = None,
    ) -> None:
        """`front` serves the buckets whose objects lie in another store."""
        self._authenticator = authenticator
        self._files = files
        self._operations = operations
        self._front = front
        self._codec: RestXml | None = None

    def serves(self, scope: Scope) -> bool:
        return scope["type"] == "http" and is_for_buckets(scope)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_request_id()
        request = HttpRequest(
            method=scope["method"],
            raw_path=scope["raw_path"],
            query_string=scope["query_string"],
            headers=scope["headers"],
        )
        answer = _Answer(send, request_id, is_head=request.method == "HEAD")
        try:
            client = scope.get("client") or ("", 0)
            await self._serve(request, client[0], receive, answer)
        except Exception as exc:
            if answer.started:
                # The length was promised: what is left is to break off, which the server does.
                raise
            await answer.write(self._write_error(exc, request_id))

    async def _serve(self, request: HttpRequest, client: str, receive: Receive, answer: _Answer) -> None:
        path = find_path(request)
        context, signed = self._authenticator.authenticate_streamed(request, answer.request_id, path)
        body = Body(request, receive, signed)
        # Only now: the path and the headers as they came are what was signed.
        request = _with_hoisted(request, path)
        model, labels = self._match(request)
        operation = self._operations.get(model.name)
        if operation is None:
            raise refusals.not_implemented(f"{model.name}")
        if not may_ask(context.principal, model.name):
            raise refusals.access_denied()
        call = Call(context, None, request.header(b"x-amzn-trace-id") or "", client)
        if _streams(model):
            call = call._replace(body=body)
        else:
            request.body = await body.read(LARGEST_DOCUMENT)
        parameters = self._parse(model, labels, request)
        if parameters.get("ExpectedBucketOwner", context.account) != context.account:
            raise refusals.access_denied()
        if await self._forward(model, call, parameters, request, answer):
            return
        for _ in range(_READ_AGAIN):
            result = await operation(call, parameters)
            if result.download is None:
                await answer.write(self._write_result(model, result, answer.request_id))
                return
            async with self._files.holding(result.download.pieces) as whole:
                if whole:
                    await answer.stream(self._write_result(model, result, answer.request_id), self._read(result))
                    return
            # Replaced between the look and the hold: what is there now is as good.
        raise PlatformError("The object is being replaced all the time; try again.", retry_safe=True)

    async def _forward(
        self, model: OperationModel, call: Call, parameters: dict[str, Any], request: HttpRequest, answer: _Answer
    ) -> bool:
        """Whether the bucket's objects lie in another store, which has answered."""
        if self._front is None or model.name not in FORWARDED:
            return False
        account = call.context.account
        bucket = await self._front.find(account, parameters["Bucket"])
        if bucket is None:
            if "CopySource" in parameters:
                source, _ = parse_source(parameters["CopySource"])
                if source != parameters["Bucket"] and await self._front.find(account, source) is not None:
                    raise refusals.not_implemented(
                        "Copying from the store behind this node into one of its own buckets"
                    )
            return False
        async with self._front.forward(model.name, call, bucket, parameters, request) as reply:
            if reply.stream is not None:
                await answer.stream(reply.response, reply.stream)
            else:
                await answer.write(reply.response)
        return True

    def _read(self, result: Result) -> AsyncGenerator[bytes, None]:
        download = result.download
        assert isinstance(download, Download)
        return self._files.read(download.pieces, download.start, download.length)

    def _match(self, request: HttpRequest) -> tuple[OperationModel, dict[str, str]]:
        if self._codec is None:
            self._codec = RestXml(load_model("s3"))
        matched = self._codec.match(request)
        if matched is None:
            raise CallerError(
                "MethodNotAllowed", "The specified method is not allowed against this resource.", status=405
            )
        return matched

    def _parse(self, model: OperationModel, labels: dict[str, str], request: HttpRequest) -> dict[str, Any]:
        assert self._codec is not None
        parameters = self._codec.parse(model, labels, request)
        if model.name == "PutBucketNotificationConfiguration":
            lower_filter_names(parameters)
        if model.input is not None:
            try:
                validate(parameters, model.input)
            except CallerError as exc:
                code = "MalformedXML" if request.body else "InvalidArgument"
                raise CallerError(code, exc.message) from exc
        return parameters

    def _write_result(self, model: OperationModel, result: Result, request_id: str) -> HttpResponse:
        assert self._codec is not None
        response = self._codec.write_result(model, result.values, request_id)
        if result.status:
            response.status = result.status
        return response

    def _write_error(self, exc: Exception, request_id: str) -> HttpResponse:
        if self._codec is None:
            self._codec = RestXml(load_model("s3"))
        if isinstance(exc, CallerError):
            shown = CallerError(
                _CODES.get(exc.code, exc.code),
                exc.message,
                status=exc.status,
                members=exc.members,
                headers=exc.headers,
            )
            return self._codec.write_error(shown, request_id)
        known = isinstance(exc, PlatformError)
        log.error(
            "object storage failed",
            extra={"action": "storage_failed", "request": request_id, "reason": str(exc)},
            exc_info=None if known else exc,
        )
        message = str(exc) if known else f"Internal error; the node's log has the details under request {request_id}."
        code, status = (
            ("SlowDown", 503) if isinstance(exc, PlatformError) and exc.retry_safe else ("InternalError", 500)
        )
        return self._codec.write_error(CallerError(code, message, status=status), request_id)


class _Answer:
    """The one answer to a request."""

    def __init__(self, send: Send, request_id: str, *, is_head: bool) -> None:
        self._send = send
        self._is_head = is_head
        self.request_id = request_id
        self.started = False

    async def write(self, response: HttpResponse) -> None:
        empty = self._is_head or response.status in (204, 304)
        body = b"" if empty else response.body
        has_length = any(name == b"content-length" for name, _ in response.headers)
        await self._start(response, None if has_length or response.status in (204, 304) else len(response.body))
        await self._send({"type": "http.response.body", "body": body})

    async def stream(self, response: HttpResponse, pieces: AsyncGenerator[bytes, None]) -> None:
        """`response` states the length."""
        await self._start(response, None)
        async with contextlib.aclosing(pieces) as opened:
            async for piece in opened:
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def _start(self, response: HttpResponse, length: int | None) -> None:
        self.started = True
        headers = list(response.headers)
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        identity = self.request_id.encode()
        headers += [(b"x-amz-request-id", identity), (b"x-amz-id-2", identity)]
        await self._send({"type": "http.response.start", "status": response.status, "headers": headers})


def may_ask(principal: str, operation: str) -> bool:
    """`principal` is the function that asks; empty for the account itself."""
    return not principal or _OF_FUNCTIONS.fullmatch(operation) is not None


def is_for_buckets(scope: Scope) -> bool:
    """Whether a request is for buckets: by what it was signed for, else by the name of the host."""
    query: bytes = scope["query_string"]
    if _SIGNED_FOR_S3.search(query) or b"AWSAccessKeyId=" in query:
        return True
    host = b""
    for name, value in scope["headers"]:
        if name == b"authorization":
            return _SIGNED_FOR_S3.search(value) is not None
        if name == b"host":
            host = value
    return _SERVICE_HOST.fullmatch(host.partition(b":")[0]) is not None


def find_path(request: HttpRequest) -> bytes:
    """`/BUCKET/KEY`, also where the bucket is in the name of the host: BUCKET.s3.localhost, BUCKET.localhost."""
    host = (request.header(b"host") or "").encode("latin-1").partition(b":")[0].lower()
    matched = _HOST.fullmatch(host)
    bucket = matched[1] if matched is not None else None
    return request.raw_path if bucket is None else b"/" + bucket + request.raw_path


def _with_hoisted(request: HttpRequest, path: bytes) -> HttpRequest:
    """SDKs move headers into the query of what they sign ahead."""
    hoisted = [
        (name.lower(), unquote_to_bytes(value))
        for name, _, value in (part.partition(b"=") for part in request.query_string.split(b"&"))
        if name.startswith(b"x-amz-") and name.lower() not in request.fields
    ]
    return msgspec.structs.replace(request, raw_path=path, headers=[*request.headers, *hoisted])


def _streams(model: OperationModel) -> bool:
    shape = model.input
    return shape is not None and shape.payload is not None and shape.members[shape.payload].kind == "blob"

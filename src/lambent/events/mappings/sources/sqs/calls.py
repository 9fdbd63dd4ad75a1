"""The operations of a queue, on this node or at another endpoint, in the members of the SQS contract."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Protocol

import httpcore2
import msgspec

from lambent.awsapi.context import Operation, RequestContext
from lambent.awsapi.sigv4 import sign
from lambent.events.mappings.sources.ports import SourceLost
from lambent.events.mappings.sources.sqs.config import External
from lambent.model.errors import CallerError

TIMEOUT_S = 40.0
"""For an answer: the longest poll is 20 s."""


class Calls(Protocol):
    async def call(self, operation: str, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Raises SourceLost."""
        ...

    async def close(self) -> None: ...


class OwnCalls:
    """To the operations that this node serves itself, without a wire between."""

    def __init__(self, operations: Mapping[str, Operation], *, account: str, region: str) -> None:
        self._operations = operations
        self._account = account
        self._region = region

    async def call(self, operation: str, parameters: dict[str, Any]) -> Mapping[str, Any]:
        served = self._operations.get(operation)
        if served is None:
            raise SourceLost(f"This node serves no {operation}.", retry_safe=True)
        context = RequestContext(
            account=self._account,
            region=self._region,
            access_key="",
            request_id=str(uuid.uuid4()),
            host="localhost",
            service="sqs",
        )
        try:
            return await served(context, parameters)
        except CallerError as exc:
            raise SourceLost(exc.message, retry_safe=True) from exc

    async def close(self) -> None:
        return


class HttpCalls:
    """To an endpoint of the `json` protocol, signed."""

    def __init__(self, external: External) -> None:
        self._external = external
        self._pool = httpcore2.AsyncConnectionPool(max_connections=16)

    async def call(self, operation: str, parameters: dict[str, Any]) -> Mapping[str, Any]:
        url, body = self._external.url + "/", msgspec.json.encode(parameters)
        headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": f"AmazonSQS.{operation}"}
        signed = sign(
            method="POST",
            url=url,
            headers=headers,
            body=body,
            access_key=self._external.access_key_id,
            secret=self._external.secret_access_key,
            region=self._external.region,
            service="sqs",
        )
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT_S)
        try:
            response = await self._pool.request(
                "POST", url, headers=list(signed.items()), content=body, extensions={"timeout": timeouts}
            )
        except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError) as exc:
            reason = str(exc) or type(exc).__name__
            raise SourceLost(f"{self._external.url} cannot be reached: {reason}", retry_safe=True) from exc
        if response.status != 200:
            raise SourceLost(f"{operation} was answered {response.status}: {_reason(response.content)}")
        answer: dict[str, Any] = msgspec.json.decode(response.content or b"{}", type=dict[str, Any])
        return answer

    async def close(self) -> None:
        await self._pool.aclose()


def _reason(body: bytes) -> str:
    try:
        answer = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body[:200].decode("utf-8", "replace")
    return str(answer.get("message") or answer.get("Message") or answer.get("__type") or "no reason given")

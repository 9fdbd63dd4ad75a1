"""The operations of a queue at another endpoint: the `json` protocol, signed. Imported when there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpcore2
import msgspec

from lambent.awsapi.sigv4 import sign
from lambent.events.mappings.sources.ports import SourceLost
from lambent.events.mappings.sources.sqs.config import External

TIMEOUT_S = 40.0
"""For an answer: the longest poll is 20 s."""


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

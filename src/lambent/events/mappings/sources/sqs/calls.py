"""The operations of a queue, on this node or at another endpoint, in the members of the SQS contract."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from lambent.awsapi.context import Operation, RequestContext
from lambent.events.mappings.sources.ports import SourceLost
from lambent.model.errors import CallerError


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

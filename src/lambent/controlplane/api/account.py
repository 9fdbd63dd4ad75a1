"""GetAccountSettings."""

from __future__ import annotations

from typing import Any

from lambent.awsapi.context import RequestContext
from lambent.controlplane.api.concurrency import sum_claimed
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.storage import TOTAL_CODE_BYTES, measure_code
from lambent.model import limits

Params = dict[str, Any]


class Account:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def get_settings(self, context: RequestContext, _params: Params) -> Params:
        registry = self._plane.registry
        limit = self._plane.account_concurrency
        return {
            "AccountLimit": {
                "TotalCodeSize": TOTAL_CODE_BYTES,
                "CodeSizeUnzipped": limits.UNZIPPED_CODE_BYTES,
                "CodeSizeZipped": limits.ZIPPED_CODE_BYTES,
                "ConcurrentExecutions": limit,
                "UnreservedConcurrentExecutions": limit - await sum_claimed(registry, context.account),
            },
            "AccountUsage": {
                "TotalCodeSize": await measure_code(registry, context.account),
                "FunctionCount": len(await registry.functions(context.account)),
            },
        }

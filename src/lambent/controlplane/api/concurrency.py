"""Reserved concurrency and what the account has."""

from __future__ import annotations

from typing import Any

import msgspec

from lambent.awsapi.context import RequestContext
from lambent.controlplane.configuration import invalid
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.registry import put
from lambent.model import limits
from lambent.model.function import LATEST, Function, LayerVersion, Version

Json = dict[str, Any]
_TOTAL_CODE_BYTES = 80_530_636_800


class ConcurrencyOperations:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def put_function_concurrency(self, context: RequestContext, parameters: Json) -> Json:
        plane = self._plane
        name = plane.name(context, parameters).name
        stored = await plane.function(context, name)
        wanted = parameters["ReservedConcurrentExecutions"]
        functions = await plane.registry.list(Function, context.account)
        others = sum(item.value.reserved_concurrency or 0 for item in functions if item.value.name != name)
        # An account that is allowed little keeps a tenth free instead of the contract's hundred.
        keep = min(limits.UNRESERVED_CONCURRENCY_MIN, plane.account_concurrency // 10)
        if plane.account_concurrency - others - wanted < keep:
            raise invalid(
                "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
                f"below its minimum value of [{keep}]."
            )
        changed = msgspec.structs.replace(stored.value, reserved_concurrency=wanted)
        await plane.registry.commit(put(changed, expect=stored.revision), resource=name)
        return {"ReservedConcurrentExecutions": wanted}

    async def get_function_concurrency(self, context: RequestContext, parameters: Json) -> Json:
        stored = await self._plane.function(context, self._plane.name(context, parameters).name)
        return {"ReservedConcurrentExecutions": stored.value.reserved_concurrency}

    async def delete_function_concurrency(self, context: RequestContext, parameters: Json) -> Json:
        name = self._plane.name(context, parameters).name
        stored = await self._plane.function(context, name)
        changed = msgspec.structs.replace(stored.value, reserved_concurrency=None)
        await self._plane.registry.commit(put(changed, expect=stored.revision), resource=name)
        return {}

    async def get_account_settings(self, context: RequestContext, parameters: Json) -> Json:
        registry, limit = self._plane.registry, self._plane.account_concurrency
        functions = await registry.list(Function, context.account)
        versions = await registry.list(Version, context.account)
        layers = await registry.list(LayerVersion, context.account)
        reserved = sum(item.value.reserved_concurrency or 0 for item in functions)
        code = sum(item.value.code_size for item in versions)
        code += sum(item.value.code_size for item in layers if not item.value.deleted)
        return {
            "AccountLimit": {
                "TotalCodeSize": _TOTAL_CODE_BYTES,
                "CodeSizeUnzipped": limits.UNZIPPED_CODE_BYTES,
                "CodeSizeZipped": limits.ZIPPED_CODE_BYTES,
                "ConcurrentExecutions": limit,
                "UnreservedConcurrentExecutions": limit - reserved,
            },
            "AccountUsage": {
                "TotalCodeSize": code,
                "FunctionCount": sum(item.value.version == LATEST for item in versions),
            },
        }

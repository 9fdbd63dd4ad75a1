"""PutFunctionConcurrency, GetFunctionConcurrency, DeleteFunctionConcurrency."""

from __future__ import annotations

from typing import Any

import msgspec

from lambent.awsapi import arns
from lambent.awsapi.context import RequestContext
from lambent.controlplane.lookups import find_function
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.refusals import invalid, update_in_progress
from lambent.controlplane.registry import Registry, put, repeat
from lambent.model import limits
from lambent.model.function import LATEST, Function
from lambent.substrate.ports import Conflict

Params = dict[str, Any]


class Concurrency:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def put(self, context: RequestContext, params: Params) -> Params:
        _check_unqualified(context, params)
        wanted: int = params["ReservedConcurrentExecutions"]
        async with self._plane.reservations:
            await self._write(context, params, wanted, shown_qualifier=LATEST)
        return {"ReservedConcurrentExecutions": wanted}

    async def get(self, context: RequestContext, params: Params) -> Params:
        found = await find_function(self._plane.registry, context, params["FunctionName"])
        return {"ReservedConcurrentExecutions": found.function.value.reserved_concurrency}

    async def delete(self, context: RequestContext, params: Params) -> Params:
        _check_unqualified(context, params)
        async with self._plane.reservations:
            await self._write(context, params, None)
        return {}

    async def _write(
        self, context: RequestContext, params: Params, wanted: int | None, *, shown_qualifier: str | None = None
    ) -> None:
        registry = self._plane.registry

        async def attempt() -> None:
            found = await find_function(registry, context, params["FunctionName"], shown_qualifier=shown_qualifier)
            function = found.function.value
            if wanted is not None:
                await _check_provisioned(registry, function, wanted)
                others = await sum_claimed(registry, context.account, without=function.name)
                check_unreserved(self._plane.account_concurrency - others - wanted, self._plane.account_concurrency)
            changed = msgspec.structs.replace(function, reserved_concurrency=wanted)
            await registry.commit(put(changed, expect=found.function.revision))

        try:
            await repeat(attempt)
        except Conflict:
            raise update_in_progress(params["FunctionName"]) from None


async def sum_claimed(registry: Registry, account: str, *, without: str = "") -> int:
    """What all functions but one take away from the others: what is reserved for them, else provisioned."""
    claimed = {
        stored.value.name: stored.value.reserved_concurrency
        for stored in await registry.functions(account)
        if stored.value.name != without
    }
    provisioned = [stored.value for stored in await registry.all_provisioned(account)]
    return sum(reserved or 0 for reserved in claimed.values()) + sum(
        config.executions for config in provisioned if claimed.get(config.function, 0) is None
    )


async def _check_provisioned(registry: Registry, function: Function, reserved: int) -> None:
    configs = await registry.all_provisioned(function.account, function.name)
    total = sum(config.value.executions for config in configs)
    if reserved < total:
        raise invalid(
            f"ReservedConcurrentExecutions  {reserved} should not be lower than function's total provisioned "
            f"concurrency [{total}]."
        )


def check_unreserved(left: int, account_concurrency: int, *, what: str = "ReservedConcurrentExecutions") -> None:
    """Raises CallerError when too little would be left for the functions without a reservation.

    The contract keeps 100 of the default 1,000; of a smaller account limit Lambent keeps a tenth.
    """
    least = min(limits.UNRESERVED_CONCURRENCY_MIN, account_concurrency // 10)
    if left < least:
        raise invalid(
            f"Specified {what} for function decreases account's UnreservedConcurrentExecution "
            f"below its minimum value of [{least}]."
        )


def _check_unqualified(context: RequestContext, params: Params) -> None:
    if arns.parse_function(params["FunctionName"], context=context).qualifier is not None:
        raise invalid(
            "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
            "Please specify either a function name or an unqualified function ARN."
        )

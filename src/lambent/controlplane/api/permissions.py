"""GetPolicy and GetFunctionCodeSigningConfig: asked by deploy tools, and always of a function that has neither."""

from __future__ import annotations

from typing import Any

from lambent.awsapi.context import RequestContext
from lambent.controlplane.lookups import find_function, find_version
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.refusals import no_resource

Params = dict[str, Any]


class Permissions:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def get_policy(self, context: RequestContext, params: Params) -> Params:
        """Raises CallerError `ResourceNotFoundException`: no function has a policy while none can be given one."""
        await find_version(self._plane.registry, context, params["FunctionName"], params.get("Qualifier"))
        raise no_resource()

    async def get_code_signing(self, context: RequestContext, params: Params) -> Params:
        found = await find_function(self._plane.registry, context, params["FunctionName"])
        return {"CodeSigningConfigArn": "", "FunctionName": found.function.value.name}

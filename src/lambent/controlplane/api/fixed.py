"""Operations that deploy tools call on every refresh and whose answer here is always the same."""

from __future__ import annotations

from typing import Any

from lambent.awsapi.context import RequestContext
from lambent.controlplane.plane import ControlPlane
from lambent.model.errors import CallerError

Json = dict[str, Any]


class FixedOperations:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def get_function_code_signing_config(self, context: RequestContext, parameters: Json) -> Json:
        """No function has one."""
        name = self._plane.name(context, parameters).name
        await self._plane.function(context, name)
        return {"CodeSigningConfigArn": "", "FunctionName": name}

    async def get_runtime_management_config(self, context: RequestContext, parameters: Json) -> Json:
        """The operator updates interpreters."""
        name, qualifier = self._plane.name(context, parameters)
        version = (await self._plane.resolve(context, name, qualifier)).value
        return {"UpdateRuntimeOn": "Auto", "FunctionArn": version.function_arn}

    async def get_policy(self, context: RequestContext, parameters: Json) -> Json:
        """No function has one: permissions are not served yet."""
        name = self._plane.name(context, parameters).name
        await self._plane.function(context, name)
        raise CallerError("ResourceNotFoundException", "The resource you requested does not exist.", status=404)

"""The operations on stages and deployments."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from lambent.awsapi.context import Operation, RequestContext
from lambent.frontdoor.access_logs import check_access_log
from lambent.frontdoor.answers import Params, bad_request, conflict, find, new_id, now_text, pick
from lambent.frontdoor.rest_apis import patches
from lambent.frontdoor.rest_apis.answers import cut, open_store, show
from lambent.frontdoor.rest_apis.model import DEPLOYMENTS, METHODS, Members, RestApi, Snapshot
from lambent.model.errors import CallerError
from lambent.substrate.ports import Documents, Write

MOST_DEPLOYMENTS = 300
_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_VARIABLE, _VALUE = re.compile(r"[A-Za-z0-9_]+"), re.compile(r"[A-Za-z0-9-._~:/?#&=,@ ]*")
_STAGE = (
    "stageName",
    "deploymentId",
    "description",
    "cacheClusterEnabled",
    "cacheClusterSize",
    "variables",
    "documentationVersion",
    "canarySettings",
    "tracingEnabled",
    "tags",
)
_SETTING_RULES = {
    "throttling/rateLimit": ("throttlingRateLimit", patches.NUMBER),
    "throttling/burstLimit": ("throttlingBurstLimit", patches.INTEGER),
    "metrics/enabled": ("metricsEnabled", patches.BOOLEAN),
    "logging/loglevel": ("loggingLevel", patches.TEXT),
    "logging/dataTrace": ("dataTraceEnabled", patches.BOOLEAN),
    "caching/enabled": ("cachingEnabled", patches.BOOLEAN),
    "caching/ttlInSeconds": ("cacheTtlInSeconds", patches.INTEGER),
    "caching/dataEncrypted": ("cacheDataEncrypted", patches.BOOLEAN),
    "caching/requireAuthorizationForCacheControl": ("requireAuthorizationForCacheControl", patches.BOOLEAN),
    "caching/unauthorizedCacheControlHeaderStrategy": ("unauthorizedCacheControlHeaderStrategy", patches.TEXT),
}
ACCESS_LOG = {"destination": "destinationArn", "form": "format"}
"""How the members of accessLogSettings are called."""
_RULES = {
    "/deploymentId": patches.TEXT,
    "/description": patches.TEXT,
    "/clientCertificateId": patches.TEXT,
    "/documentationVersion": patches.TEXT,
    "/cacheClusterEnabled": patches.BOOLEAN,
    "/cacheClusterSize": patches.TEXT,
    "/tracingEnabled": patches.BOOLEAN,
    "/variables": patches.TEXT,
    "/variables/*": patches.TEXT,
    "/accessLogSettings": patches.TEXT,
    "/accessLogSettings/format": patches.TEXT,
    "/accessLogSettings/destinationArn": patches.TEXT,
    "/canarySettings": patches.TEXT,
    "/canarySettings/percentTraffic": patches.NUMBER,
    "/canarySettings/deploymentId": patches.TEXT,
    "/canarySettings/useStageCache": patches.BOOLEAN,
    "/canarySettings/stageVariableOverrides": patches.TEXT,
    "/canarySettings/stageVariableOverrides/*": patches.TEXT,
}


class StageOperations:
    def __init__(self, documents: Documents) -> None:
        self._store = open_store(documents)

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateStage": self.create,
            "GetStage": self.get,
            "GetStages": self.list,
            "UpdateStage": self.update,
            "DeleteStage": self.delete,
            "FlushStageAuthorizersCache": self.flush,
            "FlushStageCache": self.flush,
            "CreateDeployment": self.deploy,
            "GetDeployment": self.get_deployment,
            "GetDeployments": self.get_deployments,
            "UpdateDeployment": self.update_deployment,
            "DeleteDeployment": self.delete_deployment,
        }

    async def create(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> Members:
            if params["stageName"] in api.stages:
                raise conflict("Stage already exists")
            return _add_stage(api, pick(params, _STAGE))

        return show(await self._store.change(context.account, params["restApiId"], work))

    async def get(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["restApiId"])
        return show(find(api.stages, "stage", params["stageName"]))

    async def list(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["restApiId"])
        wanted = params.get("deploymentId")
        stages = [stage for stage in api.stages.values() if wanted in (None, stage["deploymentId"])]
        return {"item": [show(stage) for stage in stages]}

    async def update(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> Members:
            stage = find(api.stages, "stage", params["stageName"])
            for operation in params.get("patchOperations") or ():
                if not _set_method(stage, operation):
                    stage = patches.apply(stage, [operation], _RULES)
            _check(api, stage)
            stage["lastUpdatedDate"] = now_text()
            api.stages[params["stageName"]] = stage
            return stage

        return show(await self._store.change(context.account, params["restApiId"], work))

    async def delete(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> None:
            find(api.stages, "stage", params["stageName"])
            del api.stages[params["stageName"]]

        await self._store.change(context.account, params["restApiId"], work)
        return {}

    async def flush(self, context: RequestContext, params: Params) -> Params:
        """A change of the document, whatever it is, begins with empty caches."""

        def work(api: RestApi) -> None:
            find(api.stages, "stage", params["stageName"])["lastUpdatedDate"] = now_text()

        await self._store.change(context.account, params["restApiId"], work)
        return {}

    # Deployments

    async def deploy(self, context: RequestContext, params: Params) -> Params:
        snapshots: list[Write] = []

        def work(api: RestApi) -> Members:
            if not any(resource["resourceMethods"] for resource in api.configuration.resources.values()):
                raise bad_request("The REST API doesn't contain any methods")
            for resource in api.configuration.resources.values():
                for method in resource["resourceMethods"].values():
                    if "methodIntegration" not in method:
                        raise bad_request(
                            f"No integration defined for method: {method['httpMethod']} {resource['path']}"
                        )
            if len(api.deployments) >= MOST_DEPLOYMENTS:
                raise CallerError(
                    "LimitExceededException",
                    f"An API has at most {MOST_DEPLOYMENTS} deployments; delete those that no stage uses.",
                    status=429,
                )
            deployment = {"id": new_id(6), "createdDate": now_text(), **pick(params, ("description",))}
            api.deployments[deployment["id"]] = deployment
            _put_on_stage(api, deployment["id"], params)
            snapshot = Snapshot(
                account=api.account,
                api_id=api.api_id,
                deployment_id=deployment["id"],
                configuration=api.configuration,
            )
            key = api.snapshot_key(deployment["id"])
            snapshots[:] = [Write(collection=DEPLOYMENTS, key=key, value=msgspec.json.encode(snapshot), expect=0)]
            return deployment

        return show(await self._store.change(context.account, params["restApiId"], work, lambda: snapshots))

    async def get_deployment(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["restApiId"])
        return show(find(api.deployments, "Deployment", params["deploymentId"]))

    async def get_deployments(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["restApiId"])
        page, position = cut(params, list(api.deployments.values()), lambda deployment: deployment["id"])
        return {"items": [show(deployment) for deployment in page], "position": position}

    async def update_deployment(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> Members:
            known = find(api.deployments, "Deployment", params["deploymentId"])
            changed = patches.apply(known, params.get("patchOperations"), {"/description": patches.TEXT})
            api.deployments[changed["id"]] = changed
            return changed

        return show(await self._store.change(context.account, params["restApiId"], work))

    async def delete_deployment(self, context: RequestContext, params: Params) -> Params:
        id_ = params["deploymentId"]
        keys: list[str] = []

        def work(api: RestApi) -> None:
            find(api.deployments, "Deployment", id_)
            for name, stage in api.stages.items():
                if id_ in (stage["deploymentId"], (stage.get("canarySettings") or {}).get("deploymentId")):
                    raise bad_request(
                        f"Active stages pointing to this deployment must be moved or deleted: {name} uses {id_}."
                    )
            del api.deployments[id_]
            keys[:] = [api.snapshot_key(id_)]

        await self._store.change(
            context.account,
            params["restApiId"],
            work,
            lambda: [Write(collection=DEPLOYMENTS, key=key, value=None) for key in keys],
        )
        return {}


def _put_on_stage(api: RestApi, deployment: str, params: Params) -> None:
    """A deployment for a stage that is not there makes it; with canary settings it is the canary's."""
    name = params.get("stageName")
    if not name:
        return
    stage = api.stages.get(name)
    if params.get("canarySettings"):
        if stage is None:
            raise bad_request(f"Canary settings need a stage that is served already; there is none named {name}.")
        stage["canarySettings"] = {**params["canarySettings"], "deploymentId": deployment}
    elif stage is not None:
        stage["deploymentId"] = deployment
        stage["variables"] = {**stage.get("variables", {}), **(params.get("variables") or {})}
    else:
        members = pick(params, ("stageName", "cacheClusterEnabled", "cacheClusterSize", "variables", "tracingEnabled"))
        description = {"description": params["stageDescription"]} if params.get("stageDescription") else {}
        stage = _add_stage(api, {**members, **description, "deploymentId": deployment})
    stage["lastUpdatedDate"] = now_text()
    _check(api, stage)


def _add_stage(api: RestApi, members: Members) -> Members:
    if _NAME.fullmatch(members["stageName"]) is None:
        raise bad_request("Stage name only allows a-zA-Z0-9_-")
    now = now_text()
    defaults: Members = {
        "cacheClusterEnabled": False,
        "cacheClusterStatus": "NOT_AVAILABLE",
        "methodSettings": {},
        "tracingEnabled": False,
    }
    stage = {**defaults, **members, "createdDate": now, "lastUpdatedDate": now}
    if "canarySettings" in stage:
        stage["canarySettings"] = {"deploymentId": members["deploymentId"], **stage["canarySettings"]}
    _check(api, stage)
    api.stages[members["stageName"]] = stage
    return stage


def _check(api: RestApi, stage: Members) -> None:
    """Raises CallerError."""
    canary = stage.get("canarySettings") or {}
    for deployment in (stage["deploymentId"], canary.get("deploymentId", stage["deploymentId"])):
        if deployment not in api.deployments:
            raise bad_request(f"Invalid Deployment identifier specified: {deployment}")
    check_access_log(stage.get("accessLogSettings"), api.account, **ACCESS_LOG)
    if stage.get("cacheClusterEnabled"):
        raise bad_request("cacheClusterEnabled: Lambent has no cache of responses; leave it out.")
    percent = canary.get("percentTraffic", 0.0)
    if not 0 <= percent <= 100:
        raise bad_request("Canary percentTraffic must be from 0.0 to 100.0.")
    for name, value in {**(stage.get("variables") or {}), **(canary.get("stageVariableOverrides") or {})}.items():
        if _VARIABLE.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise bad_request(
                f"Stage variable '{name}' is invalid: names have letters, digits and underscores, values "
                "[A-Za-z0-9-._~:/?#&=,@ ]."
            )


def _set_method(stage: Members, operation: Mapping[str, str]) -> bool:
    """`/RESOURCE/METHOD/throttling/rateLimit` and the like; `/*/*` for all. False for another path."""
    names = patches.split(operation.get("path") or "/")
    if len(names) < 2 or names[1] not in (*METHODS, "*"):
        return False
    settings = stage.setdefault("methodSettings", {})
    # As the contract shows them: the path without its first slash.
    key = f"{names[0] if names[0] == '*' else names[0].lstrip('/') or '~1'}/{names[1]}"
    if len(names) == 2 and operation.get("op") == "remove":
        settings.pop(key, None)
        return True
    rule = _SETTING_RULES.get("/".join(names[2:]))
    if rule is None:
        raise bad_request(
            f"Invalid method setting path: {operation['path']}. It must be /RESOURCE/METHOD/ and one of "
            f"{', '.join(_SETTING_RULES)}"
        )
    member, kind = rule
    if operation.get("op") == "remove":
        settings.get(key, {}).pop(member, None)
    else:
        value = patches.convert(kind, operation.get("value"), operation["path"])
        if kind in (patches.NUMBER, patches.INTEGER) and value < 0:
            raise bad_request(f"Invalid value '{value}' for '{operation['path']}': it must not be below 0.")
        settings.setdefault(key, {})[member] = value
    return True

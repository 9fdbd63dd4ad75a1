"""Stages and deployments of the APIs of the second version."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lambent.awsapi.context import Operation, RequestContext
from lambent.frontdoor.access_logs import check_access_log
from lambent.frontdoor.answers import Params, bad_request, conflict, find, not_found, now_text
from lambent.frontdoor.http_apis.answers import cut, show_dates
from lambent.frontdoor.http_apis.deployments import add_deployment, deploy, forget_unused
from lambent.frontdoor.http_apis.model import WEBSOCKET, Api, Members
from lambent.frontdoor.http_apis.routing import DEFAULT
from lambent.frontdoor.http_apis.store import ApiStore
from lambent.substrate.ports import Documents

ACCESS_LOG = {"destination": "DestinationArn", "form": "Format"}
"""How the members of AccessLogSettings are called."""
_STAGE = re.compile(r"\$default|[A-Za-z0-9_-]{1,128}")


class StageOperations:
    def __init__(self, documents: Documents) -> None:
        self._store = ApiStore(documents)

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateStage": self.create_stage,
            "GetStage": self.get_stage,
            "GetStages": self.get_stages,
            "UpdateStage": self.update_stage,
            "DeleteStage": self.delete_stage,
            "DeleteRouteSettings": self.delete_route_settings,
            "DeleteAccessLogSettings": self.delete_access_log_settings,
            "ResetAuthorizersCache": self.reset_authorizers_cache,
            "CreateDeployment": self.create_deployment,
            "GetDeployment": self.get_deployment,
            "GetDeployments": self.get_deployments,
            "UpdateDeployment": self.update_deployment,
            "DeleteDeployment": self.delete_deployment,
        }

    # Stages

    async def create_stage(self, context: RequestContext, params: Params) -> Params:
        name = params["StageName"]
        if _STAGE.fullmatch(name) is None:
            raise bad_request("StageName must be $default or up to 128 letters, digits, hyphens and underscores.")

        def work(api: Api) -> Members:
            if name in api.stages:
                raise conflict("Stage already exists")
            if name == DEFAULT and api.protocol == WEBSOCKET:
                raise bad_request("A WebSocket API has no stage $default; name it otherwise.")
            if params.get("AutoDeploy") and params.get("DeploymentId"):
                raise bad_request("DeploymentId and AutoDeploy exclude each other.")
            check_access_log(params.get("AccessLogSettings"), api.account, **ACCESS_LOG)
            if params.get("DeploymentId") and params["DeploymentId"] not in api.deployments:
                raise not_found("Deployment", params["DeploymentId"])
            api.stages[name] = make_stage(params)
            deploy(api)
            return api.stages[name]

        return show_dates(await self._store.change(context.account, params["ApiId"], work))

    async def get_stage(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["ApiId"])
        return show_dates(find(api.stages, "Stage", params["StageName"]))

    async def get_stages(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["ApiId"])
        page = cut(params, list(api.stages.values()), lambda stage: stage["StageName"])
        return {"Items": [show_dates(stage) for stage in page[0]], "NextToken": page[1]}

    async def update_stage(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> Members:
            stage = find(api.stages, "Stage", params["StageName"])
            if params.get("DeploymentId"):
                if params.get("AutoDeploy", stage.get("AutoDeploy")):
                    raise bad_request("DeploymentId and AutoDeploy exclude each other.")
                find(api.deployments, "Deployment", params["DeploymentId"])
            check_access_log(params.get("AccessLogSettings"), api.account, **ACCESS_LOG)
            stage |= {name: value for name, value in params.items() if name not in ("ApiId", "StageName")}
            stage["LastUpdatedDate"] = now_text()
            deploy(api)
            return stage

        return show_dates(await self._store.change(context.account, params["ApiId"], work))

    async def delete_stage(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> None:
            find(api.stages, "Stage", params["StageName"])
            del api.stages[params["StageName"]]
            forget_unused(api)

        await self._store.change(context.account, params["ApiId"], work)
        return {}

    async def delete_route_settings(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> None:
            settings = find(api.stages, "Stage", params["StageName"]).get("RouteSettings", {})
            find(settings, "RouteKey", params["RouteKey"])
            del settings[params["RouteKey"]]

        await self._store.change(context.account, params["ApiId"], work)
        return {}

    async def delete_access_log_settings(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> None:
            find(api.stages, "Stage", params["StageName"]).pop("AccessLogSettings", None)

        await self._store.change(context.account, params["ApiId"], work)
        return {}

    async def reset_authorizers_cache(self, context: RequestContext, params: Params) -> Params:
        """A change of the document, whatever it is, begins with empty caches."""

        def work(api: Api) -> None:
            find(api.stages, "Stage", params["StageName"])["LastUpdatedDate"] = now_text()

        await self._store.change(context.account, params["ApiId"], work)
        return {}

    # Deployments

    async def create_deployment(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> Members:
            stage = None
            if params.get("StageName"):
                stage = find(api.stages, "Stage", params["StageName"])
                if stage.get("AutoDeploy"):
                    raise bad_request(f"The stage {params['StageName']} deploys by itself (AutoDeploy).")
            if not api.configuration.routes:
                raise bad_request("At least one route is required before deploying the Api.")
            deployment = add_deployment(api, description=params.get("Description"), automatic=False)
            if stage is not None:
                stage |= {"DeploymentId": deployment["DeploymentId"], "LastUpdatedDate": now_text()}
            return deployment

        return show_dates(await self._store.change(context.account, params["ApiId"], work))

    async def get_deployment(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["ApiId"])
        return show_dates(find(api.deployments, "Deployment", params["DeploymentId"]))

    async def get_deployments(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["ApiId"])
        page = cut(params, list(api.deployments.values()), lambda deployment: deployment["DeploymentId"])
        return {"Items": [show_dates(deployment) for deployment in page[0]], "NextToken": page[1]}

    async def update_deployment(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> Members:
            deployment = find(api.deployments, "Deployment", params["DeploymentId"])
            if "Description" in params:
                deployment["Description"] = params["Description"]
            return deployment

        return show_dates(await self._store.change(context.account, params["ApiId"], work))

    async def delete_deployment(self, context: RequestContext, params: Params) -> Params:
        id_ = params["DeploymentId"]

        def work(api: Api) -> None:
            find(api.deployments, "Deployment", id_)
            using = [name for name, stage in api.stages.items() if stage.get("DeploymentId") == id_]
            if using:
                raise bad_request(f"Deployment {id_} is used by the stage {using[0]}.")
            del api.deployments[id_]
            api.snapshots.pop(id_, None)

        await self._store.change(context.account, params["ApiId"], work)
        return {}


def make_stage(params: Params) -> Members:
    now = now_text()
    members = {name: value for name, value in params.items() if name != "ApiId"}
    defaults: Members = {"AutoDeploy": False, "RouteSettings": {}, "StageVariables": {}, "Tags": {}}
    defaults["DefaultRouteSettings"] = {"DetailedMetricsEnabled": False}
    return {**defaults, **members, "CreatedDate": now, "LastUpdatedDate": now}

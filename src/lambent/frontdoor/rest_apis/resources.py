"""The operations on resources, methods, integrations, and what these answer."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping

from lambent.awsapi.context import Operation, RequestContext
from lambent.frontdoor.answers import Params, bad_request, conflict, find, new_id, not_found, pick
from lambent.frontdoor.rest_apis import patches
from lambent.frontdoor.rest_apis.answers import cut, open_store
from lambent.frontdoor.rest_apis.checks import check_integration, check_method
from lambent.frontdoor.rest_apis.model import METHODS, Configuration, Members, RestApi
from lambent.substrate.ports import Documents

MOST_RESOURCES = 300
_PART = re.compile(r"[A-Za-z0-9._~:$@&!*'(),;=%-]+|\{[A-Za-z0-9._:-]+\+?\}")

_METHOD = (
    "authorizationType",
    "authorizerId",
    "apiKeyRequired",
    "operationName",
    "requestParameters",
    "requestModels",
    "requestValidatorId",
    "authorizationScopes",
)
_METHOD_RULES = {
    "/authorizationType": patches.TEXT,
    "/authorizerId": patches.TEXT,
    "/apiKeyRequired": patches.BOOLEAN,
    "/operationName": patches.TEXT,
    "/requestValidatorId": patches.TEXT,
    "/requestParameters/*": patches.BOOLEAN,
    "/requestModels/*": patches.TEXT,
    "/authorizationScopes": patches.ITEMS,
    "/authorizationScopes/*": patches.ITEMS,
}
_METHOD_RESPONSE_RULES = {"/responseParameters/*": patches.BOOLEAN, "/responseModels/*": patches.TEXT}
_INTEGRATION = (
    "type",
    "uri",
    "connectionType",
    "connectionId",
    "credentials",
    "requestParameters",
    "requestTemplates",
    "passthroughBehavior",
    "cacheNamespace",
    "cacheKeyParameters",
    "contentHandling",
    "timeoutInMillis",
    "tlsConfig",
    "responseTransferMode",
    "integrationTarget",
)
_INTEGRATION_RULES = {
    "/type": patches.TEXT,
    "/uri": patches.TEXT,
    "/httpMethod": patches.TEXT,
    "/connectionType": patches.TEXT,
    "/connectionId": patches.TEXT,
    "/credentials": patches.TEXT,
    "/requestParameters/*": patches.TEXT,
    "/requestTemplates/*": patches.TEXT,
    "/passthroughBehavior": patches.TEXT,
    "/cacheNamespace": patches.TEXT,
    "/cacheKeyParameters": patches.ITEMS,
    "/cacheKeyParameters/*": patches.ITEMS,
    "/contentHandling": patches.TEXT,
    "/timeoutInMillis": patches.INTEGER,
    "/tlsConfig/insecureSkipVerification": patches.BOOLEAN,
    "/responseTransferMode": patches.TEXT,
}
_INTEGRATION_RESPONSE = ("selectionPattern", "responseParameters", "responseTemplates", "contentHandling")
_INTEGRATION_RESPONSE_RULES = {
    "/selectionPattern": patches.TEXT,
    "/contentHandling": patches.TEXT,
    "/responseParameters/*": patches.TEXT,
    "/responseTemplates/*": patches.TEXT,
}

Work = Callable[[RestApi], Members]


class ResourceOperations:
    def __init__(self, documents: Documents) -> None:
        self._store = open_store(documents)

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateResource": self.create,
            "GetResource": self.get,
            "GetResources": self.list,
            "UpdateResource": self.update,
            "DeleteResource": self.delete,
            "PutMethod": self.put_method,
            "GetMethod": self.get_method,
            "UpdateMethod": self.update_method,
            "DeleteMethod": self.delete_method,
            "PutMethodResponse": self.put_method_response,
            "GetMethodResponse": self.get_method_response,
            "UpdateMethodResponse": self.update_method_response,
            "DeleteMethodResponse": self.delete_method_response,
            "PutIntegration": self.put_integration,
            "GetIntegration": self.get_integration,
            "UpdateIntegration": self.update_integration,
            "DeleteIntegration": self.delete_integration,
            "PutIntegrationResponse": self.put_integration_response,
            "GetIntegrationResponse": self.get_integration_response,
            "UpdateIntegrationResponse": self.update_integration_response,
            "DeleteIntegrationResponse": self.delete_integration_response,
        }

    # Resources

    async def create(self, context: RequestContext, params: Params) -> Params:
        return await self._change(
            context, params, lambda api: add_resource(api.configuration, params["parentId"], params["pathPart"])
        )

    async def get(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["restApiId"])
        resource = find(api.configuration.resources, "Resource", params["resourceId"])
        return _show_resource(resource, params.get("embed"))

    async def list(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["restApiId"])
        page, position = cut(params, list(api.configuration.resources.values()), lambda resource: resource["id"])
        return {"items": [_show_resource(each, params.get("embed")) for each in page], "position": position}

    async def update(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> Members:
            resources = api.configuration.resources
            resource = find(resources, "Resource", params["resourceId"])
            if resource["path"] == "/":
                raise bad_request("The root resource cannot be changed.")
            rules = {"/pathPart": patches.TEXT, "/parentId": patches.TEXT}
            changed = patches.apply(resource, params.get("patchOperations"), rules)
            parent = find(resources, "Resource", changed["parentId"])
            _check_place(api.configuration, parent, changed["pathPart"], own_id=resource["id"])
            if parent["path"] == resource["path"] or parent["path"].startswith(resource["path"] + "/"):
                raise bad_request("A resource cannot be below itself.")
            resource |= changed
            _renew_paths(api.configuration, resource, parent)
            return _show_resource(resource, None)

        return await self._change(context, params, work)

    async def delete(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> Members:
            resources = api.configuration.resources
            if find(resources, "Resource", params["resourceId"])["path"] == "/":
                raise bad_request("The root resource cannot be deleted; delete the API.")
            gone = {params["resourceId"]}
            while below := {id_ for id_, each in resources.items() if each.get("parentId") in gone} - gone:
                gone |= below
            for id_ in gone:
                del resources[id_]
            return {}

        return await self._change(context, params, work)

    # Methods

    async def put_method(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> Members:
            resource = find(api.configuration.resources, "Resource", params["resourceId"])
            name = check_method_name(params["httpMethod"])
            if name in resource["resourceMethods"]:
                raise conflict("Method already exists for this resource")
            method = {"httpMethod": name, "apiKeyRequired": False, **pick(params, _METHOD)}
            check_method(api.configuration, resource, method)
            resource["resourceMethods"][name] = method
            return method

        return await self._change(context, params, work)

    async def get_method(self, context: RequestContext, params: Params) -> Params:
        return _method(await self._store.get(context.account, params["restApiId"]), params)

    async def update_method(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> Members:
            resource = find(api.configuration.resources, "Resource", params["resourceId"])
            changed = patches.apply(_method(api, params), params.get("patchOperations"), _METHOD_RULES)
            check_method(api.configuration, resource, changed)
            resource["resourceMethods"][params["httpMethod"]] = changed
            return changed

        return await self._change(context, params, work)

    async def delete_method(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> Members:
            _method(api, params)
            del api.configuration.resources[params["resourceId"]]["resourceMethods"][params["httpMethod"]]
            return {}

        return await self._change(context, params, work)

    async def put_method_response(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> Members:
            responses = _method(api, params).setdefault("methodResponses", {})
            if params["statusCode"] in responses:
                raise conflict("Response already exists for this resource")
            members = {name: params[name] for name in ("responseParameters", "responseModels") if params.get(name)}
            _check_models(api.configuration, members.get("responseModels"))
            responses[params["statusCode"]] = {"statusCode": params["statusCode"], **members}
            response: Members = responses[params["statusCode"]]
            return response

        return await self._change(context, params, work)

    async def get_method_response(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["restApiId"])
        return _response(_method(api, params).get("methodResponses", {}), params)

    async def update_method_response(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> Members:
            responses = _method(api, params).get("methodResponses", {})
            changed = patches.apply(_response(responses, params), params.get("patchOperations"), _METHOD_RESPONSE_RULES)
            _check_models(api.configuration, changed.get("responseModels"))
            responses[params["statusCode"]] = changed
            return changed

        return await self._change(context, params, work)

    async def delete_method_response(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> Members:
            responses = _method(api, params).get("methodResponses", {})
            _response(responses, params)
            del responses[params["statusCode"]]
            return {}

        return await self._change(context, params, work)

    # Integrations

    async def put_integration(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> Members:
            resource = find(api.configuration.resources, "Resource", params["resourceId"])
            method = _method(api, params)
            integration = new_integration(pick(params, _INTEGRATION), resource)
            if params.get("integrationHttpMethod"):
                integration["httpMethod"] = params["integrationHttpMethod"]
            check_integration(integration)
            # What it answers is kept: a second put replaces what is asked, not what is told.
            kept = (method.get("methodIntegration") or {}).get("integrationResponses")
            integration |= {"integrationResponses": kept} if kept else {}
            method["methodIntegration"] = integration
            return integration

        return await self._change(context, params, work)

    async def get_integration(self, context: RequestContext, params: Params) -> Params:
        return _integration(await self._store.get(context.account, params["restApiId"]), params)

    async def update_integration(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> Members:
            changed = patches.apply(_integration(api, params), params.get("patchOperations"), _INTEGRATION_RULES)
            check_integration(changed)
            _method(api, params)["methodIntegration"] = changed
            return changed

        return await self._change(context, params, work)

    async def delete_integration(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> Members:
            _integration(api, params)
            del _method(api, params)["methodIntegration"]
            return {}

        return await self._change(context, params, work)

    async def put_integration_response(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> Members:
            method, integration = _method(api, params), _integration(api, params)
            if params["statusCode"] not in method.get("methodResponses", {}):
                raise not_found("Response status code", params["statusCode"])
            # The default is told by an empty pattern, or by none.
            members = {name: params[name] for name in _INTEGRATION_RESPONSE if params.get(name) is not None}
            response = {"statusCode": params["statusCode"], **members}
            integration.setdefault("integrationResponses", {})[params["statusCode"]] = response
            return response

        return await self._change(context, params, work)

    async def get_integration_response(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["restApiId"])
        return _response(_integration(api, params).get("integrationResponses", {}), params)

    async def update_integration_response(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> Members:
            responses = _integration(api, params).get("integrationResponses", {})
            known = _response(responses, params)
            changed = patches.apply(known, params.get("patchOperations"), _INTEGRATION_RESPONSE_RULES)
            responses[params["statusCode"]] = changed
            return changed

        return await self._change(context, params, work)

    async def delete_integration_response(self, context: RequestContext, params: Params) -> Params:
        def work(api: RestApi) -> Members:
            responses = _integration(api, params).get("integrationResponses", {})
            _response(responses, params)
            del responses[params["statusCode"]]
            return {}

        return await self._change(context, params, work)

    async def _change(self, context: RequestContext, params: Params, work: Work) -> Params:
        return await self._store.change(context.account, params["restApiId"], work)


def add_resource(configuration: Configuration, parent_id: str, part: str) -> Members:
    """Raises CallerError."""
    parent = find(configuration.resources, "Resource", parent_id)
    if len(configuration.resources) >= MOST_RESOURCES:
        raise bad_request(f"An API has at most {MOST_RESOURCES} resources.")
    _check_place(configuration, parent, part, own_id="")
    id_ = new_id(6)
    configuration.resources[id_] = {"id": id_, "parentId": parent_id, "pathPart": part, "resourceMethods": {}}
    configuration.resources[id_]["path"] = _join(parent["path"], part)
    return _show_resource(configuration.resources[id_], None)


def new_integration(members: Members, resource: Members) -> Members:
    """With what the contract fills in."""
    integration = {
        "passthroughBehavior": "WHEN_NO_MATCH",
        "timeoutInMillis": 29_000,
        "cacheNamespace": resource["id"],
        "cacheKeyParameters": [],
        **members,
    }
    if integration["type"] == "AWS_PROXY":
        integration.setdefault("responseTransferMode", "BUFFERED")
    return integration


def check_method_name(name: str) -> str:
    """Raises CallerError."""
    if name not in METHODS:
        raise bad_request(f"Invalid HttpMethod specified. Valid options are {','.join(sorted(METHODS))}")
    return name


def _check_place(configuration: Configuration, parent: Members, part: str, *, own_id: str) -> None:
    if _PART.fullmatch(part) is None:
        raise bad_request(
            "Resource's path part only allow a-zA-Z0-9._-: or a valid greedy path variable and curly braces at the "
            "beginning and the end."
        )
    if parent["path"].endswith("+}"):
        raise bad_request(f"Cannot create a child of a resource with a greedy path variable: {parent['path']}")
    variable = part.strip("{}+") if part.startswith("{") else ""
    above = [piece.strip("{}+") for piece in parent["path"].split("/") if piece.startswith("{")]
    if variable and variable in above:
        raise bad_request(f"Invalid path part: the variable '{variable}' is in the path already.")
    for other in configuration.resources.values():
        if other.get("parentId") != parent["id"] or other["id"] == own_id:
            continue
        if other["pathPart"] == part:
            raise conflict("Another resource with the same parent already has this name: " + part)
        both = other["pathPart"].startswith("{") and variable
        if both and other["pathPart"].endswith("+}") == part.endswith("+}"):
            raise bad_request(
                f"A sibling ({other['pathPart']}) of this resource already has a variable path part -- only one is "
                "allowed"
            )


def _renew_paths(configuration: Configuration, resource: Members, parent: Members) -> None:
    resource["path"] = _join(parent["path"], resource["pathPart"])
    for child in configuration.resources.values():
        if child.get("parentId") == resource["id"]:
            _renew_paths(configuration, child, resource)


def _join(parent: str, part: str) -> str:
    return f"{parent.rstrip('/')}/{part}"


def _show_resource(resource: Members, embed: list[str] | None) -> Params:
    shown = copy.deepcopy(resource)
    if not shown["resourceMethods"]:
        del shown["resourceMethods"]
    elif "methods" not in (embed or ()):
        shown["resourceMethods"] = {name: {} for name in shown["resourceMethods"]}
    return shown


def _method(api: RestApi, params: Params) -> Members:
    resource = find(api.configuration.resources, "Resource", params["resourceId"])
    return find(resource["resourceMethods"], "Method", params["httpMethod"])


def _integration(api: RestApi, params: Params) -> Members:
    integration: Members | None = _method(api, params).get("methodIntegration")
    if integration is None:
        raise not_found("Integration", params["httpMethod"])
    return integration


def _response(responses: Mapping[str, Members], params: Params) -> Members:
    return find(responses, "Response status code", params["statusCode"])


def _check_models(configuration: Configuration, models: Mapping[str, str] | None) -> None:
    for name in (models or {}).values():
        if name not in configuration.models:
            raise bad_request(f"Invalid model specified: {name}")

"""The operations on authorizers, models, request validators and gateway responses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from lambent.awsapi.context import Operation, RequestContext
from lambent.frontdoor.answers import Params, bad_request, conflict, find, new_id, pick
from lambent.frontdoor.references import function_reference
from lambent.frontdoor.rest_apis import gateway_responses, patches
from lambent.frontdoor.rest_apis.answers import cut, open_store
from lambent.frontdoor.rest_apis.model import Configuration, Members, RestApi
from lambent.frontdoor.rest_apis.schemas import check_pattern, check_schema
from lambent.substrate.ports import Documents

MOST_AUTHORIZERS, LONGEST_TTL_S = 10, 3_600
_MODEL_NAME = re.compile(r"[A-Za-z0-9]{1,100}")
_AUTHORIZER = (
    "name",
    "type",
    "providerARNs",
    "authType",
    "authorizerUri",
    "authorizerCredentials",
    "identitySource",
    "identityValidationExpression",
    "authorizerResultTtlInSeconds",
)
_AUTHORIZER_RULES = {
    "/name": patches.TEXT,
    "/type": patches.TEXT,
    "/authType": patches.TEXT,
    "/authorizerUri": patches.TEXT,
    "/authorizerCredentials": patches.TEXT,
    "/identitySource": patches.TEXT,
    "/identityValidationExpression": patches.TEXT,
    "/authorizerResultTtlInSeconds": patches.INTEGER,
    "/providerARNs": patches.ITEMS,
    "/providerARNs/*": patches.ITEMS,
}


class PartOperations:
    def __init__(self, documents: Documents) -> None:
        self._store = open_store(documents)

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateAuthorizer": self.create_authorizer,
            "GetAuthorizer": self.get_authorizer,
            "GetAuthorizers": self.get_authorizers,
            "UpdateAuthorizer": self.update_authorizer,
            "DeleteAuthorizer": self.delete_authorizer,
            "CreateModel": self.create_model,
            "GetModel": self.get_model,
            "GetModels": self.get_models,
            "UpdateModel": self.update_model,
            "DeleteModel": self.delete_model,
            "CreateRequestValidator": self.create_validator,
            "GetRequestValidator": self.get_validator,
            "GetRequestValidators": self.get_validators,
            "UpdateRequestValidator": self.update_validator,
            "DeleteRequestValidator": self.delete_validator,
            "PutGatewayResponse": self.put_gateway_response,
            "GetGatewayResponse": self.get_gateway_response,
            "GetGatewayResponses": self.get_gateway_responses,
            "UpdateGatewayResponse": self.update_gateway_response,
            "DeleteGatewayResponse": self.delete_gateway_response,
        }

    # Authorizers

    async def create_authorizer(self, context: RequestContext, params: Params) -> Params:
        def work(configuration: Configuration) -> Members:
            if len(configuration.authorizers) >= MOST_AUTHORIZERS:
                raise bad_request(f"An API has at most {MOST_AUTHORIZERS} authorizers.")
            authorizer = new_authorizer(pick(params, _AUTHORIZER))
            if any(other["name"] == authorizer["name"] for other in configuration.authorizers.values()):
                raise conflict("Authorizer name must be unique. Authorizer already exists in this RestApi.")
            configuration.authorizers[authorizer["id"]] = authorizer
            return authorizer

        return await self._change(context, params, work)

    async def get_authorizer(self, context: RequestContext, params: Params) -> Params:
        configuration = await self._read(context, params)
        return find(configuration.authorizers, "Authorizer", params["authorizerId"])

    async def get_authorizers(self, context: RequestContext, params: Params) -> Params:
        return _cut(params, (await self._read(context, params)).authorizers)

    async def update_authorizer(self, context: RequestContext, params: Params) -> Params:
        def work(configuration: Configuration) -> Members:
            known = find(configuration.authorizers, "Authorizer", params["authorizerId"])
            changed = patches.apply(known, params.get("patchOperations"), _AUTHORIZER_RULES)
            check_authorizer(changed)
            configuration.authorizers[changed["id"]] = changed
            return changed

        return await self._change(context, params, work)

    async def delete_authorizer(self, context: RequestContext, params: Params) -> Params:
        def work(configuration: Configuration) -> Members:
            id_ = params["authorizerId"]
            find(configuration.authorizers, "Authorizer", id_)
            _refuse_used(configuration, f"Authorizer {id_}", lambda method: method.get("authorizerId") == id_)
            del configuration.authorizers[id_]
            return {}

        return await self._change(context, params, work)

    # Models

    async def create_model(self, context: RequestContext, params: Params) -> Params:
        def work(configuration: Configuration) -> Members:
            name = params["name"]
            if name in configuration.models:
                raise conflict("Model name already exists for this REST API")
            members = pick(params, ("name", "description", "contentType", "schema"))
            return add_model(configuration, members)

        return await self._change(context, params, work)

    async def get_model(self, context: RequestContext, params: Params) -> Params:
        return find((await self._read(context, params)).models, "Model Name", params["modelName"])

    async def get_models(self, context: RequestContext, params: Params) -> Params:
        return _cut(params, (await self._read(context, params)).models)

    async def update_model(self, context: RequestContext, params: Params) -> Params:
        def work(configuration: Configuration) -> Members:
            known = find(configuration.models, "Model Name", params["modelName"])
            rules = {"/description": patches.TEXT, "/schema": patches.TEXT}
            changed = patches.apply(known, params.get("patchOperations"), rules)
            check_schema(changed.get("schema"), configuration.models)
            configuration.models[params["modelName"]] = changed
            return changed

        return await self._change(context, params, work)

    async def delete_model(self, context: RequestContext, params: Params) -> Params:
        def work(configuration: Configuration) -> Members:
            name = params["modelName"]
            find(configuration.models, "Model Name", name)

            def uses(method: Members) -> bool:
                return name in (method.get("requestModels") or {}).values()

            _refuse_used(configuration, f"Model {name}", uses)
            del configuration.models[name]
            return {}

        return await self._change(context, params, work)

    # Request validators

    async def create_validator(self, context: RequestContext, params: Params) -> Params:
        def work(configuration: Configuration) -> Members:
            id_ = new_id(6)
            configuration.validators[id_] = {
                "id": id_,
                "name": params.get("name") or "",
                "validateRequestBody": bool(params.get("validateRequestBody")),
                "validateRequestParameters": bool(params.get("validateRequestParameters")),
            }
            return configuration.validators[id_]

        return await self._change(context, params, work)

    async def get_validator(self, context: RequestContext, params: Params) -> Params:
        return find((await self._read(context, params)).validators, "Request Validator", params["requestValidatorId"])

    async def get_validators(self, context: RequestContext, params: Params) -> Params:
        return _cut(params, (await self._read(context, params)).validators)

    async def update_validator(self, context: RequestContext, params: Params) -> Params:
        rules = {
            "/name": patches.TEXT,
            "/validateRequestBody": patches.BOOLEAN,
            "/validateRequestParameters": patches.BOOLEAN,
        }

        def work(configuration: Configuration) -> Members:
            known = find(configuration.validators, "Request Validator", params["requestValidatorId"])
            changed = patches.apply(known, params.get("patchOperations"), rules)
            configuration.validators[changed["id"]] = changed
            return changed

        return await self._change(context, params, work)

    async def delete_validator(self, context: RequestContext, params: Params) -> Params:
        def work(configuration: Configuration) -> Members:
            id_ = params["requestValidatorId"]
            find(configuration.validators, "Request Validator", id_)
            _refuse_used(configuration, f"Validator {id_}", lambda method: method.get("requestValidatorId") == id_)
            del configuration.validators[id_]
            return {}

        return await self._change(context, params, work)

    # Gateway responses

    async def put_gateway_response(self, context: RequestContext, params: Params) -> Params:
        def work(configuration: Configuration) -> Members:
            members = pick(params, ("responseType", "statusCode", "responseParameters", "responseTemplates"))
            gateway_responses.check(members)
            configuration.gateway_responses[params["responseType"]] = members
            return gateway_responses.show(configuration, params["responseType"])

        return await self._change(context, params, work)

    async def get_gateway_response(self, context: RequestContext, params: Params) -> Params:
        return gateway_responses.show(await self._read(context, params), params["responseType"])

    async def get_gateway_responses(self, context: RequestContext, params: Params) -> Params:
        configuration = await self._read(context, params)
        return {"items": [gateway_responses.show(configuration, kind) for kind in gateway_responses.DEFAULTS]}

    async def update_gateway_response(self, context: RequestContext, params: Params) -> Params:
        rules = {
            "/statusCode": patches.TEXT,
            "/responseParameters/*": patches.TEXT,
            "/responseTemplates/*": patches.TEXT,
        }

        def work(configuration: Configuration) -> Members:
            known = gateway_responses.show(configuration, params["responseType"])
            changed = patches.apply(known, params.get("patchOperations"), rules)
            changed.pop("defaultResponse", None)
            gateway_responses.check(changed)
            configuration.gateway_responses[params["responseType"]] = changed
            return gateway_responses.show(configuration, params["responseType"])

        return await self._change(context, params, work)

    async def delete_gateway_response(self, context: RequestContext, params: Params) -> Params:
        def work(configuration: Configuration) -> Members:
            find(configuration.gateway_responses, "Gateway response type", params["responseType"])
            del configuration.gateway_responses[params["responseType"]]
            return {}

        return await self._change(context, params, work)

    async def _read(self, context: RequestContext, params: Params) -> Configuration:
        return (await self._store.get(context.account, params["restApiId"])).configuration

    async def _change(
        self, context: RequestContext, params: Params, work: Callable[[Configuration], Members]
    ) -> Params:
        def change(api: RestApi) -> Members:
            return work(api.configuration)

        return await self._store.change(context.account, params["restApiId"], change)


def new_authorizer(members: Members) -> Members:
    """With what the contract fills in. Raises CallerError."""
    authorizer = {"id": new_id(6), "authType": "custom", **members}
    if authorizer["type"] == "COGNITO_USER_POOLS":
        authorizer |= {"authType": "cognito_user_pools"}
    if authorizer["type"] == "TOKEN":
        authorizer.setdefault("identitySource", "method.request.header.Authorization")
    authorizer.setdefault("authorizerResultTtlInSeconds", 300)
    check_authorizer(authorizer)
    return authorizer


def check_authorizer(authorizer: Members) -> None:
    """Raises CallerError."""
    kind = authorizer["type"]
    if kind == "JWT":
        raise bad_request("Authorizers of type JWT are served for HTTP APIs; use TOKEN, REQUEST or COGNITO_USER_POOLS.")
    if kind == "COGNITO_USER_POOLS":
        if not authorizer.get("providerARNs"):
            raise bad_request("providerARNs must name at least one user pool.")
    elif not function_reference(authorizer.get("authorizerUri") or ""):
        raise bad_request(
            "Invalid Authorizer URI: it must be arn:aws:apigateway:REGION:lambda:path/2015-03-31/functions/"
            "FUNCTION_ARN/invocations"
        )
    ttl_s = authorizer["authorizerResultTtlInSeconds"]
    if not 0 <= ttl_s <= LONGEST_TTL_S:
        raise bad_request(f"authorizerResultTtlInSeconds must be from 0 to {LONGEST_TTL_S}.")
    sources = [source.strip() for source in (authorizer.get("identitySource") or "").split(",") if source.strip()]
    if kind == "TOKEN" and (len(sources) != 1 or not sources[0].startswith("method.request.header.")):
        raise bad_request("identitySource of a TOKEN authorizer must be one header, like method.request.header.NAME")
    if kind == "REQUEST" and not sources and ttl_s:
        raise bad_request(
            "identitySource is needed to keep answers: name one, or set authorizerResultTtlInSeconds to 0."
        )
    if authorizer.get("identityValidationExpression"):
        check_pattern("identityValidationExpression", authorizer["identityValidationExpression"])


def add_model(configuration: Configuration, members: Members) -> Members:
    """References to itself and to those that are there are followed. Raises CallerError."""
    if _MODEL_NAME.fullmatch(members["name"]) is None:
        raise bad_request("Model name must be alphanumeric: " + members["name"])
    check_schema(members.get("schema"), {**configuration.models, members["name"]: members})
    model = {"id": new_id(6), **members}
    configuration.models[members["name"]] = model
    return model


def _refuse_used(configuration: Configuration, what: str, uses: Callable[[Members], bool]) -> None:
    for resource in configuration.resources.values():
        for name, method in resource["resourceMethods"].items():
            if uses(method):
                raise conflict(f"{what} is used by the method {name} of {resource['path']}.")


def _cut(params: Params, known: Mapping[str, Members]) -> Params:
    page, position = cut(params, list(known.values()), lambda members: members["id"])
    return {"items": page, "position": position}

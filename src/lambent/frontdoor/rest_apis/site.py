"""REST APIs as they are served: stage, canary, method, caller, validation, integration, answer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from lambent.frontdoor.access_logs import AccessWriter, find_in, read_access_log
from lambent.frontdoor.authorizers.iam import Authenticator
from lambent.frontdoor.call import HttpAnswer, HttpCall, answer_json
from lambent.frontdoor.functions import Functions
from lambent.frontdoor.http_apis.routing import Router
from lambent.frontdoor.outgoing import Outgoing
from lambent.frontdoor.place import APIS, Place
from lambent.frontdoor.rest_apis import gateway_responses, request_validation
from lambent.frontdoor.rest_apis.binary import compress
from lambent.frontdoor.rest_apis.callers import Callers
from lambent.frontdoor.rest_apis.directory import RestApiDirectory
from lambent.frontdoor.rest_apis.gateway_responses import Refused
from lambent.frontdoor.rest_apis.integrations import Integrations, build_event
from lambent.frontdoor.rest_apis.model import Configuration, RestApi
from lambent.frontdoor.rest_apis.quotas import TakeQuota
from lambent.frontdoor.rest_apis.request import Request, Served
from lambent.frontdoor.rest_apis.stages import ACCESS_LOG
from lambent.frontdoor.throttling import Throttle

MAX_BODY_BYTES = 10_485_760
_FORBIDDEN = answer_json(403, b'{"message":"Forbidden"}', [("x-amzn-errortype", "ForbiddenException")])


class RestApis:
    """Implements the door's `Site`."""

    max_body_bytes = MAX_BODY_BYTES

    def __init__(
        self,
        directory: RestApiDirectory,
        *,
        functions: Functions,
        authenticator: Authenticator,
        outgoing: Outgoing,
        take_quota: TakeQuota,
        access: AccessWriter,
        throttle: Throttle | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`draw` gives numbers from 0 to 1: which requests a canary gets."""
        self._directory = directory
        self._access = access
        self._throttle = throttle or Throttle()
        self._draw = draw
        self._served: dict[tuple[str, str, bool], Served | None] = {}
        self._integrations = Integrations(functions, outgoing)
        self._callers = Callers(
            directory,
            functions=functions,
            authenticator=authenticator,
            outgoing=outgoing,
            throttle=self._throttle,
            take_quota=take_quota,
            build_event=build_event,
        )
        directory.tell(self._forget)

    def has(self, place: Place) -> bool:
        return place.kind == APIS and self._directory.find(place.id) is not None

    async def answer(self, place: Place, call: HttpCall) -> HttpAnswer:
        api = self._directory.find(place.id)
        if api is None or (api.settings.get("disableExecuteApiEndpoint") and not place.domain):
            return _FORBIDDEN
        name, raw_path = _find_stage(place, call)
        served = self._serve_stage(api, name)
        if served is None:
            return _FORBIDDEN
        began = time.perf_counter()
        request = _route(served, place, call, raw_path)
        try:
            if "id" not in request.resource:
                raise Refused("MISSING_AUTHENTICATION_TOKEN")
            answer = await self._answer(request)
        except Refused as refused:
            _note_refusal(request, refused)
            answer = gateway_responses.answer(
                served.configuration, refused, request.find, accept=call.header("accept") or ""
            )
        answer = compress(answer, call, served.configuration.settings.get("minimumCompressionSize"))
        if served.access is None:
            return answer
        if place.domain:
            request.facts["customDomain.basePathMatched"] = place.prefix.decode("latin-1").strip("/")
        return self._access.follow(
            served.access, answer, lambda name: _find_fact(request, name), request_id=call.request_id, began=began
        )

    async def _answer(self, request: Request) -> HttpAnswer:
        self._check_throttle(request)
        began = time.perf_counter()
        try:
            request.admitted = await self._callers.admit(request)
        finally:
            request.facts["authorizer.latency"] = round((time.perf_counter() - began) * 1000)
        # What was known of the caller before is not all that is known now.
        request.__dict__.pop("context", None)
        request_validation.validate(request)
        began = time.perf_counter()
        try:
            answer = await self._integrations.answer(request)
        finally:
            latency_ms = round((time.perf_counter() - began) * 1000)
            request.facts["integration.latency"] = request.facts["integrationLatency"] = latency_ms
        request.facts.setdefault("integration.status", answer.status)
        return answer

    def _check_throttle(self, request: Request) -> None:
        """By the method's settings of the stage, else by those for all methods. Raises Refused."""
        served = request.served
        settings = served.members.get("methodSettings") or {}
        for key in (request.method_key, "*/*"):
            known = settings.get(key) or {}
            rate, burst = known.get("throttlingRateLimit"), known.get("throttlingBurstLimit")
            if rate is None and burst is None:
                continue
            # Each method has its own bucket, also by the settings for all.
            place = (served.api.api_id, served.stage, request.method_key)
            if not self._throttle.take_limits(place, rate, burst):
                raise Refused("THROTTLED")
            return

    def _serve_stage(self, api: RestApi, name: str) -> Served | None:
        members = api.stages.get(name)
        if members is None:
            return None
        canary = members.get("canarySettings") or {}
        is_canary = bool(canary) and self._draw() * 100 < canary.get("percentTraffic", 0.0)
        key = (api.api_id, name, is_canary)
        if key not in self._served:
            deployment = canary["deploymentId"] if is_canary else members["deploymentId"]
            configuration = self._directory.find_deployment(api, deployment)
            variables = {
                **(members.get("variables") or {}),
                **((canary.get("stageVariableOverrides") or {}) if is_canary else {}),
            }
            if configuration is None:
                # On its way here, perhaps: not remembered.
                return None
            self._served[key] = Served(
                api=api,
                stage=name,
                members=members,
                configuration=configuration,
                router=_router(configuration),
                variables=variables,
                schemas={},
                is_canary=is_canary,
                access=read_access_log(members.get("accessLogSettings"), api_id=api.api_id, stage=name, **ACCESS_LOG),
            )
        return self._served[key]

    def _forget(self, api_id: str) -> None:
        """It has changed: nothing that was made ready of it is good any more."""
        self._callers.forget(api_id)
        for key in [key for key in self._served if key[0] == api_id]:
            del self._served[key]


def _note_refusal(request: Request, refused: Refused) -> None:
    request.facts |= {
        "error.message": refused.message,
        "error.messageString": msgspec.json.encode(refused.message).decode(),
        "error.responseType": refused.kind,
        **refused.variables,
    }
    if refused.__cause__ is not None and refused.kind.startswith(("INTEGRATION", "API_CONFIGURATION")):
        request.facts["integration.error"] = request.facts["integrationErrorMessage"] = str(refused.__cause__)


def _find_fact(request: Request, name: str) -> Any:
    if name in request.facts:
        return request.facts[name]
    if name == "deploymentId":
        return request.served.members.get("deploymentId")
    return request.call.trace_id if name == "xrayTraceId" else find_in(request.context, name)


def _find_stage(place: Place, call: HttpCall) -> tuple[str, bytes]:
    """The stage, and the path below it."""
    if place.stage is not None:
        return place.stage, call.raw_path
    first, slash, rest = call.raw_path[1:].partition(b"/")
    return first.decode("latin-1"), slash + rest or b"/"


def _router(configuration: Configuration) -> Router:
    """Of resources: which of their methods a request is for is told afterwards."""
    return Router(
        {id_: {"RouteKey": f"ANY {resource['path']}", "id": id_} for id_, resource in configuration.resources.items()}
    )


def _route(served: Served, place: Place, call: HttpCall, raw_path: bytes) -> Request:
    """A resource without an id is none of the API's."""
    # A slash at the end does not make another resource.
    match = served.router.find(call.method, raw_path.rstrip(b"/") or b"/")
    resource = served.configuration.resources[match.route.members["id"]] if match is not None else None
    methods = resource["resourceMethods"] if resource is not None else {}
    method = methods.get(call.method) or methods.get("ANY")
    below = unquote_to_bytes(raw_path).decode("utf-8", "replace")
    mapped = place.prefix.decode("latin-1") if place.domain else ""
    return Request(
        served=served,
        call=call,
        raw_path=raw_path,
        path=mapped + below if place.domain else call.path,
        shown_path=mapped + below,
        resource=resource if resource is not None and method is not None else {"path": "", "resourceMethods": {}},
        method=method or {"httpMethod": call.method},
        path_parameters=match.parameters if match is not None else {},
    )

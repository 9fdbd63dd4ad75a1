"""HTTP APIs as they are served: stage, route, authorizer, throttle, integration, answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import msgspec

from lambent.frontdoor import cors
from lambent.frontdoor.access_logs import AccessLog, AccessWriter, Facts, read_access_log
from lambent.frontdoor.authorizers import iam
from lambent.frontdoor.authorizers.decision import Allowed, Forbidden, Unauthorized
from lambent.frontdoor.authorizers.functions import AuthorizerFailed, Verdicts, flatten_context
from lambent.frontdoor.authorizers.iam import Authenticator
from lambent.frontdoor.authorizers.identity_sources import read_sources
from lambent.frontdoor.call import HOP_BY_HOP, HttpAnswer, HttpCall, answer_json
from lambent.frontdoor.functions import EventTooLarge, Functions, TimedOut
from lambent.frontdoor.http_apis.directory import ApiDirectory
from lambent.frontdoor.http_apis.model import HTTP, Api, Configuration, Members
from lambent.frontdoor.http_apis.parameters import IN_A_PATH, Variables, map_request, map_response
from lambent.frontdoor.http_apis.routing import DEFAULT, Match, Router
from lambent.frontdoor.http_apis.stage_variables import fill
from lambent.frontdoor.http_apis.stages import ACCESS_LOG
from lambent.frontdoor.outgoing import NotReached, Outgoing, TooSlow, write_part
from lambent.frontdoor.payloads import v1, v2
from lambent.frontdoor.place import APIS, Place
from lambent.frontdoor.references import function_reference
from lambent.frontdoor.throttling import Throttle
from lambent.model.errors import CallerError, PlatformError
from lambent.model.function import read_cors

if TYPE_CHECKING:
    from lambent.frontdoor.authorizers.jwt import IssuerKeys

MAX_BODY_BYTES = 10_485_760
MAX_ANSWER_BYTES = 10_485_760

_NOT_FOUND = answer_json(404, b'{"message":"Not Found"}')
_FORBIDDEN = answer_json(403, b'{"message":"Forbidden"}')
_UNAUTHORIZED = answer_json(401, b'{"message":"Unauthorized"}', [("www-authenticate", "Bearer")])
_TOO_MANY = answer_json(429, b'{"message":"Too Many Requests"}')
_BAD_REQUEST = answer_json(400, b'{"message":"Bad Request"}')
_TOO_LARGE = answer_json(413, b'{"message":"Request Entity Too Large"}')
_FAILED = answer_json(500, b'{"message":"Internal Server Error"}')
_TOO_SLOW = answer_json(504, b'{"message":"Gateway Timeout"}')
_UNAVAILABLE = answer_json(503, b'{"message":"Service Unavailable"}')

_SIGNER = {"callerId": "caller", "userId": "user"}
"""Of those who sign, as `$context.identity` names it where that is otherwise."""
_MESSAGES = {
    400: "Bad Request",
    413: "Request Entity Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class _Stage(NamedTuple):
    """What a stage serves, made ready."""

    api: Api
    name: str
    members: Members
    configuration: Configuration
    router: Router
    access: AccessLog | None

    @property
    def variables(self) -> Mapping[str, str]:
        return self.members.get("StageVariables") or {}


class _Request(NamedTuple):
    """A call on its way through a stage."""

    stage: _Stage
    call: HttpCall
    match: Match
    raw_path: bytes
    """Below the stage."""
    path: str
    """As events show it: decoded, with the stage."""
    facts: Facts

    @property
    def arn(self) -> str:
        """As policies of authorizers name it."""
        api = self.stage.api
        below = self.raw_path.decode("latin-1").lstrip("/")
        return (
            f"arn:aws:execute-api:{api.region}:{api.account}:{api.api_id}/{self.stage.name}/{self.call.method}/{below}"
        )

    @property
    def route_arn(self) -> str:
        api = self.stage.api
        return f"arn:aws:execute-api:{api.region}:{api.account}:{api.api_id}/{self.stage.name}/{self.match.route.key}"


class HttpApis:
    """Implements the door's `Site`."""

    max_body_bytes = MAX_BODY_BYTES

    def __init__(
        self,
        directory: ApiDirectory,
        *,
        functions: Functions,
        authenticator: Authenticator,
        outgoing: Outgoing,
        access: AccessWriter,
        throttle: Throttle | None = None,
    ) -> None:
        self._access = access
        self._directory = directory
        directory.tell(self._forget)
        self._stages: dict[tuple[str, str], _Stage | None] = {}
        self._functions = functions
        self._authenticator = authenticator
        self._outgoing = outgoing
        self._throttle = throttle or Throttle()
        self._verdicts: dict[str, Verdicts] = {}
        self._keys: IssuerKeys | None = None

    def has(self, place: Place) -> bool:
        api = self._directory.find(place.id)
        return place.kind == APIS and api is not None and api.protocol == HTTP

    async def answer(self, place: Place, call: HttpCall) -> HttpAnswer:
        api = self._directory.find(place.id)
        if api is None:
            return _NOT_FOUND
        if api.settings.get("DisableExecuteApiEndpoint") and not place.domain:
            return _NOT_FOUND
        found = self._find_stage(api, place, call)
        if found is None:
            return _NOT_FOUND
        stage, raw_path = found
        rules = read_cors(api.settings.get("CorsConfiguration"))
        if rules is not None and (preflight := cors.answer_preflight(rules, call, status=204)) is not None:
            return preflight
        if stage.access is None:
            answer = await self._answer(stage, raw_path, place, call, {})
        else:
            answer = await self._answer_and_note(stage, stage.access, raw_path, place, call)
        return cors.apply(rules, call, answer) if rules is not None else answer

    async def _answer_and_note(
        self, stage: _Stage, access: AccessLog, raw_path: bytes, place: Place, call: HttpCall
    ) -> HttpAnswer:
        began = time.perf_counter()
        facts: Facts = {}
        answer = await self._answer(stage, raw_path, place, call, facts)
        if place.domain:
            facts["customDomain.basePathMatched"] = place.prefix.decode("latin-1").strip("/")
        known = _call_context(stage, call)

        def find(name: str) -> Any:
            return facts[name] if name in facts else known.get(name)

        if "path" not in facts:
            facts["path"] = call.path
        if isinstance(answer.body, bytes):
            facts["dataProcessed"] = len(call.body) + len(answer.body)
        return self._access.follow(access, answer, find, request_id=call.request_id, began=began)

    async def _answer(self, stage: _Stage, raw_path: bytes, place: Place, call: HttpCall, facts: Facts) -> HttpAnswer:
        match = stage.router.find(call.method, raw_path)
        if match is None:
            _note_error(facts, "Not Found")
            return _NOT_FOUND
        # With the path of a domain's mapping, as with the stage where the address has it.
        shown = place.prefix.decode("latin-1") + call.path if place.domain else call.path
        request = _Request(stage, call, match, raw_path, shown, facts)
        facts |= {"routeKey": match.route.key, "path": shown}
        if not self._passes(request):
            _note_error(facts, "Too Many Requests")
            return _TOO_MANY
        try:
            allowed = await self._authorize(request)
        except Unauthorized:
            _note_error(facts, "Unauthorized")
            return _UNAUTHORIZED
        except Forbidden:
            _note_error(facts, "Forbidden")
            return _FORBIDDEN
        except AuthorizerFailed as exc:
            _note_error(facts, "Internal Server Error")
            facts["authorizer.error"] = str(exc)
            return _FAILED
        if stage.access is not None:
            facts |= _authorizer_context(allowed)
        target = match.route.members.get("Target", "").partition("/")[2]
        integration = stage.configuration.integrations.get(target)
        if integration is None:
            return _FAILED
        return await self._integrate(request, integration, allowed)

    def _find_stage(self, api: Api, place: Place, call: HttpCall) -> tuple[_Stage, bytes] | None:
        """The stage and the path below it: named by a domain's mapping, by the first segment, or `$default`."""
        if place.stage is not None:
            stage = self._open_stage(api, place.stage)
            return (stage, call.raw_path) if stage is not None else None
        first, slash, rest = call.raw_path[1:].partition(b"/")
        name = first.decode("latin-1")
        if name and name != DEFAULT and (stage := self._open_stage(api, name)) is not None:
            return stage, slash + rest or b"/"
        stage = self._open_stage(api, DEFAULT)
        return (stage, call.raw_path) if stage is not None else None

    def _open_stage(self, api: Api, name: str) -> _Stage | None:
        key = (api.api_id, name)
        if key not in self._stages:
            if name not in api.stages:
                # Not remembered: whoever asks makes up any number of names.
                return None
            configuration = api.served(name)
            self._stages[key] = (
                _Stage(
                    api,
                    name,
                    api.stages[name],
                    configuration,
                    Router(configuration.routes),
                    read_access_log(
                        api.stages[name].get("AccessLogSettings"), api_id=api.api_id, stage=name, **ACCESS_LOG
                    ),
                )
                if configuration is not None
                else None
            )
        return self._stages[key]

    def _passes(self, request: _Request) -> bool:
        stage = request.stage
        return self._throttle.passes(stage.members, (stage.api.api_id, stage.name), request.match.route.key)

    # Authorizers

    async def _authorize(self, request: _Request) -> Allowed:
        """Raises Unauthorized, Forbidden, AuthorizerFailed."""
        route = request.match.route.members
        kind = route.get("AuthorizationType", "NONE")
        if kind == "NONE":
            return Allowed(context={})
        if kind == "AWS_IAM":
            return iam.authorize(
                self._authenticator, request.call, service="execute-api", account=request.stage.api.account
            )
        authorizer = request.stage.configuration.authorizers.get(route.get("AuthorizerId", ""))
        if authorizer is None:
            raise AuthorizerFailed("the route's authorizer is not there")
        if kind == "JWT":
            return await self._authorize_token(request, authorizer)
        return await self._authorize_by_function(request, authorizer)

    async def _authorize_token(self, request: _Request, authorizer: Members) -> Allowed:
        values = self._read_identity(request, authorizer)
        if values is None:
            raise Unauthorized
        # Most nodes check no tokens, and what it takes is slow to load.
        from lambent.frontdoor.authorizers import jwt  # noqa: PLC0415

        if self._keys is None:
            self._keys = jwt.IssuerKeys(self._fetch)
        settings = authorizer["JwtConfiguration"]
        return await jwt.authorize(
            values[0],
            issuer=settings["Issuer"],
            audiences=settings.get("Audience") or [],
            scopes=request.match.route.members.get("AuthorizationScopes") or [],
            keys=self._keys,
        )

    async def _authorize_by_function(self, request: _Request, authorizer: Members) -> Allowed:
        values = self._read_identity(request, authorizer)
        if values is None:
            raise Unauthorized
        simple = bool(authorizer.get("EnableSimpleResponses"))
        is_new = authorizer.get("AuthorizerPayloadFormatVersion") != "1.0"

        async def ask() -> bytes:
            event = self._authorizer_event(request, values, is_new=is_new)
            arn = fill(function_reference(authorizer["AuthorizerUri"]), request.stage.variables)
            try:
                outcome = await self._functions.invoke(
                    request.stage.api.account, arn, event, timeout_ms=10_000, trace_id=request.call.trace_id
                )
            except (CallerError, PlatformError, EventTooLarge, TimedOut) as exc:
                raise AuthorizerFailed("the authorizer was not invoked") from exc
            if outcome.function_error:
                if b'"Unauthorized"' in outcome.payload:
                    raise Unauthorized
                raise AuthorizerFailed("the authorizer failed")
            return outcome.payload

        verdicts = self._verdicts.setdefault(request.stage.api.api_id, Verdicts())
        ttl_s = authorizer.get("AuthorizerResultTtlInSeconds") or 0
        key = (authorizer["AuthorizerId"], request.stage.name, *values)
        verdict = await verdicts.find(key, ttl_s if values else 0, ask, simple=simple)
        verdict.check(request.arn)
        context = verdict.context
        if request.match.route.members and not is_new:
            context = flatten_context(context)
        return Allowed(context={"lambda": context} if context else {"lambda": None})

    def _read_identity(self, request: _Request, authorizer: Members) -> list[str] | None:
        context = {"routeKey": request.match.route.key, "httpMethod": request.call.method, "path": request.path}
        return read_sources(
            authorizer.get("IdentitySource") or [],
            request.call,
            context=context,
            stage_variables=request.stage.variables,
        )

    def _authorizer_event(self, request: _Request, values: list[str], *, is_new: bool) -> dict[str, Any]:
        event = self._build_event(request, "2.0" if is_new else "1.0", Allowed(context={}))
        event.pop("body", None)
        event.pop("isBase64Encoded", None)
        arn = request.arn
        if is_new:
            return {**event, "type": "REQUEST", "routeArn": arn, "identitySource": values}
        return {
            **event,
            "type": "REQUEST",
            "methodArn": arn,
            "identitySource": ",".join(values),
            "authorizationToken": ",".join(values),
        }

    # Integrations

    async def _integrate(self, request: _Request, integration: Members, allowed: Allowed) -> HttpAnswer:
        began = time.perf_counter()
        if integration["IntegrationType"] == "AWS_PROXY":
            answer = await self._invoke(request, integration, allowed)
        else:
            answer = await self._forward(request, integration, allowed)
        latency_ms = round((time.perf_counter() - began) * 1000)
        facts = request.facts
        facts["integration.latency"] = facts["integrationLatency"] = latency_ms
        facts.setdefault("integration.status", answer.status)
        mapped = (integration.get("ResponseParameters") or {}).get(str(answer.status))
        return map_response(answer, mapped, self._variables(request, allowed)) if mapped else answer

    async def _invoke(self, request: _Request, integration: Members, allowed: Allowed) -> HttpAnswer:
        version = integration.get("PayloadFormatVersion", "1.0")
        if rules := integration.get("RequestParameters"):
            request = self._map(request, rules, allowed)
        event = self._build_event(request, version, allowed)
        arn = fill(function_reference(integration["IntegrationUri"]), request.stage.variables)
        try:
            outcome = await self._functions.invoke(
                request.stage.api.account,
                arn,
                event,
                timeout_ms=integration.get("TimeoutInMillis", 30_000),
                trace_id=request.call.trace_id,
            )
        except EventTooLarge:
            return _fail(request, _TOO_LARGE, "the event is larger than a function is handed")
        except TimedOut:
            return _fail(request, _UNAVAILABLE, "the integration did not answer in time")
        except CallerError as exc:
            return _fail(
                request, _UNAVAILABLE if exc.code == "TooManyRequestsException" else _FAILED, exc.message or exc.code
            )
        request.facts["integrationStatus"] = request.facts["integration.integrationStatus"] = 200
        if outcome.function_error:
            return _fail(request, _FAILED, f"the function failed: {outcome.error_type}")
        try:
            return v2.read_answer(outcome.payload) if version == "2.0" else v1.read_answer(outcome.payload)
        except v2.Malformed as exc:
            return _fail(request, _FAILED, str(exc))

    def _map(self, request: _Request, rules: Mapping[str, str], allowed: Allowed) -> _Request:
        """The request as parameter mapping makes it for a function."""
        call = request.call
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in call.headers]
        query = call.query_string.decode("latin-1")
        variables = self._variables(request, allowed)
        url = "http://function" + quote(request.path, safe=IN_A_PATH)
        mapped = map_request(url, headers, query, rules, variables)
        parts = urlsplit(mapped.url)
        changed = msgspec.structs.replace(
            call,
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in mapped.headers],
            query_string=parts.query.encode("latin-1"),
        )
        return request._replace(call=changed, path=unquote(parts.path))

    def _build_event(self, request: _Request, version: str, allowed: Allowed) -> dict[str, Any]:
        call, stage = request.call, request.stage
        common: dict[str, Any] = {
            "path": request.path,
            "stage": stage.name,
            "api_id": stage.api.api_id,
            "account_id": stage.api.account,
            "domain_name": call.host,
            "path_parameters": request.match.parameters,
            "stage_variables": stage.variables,
        }
        if version == "2.0":
            return v2.build_event(call, route_key=request.match.route.key, authorizer=allowed.context, **common)
        key = request.match.route.key
        resource = key if key == DEFAULT else key.partition(" ")[2]
        # A function's own context stands directly below the authorizer there.
        authorizer = {**allowed.context, **(allowed.context.get("lambda") or {})}
        authorizer.pop("lambda", None)
        if "jwt" in authorizer:
            authorizer = {**authorizer.pop("jwt"), **authorizer}
        return v1.build_event(call, resource=resource, version="1.0", authorizer=authorizer, **common)

    async def _forward(self, request: _Request, integration: Members, allowed: Allowed) -> HttpAnswer:
        """To another server, which is asked as the caller asked here."""
        call = request.call
        url = fill(integration["IntegrationUri"], request.stage.variables)
        for name, value in request.match.parameters.items():
            encoded = write_part(value, is_greedy="{" + name + "+}" in request.match.route.key)
            if encoded is None:
                return _fail(request, _BAD_REQUEST, f"the path leads out of {{{name}}}")
            url = url.replace("{" + name + "}", encoded).replace("{" + name + "+}", encoded)
        method = integration.get("IntegrationMethod", "ANY")
        headers = [
            (name, value)
            for name, values in v2.forwarded_headers(call).items()
            if name not in ("host", "content-length")
            for value in values
        ]
        headers.append(("forwarded", f"by=lambent;for={call.source_ip};host={call.host};proto={call.scheme}"))
        query = call.query_string.decode("latin-1")
        mapped = map_request(
            url, headers, query, integration.get("RequestParameters") or {}, self._variables(request, allowed)
        )
        try:
            fetched = await self._outgoing.request(
                call.method if method == "ANY" else method,
                mapped.url,
                mapped.headers,
                call.body,
                timeout_s=integration.get("TimeoutInMillis", 30_000) / 1000,
                max_bytes=MAX_ANSWER_BYTES,
            )
        except TooSlow:
            return _fail(request, _TOO_SLOW, "the integration did not answer in time")
        except NotReached as exc:
            return _fail(request, _UNAVAILABLE, str(exc))
        request.facts["integrationStatus"] = fetched.status
        kept = [(name, value) for name, value in fetched.headers if name not in HOP_BY_HOP]
        return HttpAnswer(status=fetched.status, headers=kept, body=fetched.body)

    def _variables(self, request: _Request, allowed: Allowed) -> Variables:
        call, stage = request.call, request.stage
        own = {"path": request.path, "routeKey": request.match.route.key}
        context = {**_call_context(stage, call), **own, **_authorizer_context(allowed)}
        return Variables(
            call=call, path_parameters=request.match.parameters, context=context, stage_variables=stage.variables
        )

    async def _fetch(self, url: str) -> bytes:
        try:
            fetched = await self._outgoing.request(
                "GET", url, [("accept", "application/json")], b"", timeout_s=5.0, max_bytes=1_048_576
            )
        except NotReached as exc:
            raise OSError(str(exc)) from exc
        if fetched.status != 200:
            raise OSError(f"{url} answered {fetched.status}")
        return fetched.body

    def _forget(self, api_id: str) -> None:
        """It has changed: nothing that was made ready of it is good any more."""
        self._verdicts.pop(api_id, None)
        for key in [key for key in self._stages if key[0] == api_id]:
            del self._stages[key]


def _fail(request: _Request, answer: HttpAnswer, reason: str) -> HttpAnswer:
    """`reason` is for the API's owner, not for the caller."""
    facts = request.facts
    facts["integration.error"] = facts["integrationErrorMessage"] = reason
    _note_error(facts, _MESSAGES[answer.status])
    return answer


def _note_error(facts: Facts, message: str) -> None:
    facts["error.message"] = message
    facts["error.messageString"] = f'"{message}"'
    facts["error.responseType"] = message.upper().replace(" ", "_")


def _call_context(stage: _Stage, call: HttpCall) -> dict[str, str]:
    """`$context` as far as it does not depend on the route."""
    return {
        "accountId": stage.api.account,
        "apiId": stage.api.api_id,
        "domainName": call.host,
        "domainPrefix": call.host.split(".", 1)[0],
        "extendedRequestId": call.request_id,
        "httpMethod": call.method,
        "identity.sourceIp": call.source_ip,
        "identity.userAgent": call.header("user-agent") or "",
        "protocol": call.protocol,
        "requestId": call.request_id,
        "requestTime": v2.format_time(call.received_at_ms),
        "requestTimeEpoch": str(call.received_at_ms),
        "stage": stage.name,
    }


def _authorizer_context(allowed: Allowed) -> dict[str, str]:
    """`$context.authorizer`, of whichever kind, and who signed."""
    context = {}
    for name, value in (allowed.context.get("lambda") or {}).items():
        context[f"authorizer.{name}"] = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    for name, value in ((allowed.context.get("jwt") or {}).get("claims") or {}).items():
        context[f"authorizer.claims.{name}"] = str(value)
    signed = allowed.context.get("iam") or {}
    for name in ("callerId", "userId", "userArn", "accountId"):
        if signed.get(name):
            context[f"identity.{_SIGNER.get(name, name)}"] = str(signed[name])
    return context

"""What stands behind a method: a function, a server, or nothing (MOCK); with mapping templates or without.

Source: API Gateway developer guide, "Integrations for REST APIs", "Mapping templates", "Parameter mapping".
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from lambent.frontdoor.call import HOP_BY_HOP, HttpAnswer, is_field
from lambent.frontdoor.functions import EventTooLarge, Functions, TimedOut
from lambent.frontdoor.http_apis.stage_variables import fill
from lambent.frontdoor.outgoing import Fetched, NotReached, Outgoing, TooSlow, write_part
from lambent.frontdoor.payloads import v1, v2
from lambent.frontdoor.references import function_reference
from lambent.frontdoor.rest_apis.binary import is_binary_request, takes_binary
from lambent.frontdoor.rest_apis.gateway_responses import Refused
from lambent.frontdoor.rest_apis.model import Members
from lambent.frontdoor.rest_apis.request import Request
from lambent.frontdoor.rest_apis.schemas import matches
from lambent.frontdoor.rest_apis.templates import BadTemplate, Overrun, render, to_json
from lambent.frontdoor.rest_apis.variables import build_variables, find_path
from lambent.model.errors import CallerError, PlatformError
from lambent.model.invocation import Outcome

MAX_ANSWER_BYTES = 10_485_760
_JSON = "application/json"
_BROKEN = "Internal server error"
_VARIABLE = re.compile(r"\{([^{}]+?)(\+?)\}")


class _Told(NamedTuple):
    """What an integration that is mapped has answered."""

    subject: str
    """What selection patterns are held against: a status, or an error's message."""
    headers: list[tuple[str, str]]
    body: bytes


class Integrations:
    def __init__(self, functions: Functions, outgoing: Outgoing) -> None:
        self._functions = functions
        self._outgoing = outgoing

    async def answer(self, request: Request) -> HttpAnswer:
        """Raises Refused."""
        integration = request.method["methodIntegration"]
        kind = integration["type"]
        try:
            if kind == "AWS_PROXY":
                return await self._invoke(request, integration)
            if kind == "HTTP_PROXY":
                return _pass_on(await self._fetch(request, integration, request.call.body))
            return _map_answer(request, integration, await self._ask(request, integration))
        except EventTooLarge:
            raise Refused("REQUEST_TOO_LARGE") from None
        except (TimedOut, TooSlow):
            raise Refused("INTEGRATION_TIMEOUT") from None
        except NotReached as exc:
            raise Refused("INTEGRATION_FAILURE") from exc
        except (BadTemplate, Overrun) as exc:
            raise Refused("API_CONFIGURATION_ERROR", error_validationErrorString=str(exc)) from exc
        except CallerError as exc:
            if exc.code == "TooManyRequestsException":
                raise Refused("THROTTLED") from exc
            raise Refused("API_CONFIGURATION_ERROR") from exc
        except PlatformError as exc:
            raise Refused("INTEGRATION_FAILURE") from exc

    async def _invoke(self, request: Request, integration: Members) -> HttpAnswer:
        arn, event = _function_of(request, integration), build_event(request)
        account, trace_id = request.served.api.account, request.call.trace_id
        if integration.get("responseTransferMode") == "STREAM":
            try:
                streamed = await self._functions.stream(account, arn, event, trace_id=trace_id)
            except v2.Malformed:
                return _malformed()
            return streamed if isinstance(streamed, HttpAnswer) else _read_proxied(request, streamed)
        timeout_ms = integration.get("timeoutInMillis", 29_000)
        outcome = await self._functions.invoke(account, arn, event, timeout_ms=timeout_ms, trace_id=trace_id)
        return _read_proxied(request, outcome)

    async def _ask(self, request: Request, integration: Members) -> _Told:
        body, overrides = _map_request(request, integration)
        if integration["type"] == "MOCK":
            try:
                status = msgspec.json.decode(body).get("statusCode")
            except (ValueError, AttributeError):
                status = None
            if not isinstance(status, int):
                raise Refused("API_CONFIGURATION_ERROR")
            return _Told(str(status), [], b"")
        if integration["type"] == "HTTP":
            fetched = await self._fetch(request, integration, body, overrides)
            return _Told(str(fetched.status), fetched.headers, fetched.body)
        outcome = await self._functions.invoke_with(
            request.served.api.account,
            _function_of(request, integration),
            body,
            timeout_ms=integration.get("timeoutInMillis", 29_000),
            trace_id=request.call.trace_id,
        )
        return _Told(_error_message(outcome), [], outcome.payload)

    async def _fetch(
        self, request: Request, integration: Members, body: bytes, overrides: Mapping[str, Any] | None = None
    ) -> Fetched:
        call = request.call
        is_proxy = integration["type"] == "HTTP_PROXY"
        headers = [
            (name, value)
            for name, values in v2.forwarded_headers(call).items()
            if name not in ("host", "content-length") and (is_proxy or name in ("accept", "content-type"))
            for value in values
        ]
        query = list(call.query) if is_proxy else []
        path = dict(request.path_parameters) if is_proxy else {}
        greedy = {name for name in path if _is_greedy(request, name)}
        for target, source in (integration.get("requestParameters") or {}).items():
            place, _, name = target.removeprefix("integration.request.").partition(".")
            value = source[1:-1] if source[:1] == "'" else request.find(source)
            if place == "header":
                headers = [pair for pair in headers if pair[0] != name.lower()] + [(name.lower(), value)] * bool(value)
            elif place == "querystring":
                query = [pair for pair in query if pair[0] != name] + [(name, value)] * bool(value)
            else:
                path[name] = value
                if source.startswith("method.request.path.") and _is_greedy(request, source.rpartition(".")[2]):
                    greedy.add(name)
        for name, value in ((overrides or {}).get("header") or {}).items():
            headers = [pair for pair in headers if pair[0] != name.lower()] + [(name.lower(), str(value))]
        method = integration["httpMethod"]
        return await self._outgoing.request(
            call.method if method == "ANY" else method,
            _write_url(fill(integration["uri"], request.served.variables), path, query, greedy),
            [(name, value) for name, value in headers if is_field(name, value)],
            body,
            timeout_s=integration.get("timeoutInMillis", 29_000) / 1000,
            max_bytes=MAX_ANSWER_BYTES,
        )


def build_event(request: Request) -> dict[str, Any]:
    """Payload format 1.0 as REST APIs send it: without a version, the path without the stage."""
    call, served = request.call, request.served
    types = served.configuration.settings.get("binaryMediaTypes") or []
    event = v1.build_event(
        call,
        path=request.path,
        resource=request.resource["path"],
        stage=served.stage,
        api_id=served.api.api_id,
        account_id=served.api.account,
        domain_name=call.host,
        authorizer=request.admitted.authorizer,
        path_parameters=request.path_parameters,
        stage_variables=served.variables,
        identity=request.admitted.identity,
        is_text=not is_binary_request(call, types),
    )
    event["path"] = request.shown_path
    event["requestContext"]["resourceId"] = request.resource["id"]
    return event


def _function_of(request: Request, integration: Members) -> str:
    return fill(function_reference(integration["uri"]), request.served.variables)


def _read_proxied(request: Request, outcome: Outcome) -> HttpAnswer:
    request.facts["integrationStatus"] = request.facts["integration.integrationStatus"] = 200
    if outcome.function_error:
        request.facts["integration.error"] = request.facts["integrationErrorMessage"] = outcome.error_type
    if outcome.function_error:
        return _malformed()
    types = request.served.configuration.settings.get("binaryMediaTypes") or []
    try:
        return v1.read_answer(outcome.payload, takes_binary=takes_binary(request.call, types))
    except v2.Malformed:
        return _malformed()


def _malformed() -> HttpAnswer:
    """A function that failed or whose answer is no response: 502 by the contract, whatever was configured."""
    raise Refused("DEFAULT_5XX", _BROKEN, status="502")


def _pass_on(fetched: Fetched) -> HttpAnswer:
    kept = [(name, value) for name, value in fetched.headers if name not in HOP_BY_HOP]
    return HttpAnswer(status=fetched.status, headers=kept, body=fetched.body)


def _is_greedy(request: Request, name: str) -> bool:
    return "{" + name + "+}" in request.resource["path"]


def _write_url(url: str, path: Mapping[str, str], query: list[tuple[str, str]], greedy: Container[str]) -> str:
    """Raises Refused."""

    def fill_in(matched: re.Match[str]) -> str:
        part = write_part(path.get(matched[1], ""), is_greedy=bool(matched[2]) or matched[1] in greedy)
        if part is None:
            raise Refused("BAD_REQUEST_PARAMETERS", f"The path leads out of {{{matched[1]}}}")
        return part

    parts = urlsplit(url)
    filled = _VARIABLE.sub(fill_in, parts.path) or "/"
    pairs = [*parse_qsl(parts.query, keep_blank_values=True), *query]
    return urlunsplit((parts.scheme, parts.netloc, filled, urlencode(pairs), ""))


def _map_request(request: Request, integration: Members) -> tuple[bytes, Mapping[str, Any]]:
    """The body that the integration gets, by the template for its type, and what the template overrides."""
    templates: Mapping[str, str] = integration.get("requestTemplates") or {}
    kind = (request.call.header("content-type") or _JSON).partition(";")[0].strip().lower()
    template = templates.get(kind, templates.get("$default"))
    if template is None:
        behaviour = integration.get("passthroughBehavior", "WHEN_NO_MATCH")
        if behaviour == "NEVER" or (behaviour == "WHEN_NO_TEMPLATES" and templates):
            raise Refused("UNSUPPORTED_MEDIA_TYPE")
        return request.call.body, {}
    overrides: dict[str, Any] = {"header": {}, "path": {}, "querystring": {}}
    body = request.call.body.decode("utf-8", "replace")
    variables = build_variables(request, body, {"requestOverride": overrides})
    return render(template, variables).encode(), overrides


def _map_answer(request: Request, integration: Members, told: _Told) -> HttpAnswer:
    """By the response whose pattern names the status or the error, else by the one without a pattern."""
    responses: list[Members] = list((integration.get("integrationResponses") or {}).values())
    chosen = next((each for each in responses if _is_chosen(each, told.subject)), None)
    chosen = chosen or next((each for each in responses if not each.get("selectionPattern")), None)
    if chosen is None:
        raise Refused("API_CONFIGURATION_ERROR")
    override: dict[str, Any] = {"header": {}, "status": None}
    body, kind = told.body, _JSON
    templates: Mapping[str, str] = chosen.get("responseTemplates") or {}
    if templates:
        accepted = (request.call.header("accept") or "").partition(",")[0].partition(";")[0].strip()
        kind = accepted if accepted in templates else next(iter(templates))
        text = told.body.decode("utf-8", "replace")
        template = templates[kind]
        if template:
            body = render(template, build_variables(request, text, {"responseOverride": override})).encode()
    headers = {"content-type": kind}
    for target, source in (chosen.get("responseParameters") or {}).items():
        name = target.removeprefix("method.response.header.").lower()
        if value := _find_response(request, told, source):
            headers[name] = value
    headers |= {str(name).lower(): str(value) for name, value in override["header"].items()}
    status = override["status"] if isinstance(override["status"], int) else int(chosen["statusCode"])
    if not 200 <= status <= 599:
        raise Refused("API_CONFIGURATION_ERROR")
    kept = [(name, value) for name, value in headers.items() if is_field(name, value) and name not in HOP_BY_HOP]
    return HttpAnswer(status=status, headers=kept, body=body)


def _is_chosen(response: Members, subject: str) -> bool:
    pattern = response.get("selectionPattern")
    return bool(pattern) and bool(subject) and matches(str(pattern), subject)


def _find_response(request: Request, told: _Told, source: str) -> str:
    if source[:1] == "'":
        return source[1:-1]
    if source.startswith("integration.response.header."):
        name = source.rpartition(".")[2].lower()
        return next((value for key, value in told.headers if key == name), "")
    if source.startswith("integration.response.body"):
        try:
            document = msgspec.json.decode(told.body)
        except (ValueError, RecursionError):
            return ""
        value = find_path(document, "$" + source.removeprefix("integration.response.body"))
        return "" if value is None else value if isinstance(value, str) else to_json(value)
    return request.find(source)


def _error_message(outcome: Outcome) -> str:
    if not outcome.function_error:
        return ""
    try:
        message = msgspec.json.decode(outcome.payload).get("errorMessage")
    except (ValueError, AttributeError):
        return outcome.error_type
    return str(message)

"""What must hold of methods and integrations, whether they are put, patched or imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from lambent.frontdoor.answers import bad_request
from lambent.frontdoor.references import function_reference
from lambent.frontdoor.rest_apis.model import Configuration, Members
from lambent.frontdoor.rest_apis.templates import BadTemplate, parse

SERVED_TYPES = ("AWS_PROXY", "HTTP_PROXY", "MOCK", "HTTP", "AWS")
_PASSTHROUGH = ("WHEN_NO_MATCH", "WHEN_NO_TEMPLATES", "NEVER")
_LONGEST_MS, _LONGEST_STREAM_MS = 300_000, 900_000
_LEAST_MS = 50
_REQUEST_PARAMETER = re.compile(
    r"method\.request\.(path|querystring|multivaluequerystring|header|multivalueheader)\..+"
)
_INTEGRATION_PARAMETER = re.compile(r"integration\.request\.(path|querystring|header)\..+")
_AUTHORIZATION = {
    "CUSTOM": ("TOKEN", "REQUEST"),
    "COGNITO_USER_POOLS": ("COGNITO_USER_POOLS",),
    "JWT": ("JWT",),
}


def check_method(configuration: Configuration, resource: Members, method: Members) -> None:
    """Raises CallerError `BadRequestException`."""
    kind = method.get("authorizationType")
    if kind in _AUTHORIZATION:
        authorizer = configuration.authorizers.get(method.get("authorizerId") or "")
        if authorizer is None or authorizer["type"] not in _AUTHORIZATION[kind]:
            raise bad_request(
                f"Invalid authorizer ID specified. Setting the authorization type to {kind} requires a valid "
                "authorizer."
            )
    elif kind not in ("NONE", "AWS_IAM"):
        raise bad_request("Invalid authorization type specified. Valid options: NONE, AWS_IAM, CUSTOM, JWT")
    validator = method.get("requestValidatorId")
    if validator and validator not in configuration.validators:
        raise bad_request(f"Invalid Request Validator identifier specified: {validator}")
    for name in (method.get("requestModels") or {}).values():
        if name not in configuration.models:
            raise bad_request(f"Invalid model identifier specified: {name}")
    for name in method.get("requestParameters") or {}:
        if _REQUEST_PARAMETER.fullmatch(name) is None:
            raise bad_request(
                f"Invalid mapping expression specified: '{name}' must be like method.request.querystring.NAME"
            )
        _check_path_parameter(name, resource)


def check_integration(integration: Members) -> None:
    """Raises CallerError `BadRequestException`."""
    kind, uri = integration["type"], integration.get("uri") or ""
    if kind not in SERVED_TYPES:
        raise bad_request(f"Invalid integration type specified: {kind}")
    if integration.get("connectionType", "INTERNET") != "INTERNET":
        raise bad_request("connectionType must be INTERNET: Lambent has no VPC links; servers are reached directly.")
    _check_target(integration, kind, uri)
    if integration.get("passthroughBehavior", "WHEN_NO_MATCH") not in _PASSTHROUGH:
        raise bad_request(f"Invalid passthroughBehavior specified: it must be one of {', '.join(_PASSTHROUGH)}.")
    streams = integration.get("responseTransferMode") == "STREAM"
    if streams and kind != "AWS_PROXY":
        raise bad_request("responseTransferMode STREAM is served for AWS_PROXY.")
    longest = _LONGEST_STREAM_MS if streams else _LONGEST_MS
    if not _LEAST_MS <= integration.get("timeoutInMillis", 29_000) <= longest:
        raise bad_request(f"Timeout should be between {_LEAST_MS} ms and {longest} ms")
    _check_parameters(integration)
    check_templates(integration.get("requestTemplates"))


def _check_target(integration: Members, kind: str, uri: str) -> None:
    if kind in ("AWS", "AWS_PROXY"):
        if not function_reference(uri):
            raise bad_request(
                f"Invalid ARN specified in the request: '{uri}' is not that of a function, like arn:aws:apigateway:"
                "REGION:lambda:path/2015-03-31/functions/FUNCTION_ARN/invocations"
            )
        if integration.get("httpMethod") not in (None, "POST"):
            raise bad_request("httpMethod of an integration with a function must be POST.")
    elif kind in ("HTTP", "HTTP_PROXY"):
        parts = urlsplit(uri)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise bad_request(f"Invalid HTTP endpoint specified for URI: '{uri}'")
        if not integration.get("httpMethod"):
            raise bad_request("Enumeration value for HttpMethod must be non-empty")


def _check_parameters(integration: Members) -> None:
    for name, value in (integration.get("requestParameters") or {}).items():
        if _INTEGRATION_PARAMETER.fullmatch(name) is None:
            raise bad_request(
                f"Invalid mapping expression specified: '{name}' must be like integration.request.header.NAME"
            )
        if not (value.startswith(("method.request.", "context.", "stageVariables.")) or _is_literal(value)):
            raise bad_request(
                f"Invalid mapping expression specified: '{value}' must be like method.request.querystring.NAME, "
                "context.NAME, stageVariables.NAME or 'a text'"
            )


def check_templates(templates: Mapping[str, str] | None) -> None:
    """Raises CallerError: a template that cannot be read is told when it is given, not when it is used."""
    for kind, text in (templates or {}).items():
        try:
            parse(text or "")
        except BadTemplate as exc:
            raise bad_request(f"Invalid mapping template specified for {kind}: {exc}") from exc


def _is_literal(value: str) -> bool:
    return len(value) >= 2 and value[0] == value[-1] == "'"


def _check_path_parameter(name: str, resource: Members) -> None:
    area, _, variable = name.removeprefix("method.request.").partition(".")
    if (
        area == "path"
        and "{" + variable + "}" not in resource["path"]
        and "{" + variable + "+}" not in resource["path"]
    ):
        raise bad_request(f"Invalid mapping expression specified: the path has no variable '{variable}'")

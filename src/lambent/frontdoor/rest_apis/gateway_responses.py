"""What an API says when no integration answers: the documented types with their statuses, and what users make of them.

Source: API Gateway developer guide, "Gateway response types" and "Gateway responses".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from lambent.frontdoor.answers import bad_request, not_found
from lambent.frontdoor.call import HOP_BY_HOP, HttpAnswer, is_field
from lambent.frontdoor.rest_apis.model import Configuration, Members


class Default(NamedTuple):
    status: int
    message: str
    error_type: str
    member: str = "message"


DEFAULTS = {
    "ACCESS_DENIED": Default(403, "User is not authorized to access this resource", "AccessDeniedException", "Message"),
    "API_CONFIGURATION_ERROR": Default(500, "Internal server error", "InternalServerErrorException"),
    "AUTHORIZER_CONFIGURATION_ERROR": Default(500, "Internal server error", "AuthorizerConfigurationException"),
    "AUTHORIZER_FAILURE": Default(500, "Internal server error", "AuthorizerFailureException"),
    "BAD_REQUEST_BODY": Default(400, "Invalid request body", "BadRequestException"),
    "BAD_REQUEST_PARAMETERS": Default(400, "Invalid request parameters", "BadRequestException"),
    "DEFAULT_4XX": Default(400, "Bad Request", "BadRequestException"),
    "DEFAULT_5XX": Default(500, "Internal server error", "InternalServerErrorException"),
    "EXPIRED_TOKEN": Default(403, "The security token included in the request is expired", "ExpiredTokenException"),
    "INTEGRATION_FAILURE": Default(504, "Internal server error", "InternalServerErrorException"),
    "INTEGRATION_TIMEOUT": Default(504, "Endpoint request timed out", "InternalServerErrorException"),
    "INVALID_API_KEY": Default(403, "Forbidden", "ForbiddenException"),
    "INVALID_SIGNATURE": Default(
        403,
        "The request signature we calculated does not match the signature you provided.",
        "InvalidSignatureException",
    ),
    "MISSING_AUTHENTICATION_TOKEN": Default(403, "Missing Authentication Token", "MissingAuthenticationTokenException"),
    "QUOTA_EXCEEDED": Default(429, "Limit Exceeded", "LimitExceededException"),
    "REQUEST_TOO_LARGE": Default(413, "Request Too Long", "RequestTooLargeException"),
    "RESOURCE_NOT_FOUND": Default(404, "Not Found", "NotFoundException"),
    "THROTTLED": Default(429, "Too Many Requests", "TooManyRequestsException"),
    "UNAUTHORIZED": Default(401, "Unauthorized", "UnauthorizedException"),
    "UNSUPPORTED_MEDIA_TYPE": Default(415, "Unsupported Media Type", "BadRequestException"),
    "WAF_FILTERED": Default(403, "Forbidden", "ForbiddenException"),
}
_TEMPLATE = '{"message":$context.error.messageString}'
_VARIABLE = re.compile(r"\$\{?(context|stageVariables|method\.request)\.([A-Za-z0-9_.-]*[A-Za-z0-9_-])\}?")
_PARAMETER = re.compile(r"gatewayresponse\.header\.(.+)")


class Refused(Exception):
    """The gateway itself answers."""

    def __init__(self, kind: str, message: str | None = None, *, status: str = "", **variables: str) -> None:
        """`message` and `status` instead of the type's own; `variables` of `$context`, like
        error_validationErrorString.
        """
        super().__init__(message or kind)
        self.kind = kind
        self.status = status
        self.message = message if message is not None else DEFAULTS[kind].message
        self.variables = {name.replace("_", "."): value for name, value in variables.items()}


Find = Callable[[str], str]
"""The value of `context.NAME`, `stageVariables.NAME`, `method.request.PLACE.NAME`; empty where there is none."""


def answer(configuration: Configuration, refused: Refused, find: Find, *, accept: str = "") -> HttpAnswer:
    """By what is configured for the type, else for its class, else by the contract."""
    default = DEFAULTS[refused.kind]
    own = configuration.gateway_responses.get(refused.kind)
    general = configuration.gateway_responses.get("DEFAULT_4XX" if default.status < 500 else "DEFAULT_5XX")
    chosen = own or general or {}
    status = int((own or {}).get("statusCode") or (general or {}).get("statusCode") or refused.status or default.status)
    templates: Mapping[str, str] = chosen.get("responseTemplates") or {}
    kind = accept if accept in templates else next(iter(templates), "application/json")
    known = {
        "error.message": refused.message,
        "error.messageString": msgspec.json.encode(refused.message).decode(),
        "error.responseType": refused.kind,
        **refused.variables,
    }

    def value(expression: str) -> str:
        area, _, name = expression.partition(".")
        return known[name] if area == "context" and name in known else find(expression)

    headers = [("content-type", kind), ("x-amzn-errortype", default.error_type)]
    for name, source in (chosen.get("responseParameters") or {}).items():
        header = name.removeprefix("gatewayresponse.header.").lower()
        text = source[1:-1] if source[:1] == "'" else value(source)
        if text and is_field(header, text) and header not in HOP_BY_HOP:
            headers = [pair for pair in headers if pair[0] != header] + [(header, text)]
    template = templates.get(kind)
    if template is None:
        body = msgspec.json.encode({default.member: refused.message})
    else:
        body = _VARIABLE.sub(lambda matched: value(f"{matched[1]}.{matched[2]}"), template).encode()
    return HttpAnswer(status=status, headers=headers, body=body)


def show(configuration: Configuration, kind: str) -> dict[str, Any]:
    """As the operations show it. Raises CallerError."""
    if kind not in DEFAULTS:
        raise not_found("Gateway response type", kind)
    members = configuration.gateway_responses.get(kind)
    status = {} if kind.startswith("DEFAULT_") else {"statusCode": str(DEFAULTS[kind].status)}
    defaults = {"responseParameters": {}, "responseTemplates": {"application/json": _TEMPLATE}}
    if members is not None:
        return {**status, "responseParameters": {}, "responseTemplates": {}, **members, "defaultResponse": False}
    return {"responseType": kind, **status, **defaults, "defaultResponse": True}


def check(members: Members) -> None:
    """Raises CallerError `BadRequestException`."""
    status = members.get("statusCode")
    if status is not None and not (status.isdigit() and 200 <= int(status) <= 599):
        raise bad_request(f"Invalid status code '{status}': it must be from 200 to 599.")
    for name, source in (members.get("responseParameters") or {}).items():
        if _PARAMETER.fullmatch(name) is None:
            raise bad_request(f"Invalid gateway response parameter '{name}': it must be gatewayresponse.header.NAME")
        is_text = len(source) >= 2 and source[0] == source[-1] == "'"
        if not is_text and not source.startswith(("context.", "stageVariables.", "method.request.")):
            raise bad_request(
                f"Invalid value '{source}' of {name}: it must be 'a text', context.NAME, stageVariables.NAME or "
                "method.request.header.NAME"
            )

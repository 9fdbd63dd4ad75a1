"""What a request must have before it is handed on (developer guide, "Request validation")."""

from __future__ import annotations

from typing import Any

import msgspec

from lambent.frontdoor.rest_apis.gateway_responses import Refused
from lambent.frontdoor.rest_apis.request import Request
from lambent.frontdoor.rest_apis.schemas import BadSchema, compile_schema

_ANY = "application/json"


def validate(request: Request) -> None:
    """By the method's validator. Raises Refused."""
    validators = request.served.configuration.validators
    validator = validators.get(request.method.get("requestValidatorId") or "", {})
    if validator.get("validateRequestParameters"):
        _validate_parameters(request)
    if validator.get("validateRequestBody"):
        _validate_body(request)


def _validate_parameters(request: Request) -> None:
    missing = [
        expression.split(".", 3)[3]
        for expression, is_required in (request.method.get("requestParameters") or {}).items()
        if is_required and not any(request.find_parameter(expression))
    ]
    if missing:
        names = ", ".join(sorted(missing))
        raise Refused(
            "BAD_REQUEST_PARAMETERS",
            f"Missing required request parameters: [{names}]",
            error_validationErrorString=f"Missing required request parameters: [{names}]",
        )


def _validate_body(request: Request) -> None:
    models = request.method.get("requestModels") or {}
    kind = (request.call.header("content-type") or _ANY).partition(";")[0].strip().lower()
    name = models.get(kind) or models.get("$default")
    if name is None:
        return
    schema = request.served.configuration.models.get(name, {}).get("schema")
    if not schema:
        return
    try:
        document = msgspec.json.decode(request.call.body) if request.call.body else {}
        errors = [error.message for error in _compiled(request, name, schema).iter_errors(document)]
    except (ValueError, RecursionError, BadSchema) as exc:
        raise Refused("BAD_REQUEST_BODY", error_validationErrorString=str(exc)) from exc
    if errors:
        raise Refused("BAD_REQUEST_BODY", error_validationErrorString="[" + ", ".join(errors) + "]")


def _compiled(request: Request, name: str, schema: str) -> Any:
    """Once for a deployment: it is kept with what the stage has made ready."""
    kept = request.served.schemas
    if name not in kept:
        kept[name] = compile_schema(schema, request.served.configuration.models)
    return kept[name]

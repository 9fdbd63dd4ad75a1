"""Payload format 1.0: what REST APIs hand to a function, and HTTP APIs whose integration asks for it.

Source: API Gateway developer guide, "Set up Lambda proxy integrations", input and output format.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from lambent.frontdoor.call import HttpAnswer, HttpCall
from lambent.frontdoor.payloads.v2 import Malformed, add_header, format_time, forwarded_headers, read_body, read_status

_JSON_TYPE = "application/json"


def build_event(
    call: HttpCall,
    *,
    path: str,
    resource: str,
    stage: str,
    api_id: str,
    account_id: str,
    domain_name: str,
    authorizer: Mapping[str, Any] | None = None,
    path_parameters: Mapping[str, str] | None = None,
    stage_variables: Mapping[str, str] | None = None,
    identity: Mapping[str, Any] | None = None,
    version: str = "",
    is_text: bool | None = None,
) -> dict[str, Any]:
    """The event as JSON values. What is not there is null, as the contract has it here."""
    headers = forwarded_headers(call)
    query: dict[str, list[str]] = {}
    for name, value in call.query:
        query.setdefault(name, []).append(value)
    text = call.is_text if is_text is None else is_text
    body = None
    if call.body:
        body = call.body.decode("utf-8", "replace") if text else base64.b64encode(call.body).decode()
    context: dict[str, Any] = {
        "accountId": account_id,
        "apiId": api_id,
        "domainName": domain_name,
        "domainPrefix": domain_name.split(".", 1)[0],
        "extendedRequestId": call.request_id,
        "httpMethod": call.method,
        "identity": {**build_identity(call), **(identity or {})},
        "path": path,
        "protocol": call.protocol,
        "requestId": call.request_id,
        "requestTime": format_time(call.received_at_ms),
        "requestTimeEpoch": call.received_at_ms,
        "resourceId": resource,
        "resourcePath": resource,
        "stage": stage,
    }
    if authorizer:
        context["authorizer"] = dict(authorizer)
    event: dict[str, Any] = {"version": version} if version else {}
    event |= {
        "resource": resource,
        "path": path,
        "httpMethod": call.method,
        "headers": {name: values[-1] for name, values in headers.items()},
        "multiValueHeaders": headers,
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "requestContext": context,
        "pathParameters": dict(path_parameters) if path_parameters else None,
        "stageVariables": dict(stage_variables) if stage_variables else None,
        "body": body,
        "isBase64Encoded": body is not None and not text,
    }
    return event


def build_identity(call: HttpCall) -> dict[str, Any]:
    members = (
        "accessKey",
        "accountId",
        "caller",
        "cognitoAuthenticationProvider",
        "cognitoAuthenticationType",
        "cognitoIdentityId",
        "cognitoIdentityPoolId",
        "principalOrgId",
        "user",
        "userArn",
    )
    identity: dict[str, Any] = dict.fromkeys(members)
    identity |= {"sourceIp": call.source_ip, "userAgent": call.header("user-agent")}
    if call.client_certificate is not None:
        identity["clientCert"] = dict(call.client_certificate)
    return identity


def read_answer(payload: bytes, *, takes_binary: bool = True) -> HttpAnswer:
    """The response that a function's result means. Raises Malformed for one without a `statusCode`.

    A body in base64 stays as it is for an API that does not take the client's types for binary.
    """
    try:
        result = msgspec.json.decode(payload)
    except (ValueError, RecursionError) as exc:
        raise Malformed("the result is no JSON") from exc
    if not isinstance(result, dict) or "statusCode" not in result:
        raise Malformed("the result has no statusCode")
    headers: list[tuple[str, str]] = []
    several = result.get("multiValueHeaders") or {}
    single = result.get("headers") or {}
    if not isinstance(several, dict) or not isinstance(single, dict):
        raise Malformed("headers and multiValueHeaders must be objects")
    for name, values in several.items():
        if not isinstance(values, list):
            raise Malformed(f"multiValueHeaders.{name} must be a list")
        for value in values:
            add_header(headers, name, value)
    known = {name.lower() for name in several}
    for name, value in single.items():
        if str(name).lower() not in known:
            add_header(headers, name, value)
    if not any(name == "content-type" for name, _ in headers):
        headers.append(("content-type", _JSON_TYPE))
    return HttpAnswer(
        status=read_status(result["statusCode"]),
        headers=headers,
        body=read_body(result if takes_binary else {**result, "isBase64Encoded": False}),
    )

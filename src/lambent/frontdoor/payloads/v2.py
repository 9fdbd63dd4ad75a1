"""Payload format 2.0: what function URLs and HTTP APIs hand to a function, and how its answer is read.

Sources: Lambda developer guide, "Invoking Lambda function URLs"; API Gateway developer guide, "Create AWS Lambda proxy
integrations for HTTP APIs". HTTP APIs decode the path, function URLs leave it as it came.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from lambent.frontdoor.call import HOP_BY_HOP, HttpAnswer, HttpCall, is_field

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_JSON_TYPE = "application/json"


class Malformed(Exception):
    """The function's answer cannot be made a response; the message says which member and why."""


def build_event(
    call: HttpCall,
    *,
    path: str,
    route_key: str = "$default",
    stage: str = "$default",
    api_id: str,
    account_id: str,
    domain_name: str,
    authorizer: Mapping[str, Any] | None = None,
    path_parameters: Mapping[str, str] | None = None,
    stage_variables: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The event as JSON values; members that are not there are left out, as the contract leaves them."""
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": path,
        "rawQueryString": call.query_string.decode("latin-1"),
    }
    if cookies := _read_cookies(call):
        event["cookies"] = cookies
    event["headers"] = {name: ",".join(values) for name, values in forwarded_headers(call).items() if name != "cookie"}
    if query := _join_query(call):
        event["queryStringParameters"] = query
    context: dict[str, Any] = {
        "accountId": account_id,
        "apiId": api_id,
        "domainName": domain_name,
        "domainPrefix": domain_name.split(".", 1)[0],
        "http": {
            "method": call.method,
            "path": path,
            "protocol": call.protocol,
            "sourceIp": call.source_ip,
            "userAgent": call.header("user-agent") or "",
        },
        "requestId": call.request_id,
        "routeKey": route_key,
        "stage": stage,
        "time": format_time(call.received_at_ms),
        "timeEpoch": call.received_at_ms,
    }
    if authorizer:
        context["authorizer"] = dict(authorizer)
    if call.client_certificate is not None:
        context["authentication"] = {"clientCert": dict(call.client_certificate)}
    event["requestContext"] = context
    if call.body:
        event["body"] = call.body.decode() if call.is_text else base64.b64encode(call.body).decode()
    if path_parameters:
        event["pathParameters"] = dict(path_parameters)
    event["isBase64Encoded"] = not call.is_text
    if stage_variables:
        event["stageVariables"] = dict(stage_variables)
    return event


def forwarded_headers(call: HttpCall) -> dict[str, list[str]]:
    """The request's headers and those that a front adds; what came under their names is not believed."""
    headers = {name: values for name, values in call.header_lists.items() if name not in HOP_BY_HOP}
    headers["x-forwarded-for"] = [call.source_ip]
    headers["x-forwarded-port"] = [str(call.port)]
    headers["x-forwarded-proto"] = [call.scheme]
    if call.trace_id:
        headers["x-amzn-trace-id"] = [call.trace_id]
    if call.body:
        headers["content-length"] = [str(len(call.body))]
    return headers


def read_answer(payload: bytes) -> HttpAnswer:
    """The response that a function's result means: with a `statusCode` as it says, without one the result itself.

    Raises Malformed.
    """
    try:
        result = msgspec.json.decode(payload) if payload else None
    except (ValueError, RecursionError):
        return HttpAnswer(status=200, headers=[("content-type", "application/octet-stream")], body=payload)
    if not isinstance(result, dict) or "statusCode" not in result:
        return HttpAnswer(status=200, headers=[("content-type", _JSON_TYPE)], body=payload)
    status, headers = read_head(result)
    if not any(name == "content-type" for name, _ in headers):
        headers.append(("content-type", _JSON_TYPE))
    return HttpAnswer(status=status, headers=headers, body=read_body(result))


def read_head(result: Mapping[str, Any]) -> tuple[int, list[tuple[str, str]]]:
    """`statusCode`, `headers` and `cookies`, of a whole result or of what stands before a stream. Raises Malformed."""
    status = read_status(result.get("statusCode", 200))
    headers: list[tuple[str, str]] = []
    given = result.get("headers") or {}
    if not isinstance(given, dict):
        raise Malformed("headers must be an object of names and values")
    for name, value in given.items():
        add_header(headers, name, value)
    cookies = result.get("cookies") or []
    if not isinstance(cookies, list):
        raise Malformed("cookies must be a list of texts")
    for cookie in cookies:
        add_header(headers, "set-cookie", cookie)
    return status, headers


def read_status(value: Any) -> int:
    """Raises Malformed."""
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 200 <= value <= 599:
        raise Malformed(f"statusCode must be a number from 200 to 599, not {value!r}")
    return value


def read_body(result: Mapping[str, Any]) -> bytes:
    """Raises Malformed."""
    body = result.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        if isinstance(body, dict | list | int | float | bool):
            return msgspec.json.encode(body)
        raise Malformed("body must be a text")
    if not result.get("isBase64Encoded"):
        return body.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise Malformed("body is not the base64 that isBase64Encoded promises") from exc


def format_time(at_ms: int) -> str:
    """`12/Mar/2020:19:03:58 +0000`, whatever the machine's language."""
    at = time.gmtime(at_ms / 1000)
    return f"{at.tm_mday:02}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}:{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} +0000"


def _read_cookies(call: HttpCall) -> list[str]:
    return [
        cookie.strip() for line in call.header_lists.get("cookie", ()) for cookie in line.split(";") if cookie.strip()
    ]


def _join_query(call: HttpCall) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in call.query:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def add_header(headers: list[tuple[str, str]], name: Any, value: Any) -> None:
    """Numbers and truth values are written as JSON writes them; a list is several headers of the name."""
    if value is None:
        return
    if isinstance(value, list):
        for item in value:
            add_header(headers, name, item)
        return
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        text = msgspec.json.encode(value).decode()
    else:
        text = str(value)
    lower = str(name).lower()
    if lower in HOP_BY_HOP:
        return
    try:
        text = text.encode("latin-1").decode("latin-1").strip(" \t")
    except UnicodeEncodeError:
        # As UTF-8 bytes, which is what clients then read.
        text = text.encode("utf-8", "replace").decode("latin-1").strip(" \t")
    if not is_field(lower, text):
        raise Malformed(f"the header {name!r} has a name or value that HTTP does not allow")
    headers.append((lower, text))

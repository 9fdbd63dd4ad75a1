"""What functions behind a WebSocket API are handed (developer guide, "WebSocket APIs", `$context` and events)."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any

from lambent.frontdoor.call import HttpCall
from lambent.frontdoor.payloads.v2 import format_time
from lambent.frontdoor.web_sockets.connections import Connection
from lambent.model.identifiers import new_request_id


def build_context(
    connection: Connection, call: HttpCall, *, kind: str, route: str, authorizer: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """`kind` is CONNECT, MESSAGE or DISCONNECT."""
    now_ms = int(time.time() * 1000)
    request_id = new_request_id()
    context: dict[str, Any] = {
        "routeKey": route,
        "eventType": kind,
        "messageDirection": "IN",
        "extendedRequestId": request_id,
        "requestId": request_id,
        "requestTime": format_time(now_ms),
        "requestTimeEpoch": now_ms,
        "connectedAt": connection.connected_at_ms,
        "connectionId": connection.id,
        "apiId": connection.api_id,
        "stage": connection.stage,
        "domainName": call.host,
        "identity": {"sourceIp": connection.source_ip, "userAgent": connection.user_agent},
    }
    if authorizer:
        context["authorizer"] = dict(authorizer)
    return context


def build_connect(context: dict[str, Any], call: HttpCall, stage_variables: Mapping[str, str]) -> dict[str, Any]:
    query: dict[str, list[str]] = {}
    for name, value in call.query:
        query.setdefault(name, []).append(value)
    event: dict[str, Any] = {
        "headers": {name: values[-1] for name, values in call.header_lists.items()},
        "multiValueHeaders": call.header_lists,
        "requestContext": context,
        "isBase64Encoded": False,
    }
    if query:
        event["queryStringParameters"] = {name: values[-1] for name, values in query.items()}
        event["multiValueQueryStringParameters"] = query
    return _with_variables(event, stage_variables)


def build_message(context: dict[str, Any], data: str | bytes, stage_variables: Mapping[str, str]) -> dict[str, Any]:
    context["messageId"] = context["requestId"]
    is_text = isinstance(data, str)
    body = data if isinstance(data, str) else base64.b64encode(data).decode()
    return _with_variables({"requestContext": context, "body": body, "isBase64Encoded": not is_text}, stage_variables)


def build_disconnect(
    context: dict[str, Any], code: int, reason: str, call: HttpCall, stage_variables: Mapping[str, str]
) -> dict[str, Any]:
    context |= {"disconnectStatusCode": code, "disconnectReason": reason}
    event = {"headers": {"host": call.header("host") or ""}, "requestContext": context, "isBase64Encoded": False}
    return _with_variables(event, stage_variables)


def _with_variables(event: dict[str, Any], stage_variables: Mapping[str, str]) -> dict[str, Any]:
    if stage_variables:
        event["stageVariables"] = dict(stage_variables)
    return event

"""CloudEvents over HTTP, version 1.0: binary, structured and batched (HTTP protocol binding, section 3)."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import unquote

import msgspec

from lambent.awsapi.http import HttpRequest
from lambent.events.intakes.hooks import Incoming
from lambent.events.intakes.payloads import read_json, refuse_content

_PREFIX = b"ce-"
_REQUIRED = ("id", "source", "type")


def read_cloud_events(request: HttpRequest) -> list[Incoming]:
    """Raises CallerError `InvalidRequestContentException` for what is no CloudEvent, naming the attribute."""
    kind = (request.header(b"content-type") or "").partition(";")[0].strip().lower()
    if kind == "application/cloudevents-batch+json":
        batch = read_json(request.body)
        if not isinstance(batch, list):
            raise refuse_content("A batch of CloudEvents must be a JSON array.")
        return [_incoming(event) for event in batch]
    if kind == "application/cloudevents+json":
        return [_incoming(read_json(request.body))]
    if kind.startswith("application/cloudevents"):
        raise refuse_content(f"CloudEvents of the format {kind} cannot be read: send JSON.")
    return [_incoming(_read_binary(request, kind))]


def _read_binary(request: HttpRequest, kind: str) -> dict[str, Any]:
    event: dict[str, Any] = {
        name.removeprefix(_PREFIX).decode("latin-1"): unquote(value.decode("latin-1"))
        for name, value in request.headers
        if name.startswith(_PREFIX)
    }
    if not request.body:
        return event
    if kind:
        event["datacontenttype"] = kind
    if not kind or kind == "application/json" or kind.endswith("+json"):
        event["data"] = read_json(request.body)
        return event
    try:
        event["data"] = request.body.decode()
    except UnicodeDecodeError:
        event["data_base64"] = base64.b64encode(request.body).decode()
    return event


def _incoming(event: Any) -> Incoming:
    if not isinstance(event, dict):
        raise refuse_content("A CloudEvent must be a JSON object.")
    if event.get("specversion") != "1.0":
        raise refuse_content("The CloudEvent's specversion must be 1.0.")
    for name in _REQUIRED:
        if not isinstance(event.get(name), str) or not event[name]:
            raise refuse_content(f"The CloudEvent's '{name}' must be a text that is not empty.")
    if "data" in event and "data_base64" in event:
        raise refuse_content("A CloudEvent has data or data_base64, not both.")
    detail = event.get("data", event.get("data_base64"))
    return Incoming(
        # By the specification source and id together tell one event from another.
        id=msgspec.json.encode([event["source"], event["id"]]).decode(),
        type=event["type"],
        source=event["source"],
        detail=detail if isinstance(detail, dict) else {"data": detail},
        time=event["time"] if isinstance(event.get("time"), str) else "",
        document=event,
    )

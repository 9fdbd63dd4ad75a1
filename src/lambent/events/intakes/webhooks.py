"""What services report about themselves: Stripe, Slack, Standard Webhooks, S3-compatible stores, and any other."""

from __future__ import annotations

from typing import Any

import msgspec

from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.events.intakes.hooks import Custom, Hook, Incoming
from lambent.events.intakes.payloads import digest_of, read_object

_JSON = (b"content-type", b"application/json")


def read_stripe(_hook: Hook, request: HttpRequest) -> list[Incoming]:
    payload = read_object(request)
    return [
        Incoming(id=_text(payload, "id", request), type=str(payload.get("type", "")), source="stripe", detail=payload)
    ]


def read_slack(_hook: Hook, request: HttpRequest) -> list[Incoming] | HttpResponse:
    """Events, interactions and slash commands. The handshake of a new address is answered at once."""
    payload = read_object(request)
    if payload.get("type") == "url_verification":
        return HttpResponse(headers=[_JSON], body=msgspec.json.encode({"challenge": payload.get("challenge", "")}))
    event = payload.get("event")
    if isinstance(event, dict):
        type_ = str(event.get("type", ""))
    else:
        type_ = "slash_command" if "command" in payload else str(payload.get("type", ""))
    # Slack repeats an event under its id; the others it never repeats, but each has a trigger of its own.
    identity = payload.get("event_id") or payload.get("trigger_id") or digest_of(request)
    return [Incoming(id=str(identity), type=type_, source="slack", detail=payload)]


def read_standard(_hook: Hook, request: HttpRequest) -> list[Incoming]:
    payload = read_object(request)
    identity = request.header(b"webhook-id") or digest_of(request)
    return [Incoming(id=identity, type=str(payload.get("type", "")), source="webhook", detail=payload)]


def read_custom(hook: Hook, request: HttpRequest) -> list[Incoming]:
    payload = read_object(request)
    custom = hook.custom or Custom()
    named = request.header(custom.id_header.lower().encode()) if custom.id_header else None
    type_ = payload.get("type") or payload.get("event") or payload.get("action") or ""
    source = f"webhook.{hook.name}"
    return [Incoming(id=named or digest_of(request), type=str(type_), source=source, detail=payload)]


def read_s3(_hook: Hook, request: HttpRequest) -> list[Incoming]:
    """Notifications of MinIO, SeaweedFS, Ceph: the contract's `Records`, passed on as they are."""
    payload = read_object(request)
    records = payload.get("Records")
    found = []
    for number, record in enumerate(records if isinstance(records, list) else []):
        name = str(record.get("eventName", "")) if isinstance(record, dict) else ""
        document = {"Records": [record]}
        found.append(
            Incoming(
                id=f"{digest_of(request)}-{number}",
                type=name.removeprefix("s3:"),
                source="s3",
                detail=document,
                document=document,
            )
        )
    return found


def _text(payload: dict[str, Any], name: str, request: HttpRequest) -> str:
    value = payload.get(name)
    return value if isinstance(value, str) and value else digest_of(request)

"""What a request and a response carry outside of their bodies: shared by the protocols `rest-json` and `rest-xml`."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from lambent.awsapi.http import Headers, HttpRequest
from lambent.awsapi.json_values import NUMBERS, encode_timestamp, parse_timestamp, serialization_error
from lambent.awsapi.models import OperationModel, Shape
from lambent.awsapi.text_values import parse_boolean_text, parse_number_text


class Received(NamedTuple):
    """What a request carries outside of its body."""

    operation: OperationModel
    labels: dict[str, str]
    query: list[tuple[str, str]]
    request: HttpRequest


def parse_located(name: str, member: Shape, received: Received) -> Any:
    """A member that stands in the path, the query or the headers."""
    location = member.traits.get("location")
    wire_name = member.traits.get("locationName", name)
    if location == "uri":
        return parse_text(received.labels.get(wire_name), member, name)
    if location == "querystring" and member.kind == "map":
        return _parse_query_map(received, member) or None
    if location == "querystring":
        return _parse_query(wire_name, received.query, member)
    if location == "header":
        return parse_text(received.request.header(wire_name.lower().encode()), member, name)
    if location == "headers":
        prefix = wire_name.lower()
        headers = ((key.decode("latin-1"), value.decode("latin-1")) for key, value in received.request.headers)
        return {key[len(prefix) :]: value for key, value in headers if key.startswith(prefix)} or None
    return None


def read_query(request: HttpRequest) -> Iterable[tuple[str, str]]:
    return parse_qsl(request.query_string.decode("latin-1"), keep_blank_values=True)


def _parse_query(name: str, query: list[tuple[str, str]], shape: Shape) -> Any:
    values = [value for key, value in query if key == name]
    if shape.kind == "list":
        return [parse_text(value, shape.item, name) for value in values] or None
    return parse_text(values[-1], shape, name) if values else None


def _parse_query_map(received: Received, shape: Shape) -> dict[str, Any]:
    """Every parameter that is neither another member's nor the route's own."""
    bound = _bound_names(received.operation)
    item = shape.value
    parsed: dict[str, Any] = {}
    for name, value in received.query:
        if name in bound:
            continue
        if item.kind == "list":
            parsed.setdefault(name, []).append(parse_text(value, item.item, name))
        else:
            parsed[name] = parse_text(value, item, name)
    return parsed


def _bound_names(operation: OperationModel) -> set[str]:
    members = operation.input.members if operation.input is not None else {}
    named = {
        member.traits.get("locationName", name)
        for name, member in members.items()
        if member.traits.get("location") == "querystring" and member.kind != "map"
    }
    return named | {name for name, _ in parse_qsl(operation.uri.partition("?")[2], keep_blank_values=True)}


def parse_text(text: str | None, shape: Shape, name: str) -> Any:
    """A value as it stands in a path, a query or a header."""
    if text is None:
        return None
    kind = shape.kind
    try:
        if shape.trait("jsonvalue"):
            return base64.b64decode(text, validate=True).decode()
    except ValueError:
        raise serialization_error(f"'{name}' is not base64 of text") from None
    if kind in NUMBERS:
        return parse_number_text(text, shape, name)
    if kind == "timestamp":
        return parse_timestamp(text, shape)
    if kind == "boolean":
        return parse_boolean_text(text, name)
    if kind == "list":
        return [parse_text(part.strip(), shape.item, name) for part in text.split(",") if part.strip()]
    return text


def add_header(headers: Headers, name: str, value: Any, shape: Shape) -> None:
    if shape.kind == "boolean":
        text = "true" if value else "false"
    elif shape.kind == "timestamp":
        text = str(encode_timestamp(value, shape, default="rfc822"))
    elif shape.trait("jsonvalue"):
        text = base64.b64encode(str(value).encode()).decode()
    elif shape.kind == "list":
        text = ",".join(str(item) for item in value)
    else:
        text = str(value)
    headers.append((name.lower().encode(), text.encode("latin-1")))

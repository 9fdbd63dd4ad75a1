"""The `rest-json` protocol, server side, driven by a service model (smithy.io, "AWS restJson1 protocol")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from lambent.awsapi.http import Headers, HttpRequest, HttpResponse
from lambent.awsapi.json_values import (
    decode_json,
    encode_value,
    parse_structure,
    parse_value,
    serialization_error,
)
from lambent.awsapi.models import OperationModel, ServiceModel, Shape
from lambent.awsapi.rest_bindings import Received, add_header, parse_located, read_query
from lambent.model.errors import CallerError

_JSON = (b"content-type", b"application/json")


class _Route:
    __slots__ = ("names", "operation", "pattern", "query", "rank")

    def __init__(self, operation: OperationModel) -> None:
        path, _, query = operation.uri.partition("?")
        self.operation = operation
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        self.names = re.findall(r"\{([\w-]+)\+?\}", path)
        pattern = ""
        for part in re.split(r"(\{[\w-]+\+?\})", path.rstrip("/")):
            if not part.startswith("{"):
                pattern += re.escape(part)
            else:
                pattern += "(.+?)" if part.endswith("+}") else "([^/]+?)"
        self.pattern = re.compile(pattern + "/?")
        # A static query is more specific than none, a path with fewer variables than one with more.
        self.rank = (-len(self.query), "+}" in path, len(self.names), -len(path))


class RestJson:
    """Parses requests to parameters and writes results and errors."""

    def __init__(self, model: ServiceModel) -> None:
        self._model = model
        self._routes: dict[str, list[_Route]] = {}
        for operation in model.operations.values():
            self._routes.setdefault(operation.method, []).append(_Route(operation))
        for routes in self._routes.values():
            routes.sort(key=lambda route: route.rank)

    def match(self, request: HttpRequest) -> tuple[OperationModel, dict[str, str]] | None:
        """The operation that a request asks for and the variables of its path."""
        path = request.raw_path.decode("latin-1")
        query: dict[str, str] | None = None
        for route in self._routes.get(request.method, ()):
            matched = route.pattern.fullmatch(path)
            if matched is None:
                continue
            if route.query:
                query = query if query is not None else dict(read_query(request))
                if any(query.get(name) != value for name, value in route.query.items()):
                    continue
            values = (unquote(value) for value in matched.groups())
            return route.operation, dict(zip(route.names, values, strict=True))
        return None

    def parse(self, operation: OperationModel, labels: dict[str, str], request: HttpRequest) -> dict[str, Any]:
        """The members of the operation's input. Raises CallerError `SerializationException`."""
        shape = operation.input
        if shape is None:
            return {}
        parameters: dict[str, Any] = {}
        query = list(read_query(request)) if request.query_string else []
        received = Received(operation, labels, query, request)
        for name, member in shape.members.items():
            value = parse_located(name, member, received)
            if value is not None:
                parameters[name] = value
        if shape.payload is not None:
            value = _parse_payload(shape.members[shape.payload], request.body)
            if value is not None:
                parameters[shape.payload] = value
        elif request.body and _has_body_members(shape):
            body = decode_json(request.body)
            if not isinstance(body, dict):
                raise serialization_error("the request body must be a JSON object")
            parameters |= parse_structure(body, shape, "", only_body=True)
        return parameters

    def write_result(self, operation: OperationModel, result: Mapping[str, Any], request_id: str = "") -> HttpResponse:
        response = HttpResponse(status=operation.status)
        shape = operation.output
        if shape is None:
            return response
        body: dict[str, Any] = {}
        for name, member in shape.members.items():
            value = result.get(name)
            if value is None or name == shape.payload:
                continue
            location = member.traits.get("location")
            if location == "statusCode":
                response.status = value
            elif location == "header":
                add_header(response.headers, member.traits.get("locationName", name), value, member)
            elif location == "headers":
                prefix = member.traits.get("locationName", "")
                for key, text in value.items():
                    add_header(response.headers, prefix + key, text, member.value)
            else:
                body[member.traits.get("locationName", name)] = encode_value(value, member)
        _write_body(response, shape, result, body)
        return response

    def write_error(self, error: CallerError, request_id: str = "") -> HttpResponse:
        shape = self._model.error_shape(error.code)
        # Some of the service's errors spell their message with a capital.
        key = "Message" if shape is not None and "Message" in shape.members else "message"
        # What the service's front answers (validation, signatures) is in no model and has nothing but its message.
        typed = {"Type": "User" if error.status < 500 else "Server"} if shape and "Type" in shape.members else {}
        body = {**typed, **error.members, key: error.message}
        headers: Headers = [_JSON, (b"x-amzn-errortype", error.code.encode())]
        headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
        return HttpResponse(status=error.status, headers=headers, body=msgspec.json.encode(body))


def _parse_payload(shape: Shape, body: bytes) -> Any:
    if shape.kind == "blob":
        return body
    if shape.kind == "string":
        return body.decode("utf-8", "replace")
    if not body:
        return None
    return parse_value(decode_json(body), shape, "")


def _has_body_members(shape: Shape) -> bool:
    return any(member.traits.get("location") is None for member in shape.members.values())


def _write_body(response: HttpResponse, shape: Shape, result: Mapping[str, Any], body: dict[str, Any]) -> None:
    if shape.payload is not None:
        value = result.get(shape.payload)
        member = shape.members[shape.payload]
        if value is None:
            return
        if member.kind == "blob":
            response.body = value
            return
        response.headers.append(_JSON)
        response.body = msgspec.json.encode(encode_value(value, member))
    elif _has_body_members(shape):
        response.headers.append(_JSON)
        response.body = msgspec.json.encode(body)

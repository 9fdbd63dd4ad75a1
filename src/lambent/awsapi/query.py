"""The `query` protocol, server side: a form in, XML out (smithy.io, "AWS query protocol").

A parameter `Tags.member.2.Key` is a path into the input: members by name, items of lists and entries of maps by number
from 1. The form is first made a tree of these paths, then read by the shapes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any, cast
from urllib.parse import parse_qsl

from lambent.awsapi.http import Headers, HttpRequest, HttpResponse
from lambent.awsapi.json_values import parse_timestamp, serialization_error
from lambent.awsapi.models import OperationModel, ServiceModel, Shape
from lambent.awsapi.text_values import parse_boolean_text, parse_number_text
from lambent.awsapi.xml_values import escape, write_members
from lambent.model.errors import CallerError

MOST_FIELDS = 10_000
MOST_LEVELS = 32
_XML = (b"content-type", b"text/xml")
_VALUE = ""
"""Under this name a tree holds the value of its own path; no part of a path is empty."""

Tree = dict[str, Any]


class Query:
    """Parses requests to parameters and writes results and errors."""

    def __init__(self, model: ServiceModel) -> None:
        self._model = model
        self._namespace: str = model.metadata.get("xmlNamespace", "")

    def match(self, request: HttpRequest) -> tuple[OperationModel, dict[str, str]] | None:
        for name, value in _fields(request):
            if name == "Action":
                operation = self._model.operations.get(value)
                return (operation, {}) if operation is not None else None
        return None

    def parse(self, operation: OperationModel, labels: dict[str, str], request: HttpRequest) -> dict[str, Any]:
        """The members of the operation's input. Raises CallerError `SerializationException`."""
        if operation.input is None:
            return {}
        return _parse_structure(_grow(_fields(request)), operation.input, "")

    def write_result(self, operation: OperationModel, result: Mapping[str, Any], request_id: str = "") -> HttpResponse:
        content = ""
        if operation.output is not None:
            content = write_members(result, operation.output)
            wrapper = operation.output.traits.get("resultWrapper")
            if wrapper:
                content = f"<{wrapper}>{content}</{wrapper}>"
        told = f"<ResponseMetadata><RequestId>{escape(request_id)}</RequestId></ResponseMetadata>"
        return self._write(f"{operation.name}Response", content + told, 200, [_XML])

    def write_error(self, error: CallerError, request_id: str = "") -> HttpResponse:
        shape = self._model.error_shape(error.code)
        stated = shape.definition.get("error", {}) if shape is not None else {}
        code = stated.get("code", error.code)
        fault = "Sender" if error.status < 500 else "Receiver"
        content = (
            f"<Error><Type>{fault}</Type><Code>{escape(code)}</Code><Message>{escape(error.message)}</Message></Error>"
        )
        headers = [_XML, *((name.lower().encode(), value.encode()) for name, value in error.headers.items())]
        told = f"<RequestId>{escape(request_id)}</RequestId>"
        status = stated.get("httpStatusCode", error.status)
        return self._write("ErrorResponse", content + told, status, headers)

    def _write(self, root: str, content: str, status: int, headers: Headers) -> HttpResponse:
        space = f' xmlns="{self._namespace}"' if self._namespace else ""
        body = f"<{root}{space}>{content}</{root}>"
        return HttpResponse(status=status, headers=headers, body=body.encode())


def _fields(request: HttpRequest) -> list[tuple[str, str]]:
    """Of the query and of the form, in the order in which they came."""
    kind = (request.header(b"content-type") or "").partition(";")[0].strip().lower()
    form = request.body if kind in ("", "application/x-www-form-urlencoded") else b""
    try:
        text = "&".join(part.decode() for part in (request.query_string, form) if part)
        return parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except (ValueError, UnicodeDecodeError) as exc:
        raise serialization_error(f"the form cannot be read: {exc}") from exc


def _grow(fields: Iterable[tuple[str, str]]) -> Tree:
    root: Tree = {}
    for path, value in fields:
        parts = path.split(".")
        if len(parts) > MOST_LEVELS or not all(parts):
            raise serialization_error(f"'{path[:100]}' is not the path of a parameter")
        node = root
        for part in parts:
            node = node.setdefault(part, {})
        node[_VALUE] = value
    return root


def _parse_structure(tree: Tree, shape: Shape, path: str) -> dict[str, Any]:
    parsed = {}
    for name, member in shape.members.items():
        wire_name = member.traits.get("locationName", name)
        value = _parse_member(tree, wire_name, member, f"{path}.{name}" if path else name)
        if value is not None:
            parsed[name] = value
    return parsed


def _parse_member(parent: Tree, wire_name: str, shape: Shape, path: str) -> Any:
    if shape.kind == "list" and shape.trait("flattened"):
        # The items of a flattened list stand beside it, under the name of an item.
        wire_name = shape.item.traits.get("locationName", wire_name)
    tree = parent.get(wire_name)
    return None if tree is None else _parse(tree, shape, path)


def _parse(tree: Tree, shape: Shape, path: str) -> Any:
    kind = shape.kind
    if kind == "structure":
        return _parse_structure(tree, shape, path)
    if kind == "list":
        items = tree if shape.trait("flattened") else tree.get(shape.item.traits.get("locationName", "member"), {})
        return [_parse(item, shape.item, f"{path}[{at}]") for at, item in enumerate(_numbered(items))]
    if kind == "map":
        entries = tree if shape.trait("flattened") else tree.get("entry", {})
        key, value = (shape.key.traits.get("locationName", "key"), shape.value.traits.get("locationName", "value"))
        found = [(entry.get(key, {}), entry.get(value, {})) for entry in _numbered(entries)]
        return {str(_parse(name, shape.key, path)): _parse(entry, shape.value, path) for name, entry in found}
    return _parse_text(tree, shape, path)


def _numbered(tree: Tree) -> list[Tree]:
    numbers = [part for part in tree if part.isascii() and part.isdigit() and len(part) <= 9]
    return [cast(Tree, tree[number]) for number in sorted(numbers, key=int)]


def _parse_text(tree: Tree, shape: Shape, path: str) -> Any:
    text = tree.get(_VALUE)
    if not isinstance(text, str):
        raise serialization_error(f"'{path}' must be a {shape.kind}")
    kind = shape.kind
    if kind == "blob":
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            raise serialization_error(f"'{path}' is not valid base64") from None
    if kind == "boolean":
        return parse_boolean_text(text, path)
    if kind == "timestamp":
        return parse_timestamp(text, shape)
    if kind == "string":
        return text
    return parse_number_text(text, shape, path)

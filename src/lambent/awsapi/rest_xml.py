"""The `rest-xml` protocol, server side, driven by a service model (smithy.io, "AWS restXml protocol"), as S3 speaks it.

Many operations of S3 share a method and a path. What tells them apart is a static query (`?uploads`), and the query
parameters and headers that an operation cannot be without (`partNumber`, `x-amz-copy-source`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from lambent.awsapi.http import Headers, HttpRequest, HttpResponse
from lambent.awsapi.json_values import NUMBERS, parse_timestamp
from lambent.awsapi.models import OperationModel, ServiceModel, Shape
from lambent.awsapi.rest_bindings import Received, add_header, parse_located, read_query
from lambent.awsapi.text_values import parse_boolean_text, parse_number_text
from lambent.awsapi.xml_reading import Element, malformed, read_xml
from lambent.awsapi.xml_values import escape, write_members
from lambent.model.errors import CallerError

_XML = (b"content-type", b"application/xml")
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_ROOTS = {
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketAcl": "AccessControlPolicy",
    "GetBucketCors": "CORSConfiguration",
    "GetBucketLifecycleConfiguration": "LifecycleConfiguration",
    "GetBucketLocation": "LocationConstraint",
    "GetBucketLogging": "BucketLoggingStatus",
    "GetBucketNotificationConfiguration": "NotificationConfiguration",
    "GetBucketRequestPayment": "RequestPaymentConfiguration",
    "GetBucketTagging": "Tagging",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetObjectAcl": "AccessControlPolicy",
    "GetObjectAttributes": "GetObjectAttributesResponse",
    "GetObjectTagging": "Tagging",
    "ListBuckets": "ListAllMyBucketsResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "ListObjectVersions": "ListVersionsResult",
    "ListParts": "ListPartsResult",
}
"""What the service calls the root of an answer, where its model does not say so. Some SDKs look at it."""
_BARE = "GetBucketLocation"
"""Its one member is the text of the root (smithy: `s3UnwrappedXmlOutput`)."""


class _Route:
    __slots__ = ("has_key", "headers", "needed", "operation", "prefix", "query", "rank")

    def __init__(self, operation: OperationModel) -> None:
        path, _, query = operation.uri.partition("?")
        self.operation = operation
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        self.has_key = path.endswith("/{Key+}")
        self.prefix = path.removesuffix("/{Key+}")
        shape = operation.input
        members = {name: shape.members[name].traits for name in shape.required} if shape is not None else {}
        located = [(traits.get("location"), traits.get("locationName", "")) for traits in members.values()]
        self.needed = [name for location, name in located if location == "querystring"]
        self.headers = [name.lower().encode() for location, name in located if location == "header"]
        stated = len(self.query) + len(self.needed) + len(self.headers)
        self.rank = (operation.deprecated, -stated, operation.name == "ListDirectoryBuckets")

    def fits(self, label_count: int, query: Mapping[str, str], request: HttpRequest) -> bool:
        wanted = {"": 0, "/": 0, "/{Bucket}": 1}.get(self.prefix)
        if wanted is None or label_count != wanted + self.has_key:
            return False
        return (
            all(query.get(name) == value for name, value in self.query.items())
            and all(name in query for name in self.needed)
            and all(name in request.fields for name in self.headers)
        )


class RestXml:
    """Parses requests to parameters and writes results and errors. Paths are `/`, `/BUCKET` and `/BUCKET/KEY`."""

    def __init__(self, model: ServiceModel) -> None:
        self._routes: dict[str, list[_Route]] = {}
        for operation in model.operations.values():
            self._routes.setdefault(operation.method, []).append(_Route(operation))
        for routes in self._routes.values():
            routes.sort(key=lambda route: route.rank)

    def match(self, request: HttpRequest) -> tuple[OperationModel, dict[str, str]] | None:
        """The operation that a request asks for and the variables of its path. Raises CallerError `InvalidURI`."""
        bucket, _, key = request.raw_path.removeprefix(b"/").partition(b"/")
        raw = {"Bucket": bucket, "Key": key}
        labels = {name: _decode(value) for name, value in raw.items() if value}
        query = dict(read_query(request))
        for route in self._routes.get(request.method, ()):
            if route.fits(len(labels), query, request):
                return route.operation, labels
        return None

    def parse(self, operation: OperationModel, labels: dict[str, str], request: HttpRequest) -> dict[str, Any]:
        """The members of the operation's input. Raises CallerError `MalformedXML`, `SerializationException`."""
        shape = operation.input
        if shape is None:
            return {}
        parameters: dict[str, Any] = {}
        received = Received(operation, labels, list(read_query(request)), request)
        for name, member in shape.members.items():
            value = parse_located(name, member, received)
            if value is not None:
                parameters[name] = value
        if shape.payload is not None:
            value = _parse_payload(shape.members[shape.payload], request.body)
            if value is not None:
                parameters[shape.payload] = value
        elif request.body and any(member.traits.get("location") is None for member in shape.members.values()):
            parameters |= _parse_structure(read_xml(request.body), shape, "", only_body=True)
        return parameters

    def write_result(self, operation: OperationModel, result: Mapping[str, Any], request_id: str = "") -> HttpResponse:
        response = HttpResponse(status=operation.status)
        shape = operation.output
        if shape is None:
            return response
        body: dict[str, Any] = {}
        has_body = False
        for name, member in shape.members.items():
            location, value = member.traits.get("location"), result.get(name)
            if location is None and name != shape.payload:
                has_body = True
            if value is None or name == shape.payload:
                continue
            wire_name = member.traits.get("locationName", name)
            if location == "header":
                _add_clean(response.headers, wire_name, value, member)
            elif location == "headers":
                for key, text in value.items():
                    _add_clean(response.headers, wire_name + key, text, member.value)
            else:
                body[name] = value
        if shape.payload is not None:
            _write_payload(response, shape.members[shape.payload], result.get(shape.payload))
        elif has_body:
            root = _ROOTS.get(operation.name, shape.name)
            content = escape(str(body.get("LocationConstraint", ""))) if operation.name == _BARE else ""
            _write_document(response, root, content or write_members(body, _body_only(shape, body)))
        return response

    def write_error(self, error: CallerError, request_id: str = "") -> HttpResponse:
        further = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in error.members.items())
        body = (
            f"{_DECLARATION}<Error><Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>{further}"
            f"<RequestId>{escape(request_id)}</RequestId></Error>"
        )
        headers = [_XML, *((name.lower().encode(), value.encode("latin-1")) for name, value in error.headers.items())]
        return HttpResponse(status=error.status, headers=headers, body=body.encode())


def _body_only(shape: Shape, body: Mapping[str, Any]) -> Shape:
    assert all(shape.members[name].traits.get("location") is None for name in body)
    return shape


def _decode(raw: bytes) -> str:
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise CallerError("InvalidURI", "Couldn't parse the specified URI.") from None


def _add_clean(headers: Headers, name: str, value: Any, shape: Shape) -> None:
    """A value that a user chose may hold what would end the header."""
    if isinstance(value, str):
        value = "".join(" " if ord(sign) < 32 or ord(sign) == 127 else sign for sign in value)
        value = value.encode("latin-1", "replace").decode("latin-1")
    add_header(headers, name, value, shape)


def _write_payload(response: HttpResponse, member: Shape, value: Any) -> None:
    if value is None:
        return
    if member.kind == "blob":
        # What is streamed is written by whoever serves it.
        response.body = value if isinstance(value, bytes) else b""
    elif member.kind == "string":
        response.body = str(value).encode()
    else:
        _write_document(response, member.traits.get("locationName", member.name), write_members(value, member))


def _write_document(response: HttpResponse, root: str, content: str) -> None:
    response.headers.append(_XML)
    response.body = f'{_DECLARATION}<{root} xmlns="{_NAMESPACE}">{content}</{root}>'.encode()


def _parse_payload(shape: Shape, body: bytes) -> Any:
    if shape.kind == "blob":
        return body
    if shape.kind == "string":
        return body.decode("utf-8", "replace")
    return _parse(read_xml(body), shape, "") if body.strip() else None


def _parse_structure(element: Element, shape: Shape, path: str, *, only_body: bool = False) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for name, member in shape.members.items():
        if only_body and member.traits.get("location") is not None:
            continue
        wire_name = member.traits.get("locationName", name)
        inner = f"{path}.{name}" if path else name
        if member.trait("xmlAttribute"):
            value = element.attributes.get(wire_name.rpartition(":")[2])
        elif member.kind in ("list", "map") and member.trait("flattened"):
            value = _parse_many(_flattened(element, wire_name, member), member, inner) or None
        else:
            found = element.all(wire_name)
            value = _parse(found[-1], member, inner) if found else None
        if value is not None:
            parsed[name] = value
    return parsed


def _flattened(element: Element, wire_name: str, shape: Shape) -> list[Element]:
    if shape.kind == "list" and "locationName" in shape.item.traits:
        wire_name = shape.item.traits["locationName"]
    return element.all(wire_name)


def _parse(element: Element, shape: Shape, path: str) -> Any:
    kind = shape.kind
    if kind == "structure":
        return _parse_structure(element, shape, path)
    if kind == "list":
        return _parse_many(element.all(shape.item.traits.get("locationName", "member")), shape, path)
    if kind == "map":
        return _parse_many(element.all("entry"), shape, path)
    return _parse_text(element.text, shape, path)


def _parse_many(elements: list[Element], shape: Shape, path: str) -> Any:
    if shape.kind == "list":
        return [_parse(element, shape.item, f"{path}[{at}]") for at, element in enumerate(elements)]
    key_name = shape.key.traits.get("locationName", "key")
    value_name = shape.value.traits.get("locationName", "value")
    pairs = ((entry.all(key_name), entry.all(value_name)) for entry in elements)
    return {key[0].text: _parse(value[0], shape.value, path) for key, value in pairs if key and value}


def _parse_text(text: str, shape: Shape, path: str) -> Any:
    kind = shape.kind
    if kind == "string":
        return text
    text = text.strip()
    if kind == "blob":
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            raise malformed(f"'{path}' is not valid base64") from None
    if kind == "boolean":
        return parse_boolean_text(text.lower(), path)
    if kind == "timestamp":
        return parse_timestamp(text, shape)
    assert kind in NUMBERS, kind
    return parse_number_text(text, shape, path)

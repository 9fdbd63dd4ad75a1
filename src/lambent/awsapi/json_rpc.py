"""The `json` protocol, server side: the operation is named in a header (smithy.io, "AWS JSON 1.0 and 1.1 protocol").

Services that once spoke the query protocol (SQS) promise their old error codes in `x-amzn-query-error` besides. No
model has those codes: an error whose old code is another one than its name brings the header along.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lambent.awsapi.http import Headers, HttpRequest, HttpResponse
from lambent.awsapi.json_values import decode_json, encode_value, parse_structure, serialization_error
from lambent.awsapi.models import OperationModel, ServiceModel
from lambent.model.errors import CallerError


class JsonRpc:
    """Parses requests to parameters and writes results and errors."""

    def __init__(self, model: ServiceModel) -> None:
        self._model = model
        self._prefix = model.metadata["targetPrefix"]
        version = model.metadata.get("jsonVersion", "1.0")
        self._type = (b"content-type", f"application/x-amz-json-{version}".encode())
        # The newer version of the protocol names errors absolutely.
        self._namespace = f"com.amazonaws.{model.metadata['endpointPrefix']}#" if version == "1.0" else ""

    def match(self, request: HttpRequest) -> tuple[OperationModel, dict[str, str]] | None:
        prefix, _, name = (request.header(b"x-amz-target") or "").rpartition(".")
        operation = self._model.operations.get(name) if prefix == self._prefix and request.method == "POST" else None
        return (operation, {}) if operation is not None else None

    def parse(self, operation: OperationModel, labels: dict[str, str], request: HttpRequest) -> dict[str, Any]:
        """The members of the operation's input. Raises CallerError `SerializationException`."""
        if operation.input is None or not request.body:
            return {}
        body = decode_json(request.body)
        if not isinstance(body, dict):
            raise serialization_error("the request body must be a JSON object")
        return parse_structure(body, operation.input, "")

    def write_result(self, operation: OperationModel, result: Mapping[str, Any], request_id: str = "") -> HttpResponse:
        body = b"" if operation.output is None else msgspec.json.encode(encode_value(result, operation.output))
        return HttpResponse(headers=[self._type], body=body)

    def write_error(self, error: CallerError, request_id: str = "") -> HttpResponse:
        shape = self._model.error_shape(error.code)
        name = shape.name if shape is not None else error.code
        key = "Message" if shape is not None and "Message" in shape.members else "message"
        body = {"__type": self._namespace + name, **error.members, key: error.message}
        headers: Headers = [self._type]
        if "awsQueryCompatible" in self._model.metadata and "x-amzn-query-error" not in error.headers:
            fault = "Sender" if error.status < 500 else "Receiver"
            headers.append((b"x-amzn-query-error", f"{name};{fault}".encode()))
        headers += [(header.lower().encode(), value.encode()) for header, value in error.headers.items()]
        return HttpResponse(status=error.status, headers=headers, body=msgspec.json.encode(body))

"""One service of the API: from a request that matches its model to the operation that serves it, and back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from lambent.awsapi.context import Operation, RequestContext
from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.awsapi.json_rpc import JsonRpc
from lambent.awsapi.models import OperationModel, ServiceModel
from lambent.awsapi.query import Query
from lambent.awsapi.rest_json import RestJson
from lambent.awsapi.rest_xml import RestXml
from lambent.awsapi.validation import validate
from lambent.model.errors import CallerError, PlatformError

log = logging.getLogger(__name__)


class Codec(Protocol):
    """One of the wire protocols of AWS, for one service model."""

    def match(self, request: HttpRequest) -> tuple[OperationModel, dict[str, str]] | None: ...

    def parse(self, operation: OperationModel, labels: dict[str, str], request: HttpRequest) -> dict[str, Any]: ...

    def write_result(self, operation: OperationModel, result: Mapping[str, Any], request_id: str = "") -> HttpResponse:
        """Some protocols tell the request's id in the body; the gateway tells it in a header."""
        ...

    def write_error(self, error: CallerError, request_id: str = "") -> HttpResponse: ...


CODECS: dict[str, Callable[[ServiceModel], Codec]] = {
    "rest-json": RestJson,
    "rest-xml": RestXml,
    "json": JsonRpc,
    "query": Query,
}
"""By the protocol that a model names; further protocols take their place here."""


class Service:
    """Implements the gateway's `Api` for one model."""

    def __init__(self, model: ServiceModel, operations: Mapping[str, Operation]) -> None:
        unknown = operations.keys() - model.operations.keys()
        assert not unknown, f"operations that the model does not have: {unknown}"
        self._codec = CODECS[model.metadata["protocol"]](model)
        self._operations = operations

    def match(self, request: HttpRequest) -> OperationModel | None:
        """The operation that a request asks for, whether or not it is served."""
        matched = self._codec.match(request)
        return matched[0] if matched is not None else None

    async def handle(self, request: HttpRequest, context: RequestContext) -> HttpResponse:
        """Raises what the operation raises; `write_error` turns it into a response."""
        matched = self._codec.match(request)
        if matched is None:
            path = request.raw_path.decode("latin-1")
            raise CallerError(
                "UnknownOperationException", f"There is no operation at {request.method} {path}", status=404
            )
        model, labels = matched
        operation = self._operations.get(model.name)
        if operation is None:
            raise CallerError("NotImplementedException", f"{model.name} is not implemented by Lambent yet", status=501)
        parameters = self._codec.parse(model, labels, request)
        if model.input is not None:
            validate(parameters, model.input)
        return self._codec.write_result(model, await operation(context, parameters), context.request_id)

    def write_error(self, exc: Exception, request_id: str) -> HttpResponse:
        """The one place where exceptions become responses."""
        if isinstance(exc, CallerError):
            return self._codec.write_error(exc, request_id)
        if isinstance(exc, PlatformError):
            log.error("platform error", extra={"action": "platform_error", "request": request_id, "reason": str(exc)})
            return self._codec.write_error(CallerError("ServiceException", str(exc), status=500), request_id)
        log.error("unexpected error", extra={"action": "unexpected_error", "request": request_id}, exc_info=exc)
        message = f"Internal error; the node's log has the details under request {request_id}."
        return self._codec.write_error(CallerError("ServiceException", message, status=500), request_id)

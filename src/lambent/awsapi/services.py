"""All services of the one port: which of them a request is for, and their answers in their own protocol."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl

import msgspec

from lambent.awsapi.context import Operation, RequestContext, check_scope, deny
from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.awsapi.models import OperationModel, load_model
from lambent.awsapi.service import Service
from lambent.model.errors import CallerError


class Endpoint(NamedTuple):
    """How the requests of a service are told from those of the others."""

    signing_name: str
    target_prefix: str = ""
    """Of `X-Amz-Target`, in the `json` protocol."""
    api_version: str = ""
    """Of the form's `Version`, in the `query` protocol."""
    path_prefix: bytes = b""
    """Of the paths, where two services share a signing name."""


ENDPOINTS = {
    "lambda": Endpoint("lambda"),
    "sqs": Endpoint("sqs", target_prefix="AmazonSQS", api_version="2012-11-05"),
    "sns": Endpoint("sns", api_version="2010-03-31"),
    "events": Endpoint("events", target_prefix="AWSEvents"),
    "scheduler": Endpoint("scheduler"),
    "apigateway": Endpoint("apigateway"),
    "apigatewayv2": Endpoint("apigateway", path_prefix=b"/v2/"),
    "s3": Endpoint("s3"),
    "ses": Endpoint("ses", api_version="2010-12-01"),
    "sts": Endpoint("sts", api_version="2011-06-15"),
}
"""By botocore's names of the services."""

_DEFAULT = "lambda"
_NOT_FOR_FUNCTIONS = ("lambda", "apigateway", "apigatewayv2")
_BY_TARGET = {endpoint.target_prefix: name for name, endpoint in ENDPOINTS.items() if endpoint.target_prefix}
_BY_SIGNATURE = {endpoint.signing_name: name for name, endpoint in ENDPOINTS.items() if not endpoint.path_prefix}
_BY_PATH = {endpoint.path_prefix: name for name, endpoint in ENDPOINTS.items() if endpoint.path_prefix}
_BY_VERSION = {endpoint.api_version: name for name, endpoint in ENDPOINTS.items() if endpoint.api_version}
_SCOPE = re.compile(r"(?:Credential=|X-Amz-Credential=)[^,&\s]*?(?:/|%2F)([a-z0-9-]{1,64})(?:/|%2F)aws4_request", re.I)


OwnEndpoint = Callable[[HttpRequest, RequestContext], Awaitable[HttpResponse]]
"""One of Lambent's own, beside the services: serves every path that begins with its prefix. Raises as operations do."""


class Services:
    """Implements the gateway's `Api` for every service that is served. A model is read when it is first needed."""

    def __init__(
        self, served: Mapping[str, Mapping[str, Operation]], own: Mapping[bytes, OwnEndpoint] | None = None
    ) -> None:
        """`own` by path prefix, which ends at a segment: `/_lambent/hooks`."""
        unknown = served.keys() - ENDPOINTS.keys()
        assert not unknown, f"services without an endpoint: {unknown}"
        self._served = served
        self._own = dict(own or {})
        self._services: dict[str, Service] = {_DEFAULT: Service(load_model(_DEFAULT), served[_DEFAULT])}

    @property
    def signing_names(self) -> frozenset[str]:
        return frozenset(ENDPOINTS[name].signing_name for name in self._served)

    def match(self, request: HttpRequest) -> tuple[str, OperationModel] | None:
        """The service and the operation that a request asks for, whether or not it is served."""
        name = name_service(request)
        if name not in self._served:
            return None
        operation = self._service(name).match(request)
        return (name, operation) if operation is not None else None

    async def handle(self, request: HttpRequest, context: RequestContext) -> HttpResponse:
        """Raises what the operation raises; `write_error` turns it into a response."""
        for prefix, endpoint in self._own.items():
            if request.raw_path == prefix or request.raw_path.startswith(prefix + b"/"):
                return await endpoint(request, context)
        name = name_service(request)
        if name not in self._served:
            raise CallerError(
                "NotImplementedException", f"The service '{name}' is not served by Lambent yet", status=501
            )
        check_scope(context, ENDPOINTS[name].signing_name)
        if context.principal and name in _NOT_FOR_FUNCTIONS:
            # Until roles have policies: a function uses what its account has, and changes neither functions nor APIs.
            matched = self._service(name).match(request)
            raise deny(context, f"{ENDPOINTS[name].signing_name}:{matched.name if matched is not None else 'Unknown'}")
        trace_id = request.header(b"x-amzn-trace-id")
        if trace_id:
            context = msgspec.structs.replace(context, trace_id=trace_id)
        return await self._service(name).handle(request, context)

    def write_error(self, exc: Exception, request: HttpRequest | None, request_id: str) -> HttpResponse:
        """In the protocol of the service that the request was for; the Lambda API's when that cannot be told."""
        name = name_service(request) if request is not None else _DEFAULT
        return self._service(name if name in self._served else _DEFAULT).write_error(exc, request_id)

    def _service(self, name: str) -> Service:
        service = self._services.get(name)
        if service is None:
            service = self._services[name] = Service(load_model(name), self._served[name])
        return service


def name_service(request: HttpRequest) -> str:
    """The service that a request is for, by what only its own clients send."""
    target = request.header(b"x-amz-target")
    if target is not None and (named := _BY_TARGET.get(target.rpartition(".")[0])):
        return named
    scope = _SCOPE.search(request.header(b"authorization") or request.query_string.decode("latin-1"))
    if scope is not None:
        signed = scope[1].lower()
        for prefix, name in _BY_PATH.items():
            if ENDPOINTS[name].signing_name == signed and request.raw_path.startswith(prefix):
                return name
        return _BY_SIGNATURE.get(signed, signed)
    for prefix, name in _BY_PATH.items():
        if request.raw_path.startswith(prefix):
            return name
    return _BY_VERSION.get(_form_version(request), _DEFAULT)


def _form_version(request: HttpRequest) -> str:
    """`Version` of a form or a query, for clients that do not sign (`--dev`)."""
    kind = request.header(b"content-type") or ""
    form = request.body if kind.startswith("application/x-www-form-urlencoded") else b""
    for source in (request.query_string, form[:65_536]):
        if b"Version=" in source:
            return dict(parse_qsl(source.decode("latin-1"))).get("Version", "")
    return ""

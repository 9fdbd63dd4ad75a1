"""A request on its way through a stage, and what templates, mappings and gateway responses see of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from lambent.frontdoor.access_logs import AccessLog, Facts, find_in
from lambent.frontdoor.call import HttpCall
from lambent.frontdoor.http_apis.routing import Router
from lambent.frontdoor.payloads.v2 import format_time
from lambent.frontdoor.rest_apis.model import Configuration, Members, RestApi


class Served(NamedTuple):
    """A deployment as one stage serves it, made ready."""

    api: RestApi
    stage: str
    members: Members
    """Of the stage."""
    configuration: Configuration
    router: Router
    variables: Mapping[str, str]
    schemas: dict[str, Any]
    """Compiled, by the names of their models."""
    is_canary: bool = False
    access: AccessLog | None = None


class Admitted(msgspec.Struct, kw_only=True):
    """What became known of the caller."""

    authorizer: dict[str, Any] = {}
    """As the event shows it."""
    identity: dict[str, Any] = {}
    usage_key: str = ""
    """That an authorizer names."""


class Request(msgspec.Struct, kw_only=True, dict=True):
    served: Served
    call: HttpCall
    raw_path: bytes
    """Below the stage."""
    path: str
    """As `$context.path` shows it: with the stage, or the path of a domain's mapping."""
    shown_path: str
    """As the event's `path` shows it: without the stage."""
    resource: Members
    method: Members
    path_parameters: dict[str, str]
    admitted: Admitted = msgspec.field(default_factory=Admitted)
    facts: Facts = msgspec.field(default_factory=dict)
    """For the access log."""

    @property
    def arn(self) -> str:
        """As policies name it."""
        api = self.served.api
        below = self.raw_path.decode("latin-1").lstrip("/")
        place = f"{api.region}:{api.account}:{api.api_id}/{self.served.stage}"
        return f"arn:aws:execute-api:{place}/{self.call.method}/{below}"

    @property
    def method_key(self) -> str:
        """As the stage's settings name it."""
        return f"{self.resource['path'].lstrip('/') or '~1'}/{self.method['httpMethod']}"

    @cached_property
    def context(self) -> dict[str, Any]:
        """`$context`, nested."""
        call, api = self.call, self.served.api
        identity = {
            "sourceIp": call.source_ip,
            "userAgent": call.header("user-agent") or "",
            **{name: value for name, value in self.admitted.identity.items() if value is not None},
        }
        return {
            "accountId": api.account,
            "apiId": api.api_id,
            "authorizer": self.admitted.authorizer,
            "domainName": call.host,
            "domainPrefix": call.host.split(".", 1)[0],
            "extendedRequestId": call.request_id,
            "httpMethod": call.method,
            "identity": identity,
            "isCanaryRequest": str(self.served.is_canary).lower(),
            "path": self.path,
            "protocol": call.protocol,
            "requestId": call.request_id,
            "requestTime": format_time(call.received_at_ms),
            "requestTimeEpoch": call.received_at_ms,
            "resourceId": self.resource.get("id", ""),
            "resourcePath": self.resource["path"],
            "stage": self.served.stage,
        }

    def find(self, expression: str) -> str:
        """`context.NAME`, `stageVariables.NAME`, `method.request.PLACE.NAME`; empty for what is not there."""
        area, _, name = expression.partition(".")
        if area == "stageVariables":
            return self.served.variables.get(name, "")
        if area == "context":
            value = find_in(self.context, name)
            return "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if expression.startswith("method.request."):
            values = self.find_parameter(expression)
            return ",".join(values) if expression.startswith("method.request.multivalue") else (values or [""])[-1]
        return ""

    def find_parameter(self, expression: str) -> list[str]:
        """`method.request.header.NAME` and the like."""
        place, _, name = expression.removeprefix("method.request.").partition(".")
        if place == "path":
            value = self.path_parameters.get(name)
            return [value] if value is not None else []
        if place in ("querystring", "multivaluequerystring"):
            return [value for key, value in self.call.query if key == name]
        if place in ("header", "multivalueheader"):
            return list(self.call.header_lists.get(name.lower(), []))
        if place == "body":
            return [self.call.body.decode("utf-8", "replace")]
        return []

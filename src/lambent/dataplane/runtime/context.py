"""The context object that a handler is given (developer guide, "Lambda context object in Python")."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Dict, Optional

from lambent.dataplane.wire.frames import Call

SHOWN = (
    "aws_request_id",
    "log_group_name",
    "log_stream_name",
    "function_name",
    "memory_limit_in_mb",
    "function_version",
    "invoked_function_arn",
    "client_context",
    "identity",
    "tenant_id",
)


W3C_FIELDS = ("traceparent", "tracestate", "baggage")


class CognitoIdentity:
    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self, fields: Dict[str, Any]) -> None:
        self.cognito_identity_id: Optional[str] = fields.get("cognitoIdentityId")
        self.cognito_identity_pool_id: Optional[str] = fields.get("cognitoIdentityPoolId")

    def __repr__(self) -> str:
        return "CognitoIdentity([cognito_identity_id={},cognito_identity_pool_id={}])".format(
            self.cognito_identity_id, self.cognito_identity_pool_id
        )


class Client:
    __slots__ = ("app_package_name", "app_title", "app_version_code", "app_version_name", "installation_id")

    def __init__(self, fields: Dict[str, Any]) -> None:
        for name in self.__slots__:
            setattr(self, name, fields.get(name))


class ClientContext:
    __slots__ = ("client", "custom", "env")

    def __init__(self, fields: Dict[str, Any]) -> None:
        client = fields.get("client")
        self.client = Client(client) if isinstance(client, dict) else None
        self.custom: Any = fields.get("custom")
        self.env: Any = fields.get("env")


class LambdaContext:
    """One invocation's context. Attributes may be set by user code, as with the contract's own."""

    function_name: Optional[str] = None
    function_version: Optional[str] = None
    memory_limit_in_mb: Optional[str] = None
    log_group_name: Optional[str] = None
    log_stream_name: Optional[str] = None

    def __init__(self, call: Call) -> None:
        self.aws_request_id = call.request_id
        self.invoked_function_arn = call.invoked_arn
        self.tenant_id: Optional[str] = None
        fields = _parse(call.client_context)
        given = fields.pop("w3c", None) if fields else None
        self._w3c = {} if given is None else _select_w3c(given)
        self.client_context = ClientContext(fields) if fields is not None else None
        self.identity = CognitoIdentity(_parse(call.cognito_identity) or {})
        self._epoch_deadline_time_in_ms = call.deadline_ms

    def get_remaining_time_in_millis(self) -> int:
        return max(0, self._epoch_deadline_time_in_ms - int(time.time() * 1000))

    def w3c(self) -> Dict[str, str]:
        """The W3C trace context that came with the client context."""
        return dict(self._w3c)

    def log(self, message: Any) -> None:
        sys.stdout.write(str(message))

    def __repr__(self) -> str:
        return "LambdaContext([{}])".format(",".join("{}={}".format(name, getattr(self, name)) for name in SHOWN))


def describe_function() -> None:
    """Read what is the same for all invocations of this environment."""
    variables = os.environ
    LambdaContext.function_name = variables.get("AWS_LAMBDA_FUNCTION_NAME")
    LambdaContext.function_version = variables.get("AWS_LAMBDA_FUNCTION_VERSION")
    LambdaContext.memory_limit_in_mb = variables.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
    LambdaContext.log_group_name = variables.get("AWS_LAMBDA_LOG_GROUP_NAME")
    LambdaContext.log_stream_name = variables.get("AWS_LAMBDA_LOG_STREAM_NAME")


def _parse(text: str) -> Optional[Dict[str, Any]]:
    if not text:
        return None
    fields = json.loads(text)
    return fields if isinstance(fields, dict) else None


def _select_w3c(given: Any) -> Dict[str, str]:
    if not isinstance(given, dict):
        return {}
    return {name: given[name] for name in W3C_FIELDS if isinstance(given.get(name), str)}

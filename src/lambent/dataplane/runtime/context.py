"""The context object that a handler is given (developer guide, "Lambda context object in Python")."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict, List, Optional, Tuple

from lambent.dataplane.runtime import logs
from lambent.dataplane.runtime.faults import Refused
from lambent.dataplane.runtime.streaming import ResponseWriter
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


class NotUnderstood(Refused):
    """What came with the event is no JSON text."""

    error_type = "Runtime.LambdaContextUnmarshalError"


class _Fields:
    __slots__ = ()
    _shown: Tuple[str, ...] = ()

    def __repr__(self) -> str:
        shown = ",".join("{}={}".format(name, getattr(self, name)) for name in self._shown)
        return "{}([{}])".format(self.__class__.__name__, shown)


class CognitoIdentity(_Fields):
    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")
    _shown = __slots__

    def __init__(self, fields: Dict[str, Any]) -> None:
        self.cognito_identity_id: Optional[str] = fields.get("cognitoIdentityId")
        self.cognito_identity_pool_id: Optional[str] = fields.get("cognitoIdentityPoolId")


class Client(_Fields):
    __slots__ = ("app_package_name", "app_title", "app_version_code", "app_version_name", "installation_id")
    _shown = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")

    def __init__(self, fields: Dict[str, Any]) -> None:
        for name in self.__slots__:
            setattr(self, name, fields.get(name))


class ClientContext(_Fields):
    __slots__ = ("client", "custom", "env")
    _shown = ("custom", "env", "client")

    def __init__(self, fields: Dict[str, Any]) -> None:
        client = fields.get("client")
        self.client = Client(client) if client is not None else None
        self.custom: Any = fields.get("custom")
        self.env: Any = fields.get("env")


class LambdaContext(_Fields):
    """One invocation's context. Attributes may be set by user code, as with the contract's own."""

    _shown = SHOWN
    function_name: Optional[str] = None
    function_version: Optional[str] = None
    memory_limit_in_mb: Optional[str] = None
    log_group_name: Optional[str] = None
    log_stream_name: Optional[str] = None
    streams_response = False
    """Whether whoever invoked reads the answer while it is written."""
    _sock: Any = None
    _writer: Any = None

    def __init__(self, call: Call) -> None:
        self.aws_request_id = call.request_id
        self.invoked_function_arn = call.invoked_arn
        self.tenant_id: Optional[str] = None
        fields = _parse(call.client_context, "Client Context")
        self._w3c = _select_w3c(fields.pop("w3c", None)) if isinstance(fields, dict) else {}
        self.client_context = ClientContext(fields) if fields is not None else None
        identity = _parse(call.cognito_identity, "Cognito Identity")
        self.identity = CognitoIdentity({} if identity is None else identity)
        self._epoch_deadline_time_in_ms = call.deadline_ms
        if call.streamed:
            self.streams_response = True

    def get_remaining_time_in_millis(self) -> int:
        return max(0, self._epoch_deadline_time_in_ms - int(time.time() * 1000))

    def w3c(self) -> Dict[str, str]:
        """The W3C trace context that came with the client context."""
        return dict(self._w3c)

    def response_stream(
        self,
        status_code: Optional[int] = None,
        headers: Optional[Dict[str, Any]] = None,
        cookies: Optional[List[str]] = None,
        content_type: Optional[str] = None,
    ) -> ResponseWriter:
        """Where the answer is written piece by piece; what the handler then returns does not count.

        Without arguments the head of the answer is told by `begin`, or by the first write.
        """
        if self._writer is not None:
            raise RuntimeError("this invocation has a response stream already")
        writer = self._writer = ResponseWriter(self._sock, streams=self.streams_response)
        if status_code is not None or headers or cookies or content_type:
            writer.begin(content_type, status_code, headers, cookies)
        return writer

    def log(self, msg: Any) -> None:
        """One event of the log, however many lines."""
        logs.write_line(str(msg).rstrip("\n").replace("\n", "\r"))


def describe_function() -> None:
    """Read what is the same for all invocations of this environment."""
    variables = os.environ
    LambdaContext.function_name = variables.get("AWS_LAMBDA_FUNCTION_NAME")
    LambdaContext.function_version = variables.get("AWS_LAMBDA_FUNCTION_VERSION")
    LambdaContext.memory_limit_in_mb = variables.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
    LambdaContext.log_group_name = variables.get("AWS_LAMBDA_LOG_GROUP_NAME")
    LambdaContext.log_stream_name = variables.get("AWS_LAMBDA_LOG_STREAM_NAME")


def _parse(text: str, name: str) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except Exception as exc:
        raise NotUnderstood("Unable to parse {} JSON: {}".format(name, exc)) from exc


def _select_w3c(given: Any) -> Dict[str, str]:
    if not isinstance(given, dict):
        return {}
    return {name: given[name] for name in W3C_FIELDS if isinstance(given.get(name), str)}

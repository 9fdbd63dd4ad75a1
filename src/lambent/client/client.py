"""The public API as functions: what the command line and the dashboard are made with."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote

from lambent.client.connection import Connection
from lambent.client.errors import ApiError, NotReady
from lambent.client.shapes import (
    AliasConfiguration,
    Document,
    Function,
    FunctionConfiguration,
    Invocation,
    LayerVersion,
    LogLine,
    RuntimeStatus,
    Status,
)
from lambent.client.transport import Transport

_FUNCTIONS = "/2015-03-31/functions"
_LAYERS = "/2018-10-31/layers"
_MAPPINGS = "/2015-03-31/event-source-mappings"
_URLS = "/2021-10-31/functions"
_TAGS = "/2017-03-31/tags"
_JSON = {"content-type": "application/json"}
INVOKE_TIMEOUT_S = 960.0
"""The longest function (900 s), its cold start, and a little."""
_READY_TIMEOUT_S = 120.0
_POLL_S = 0.1
_PROBE_TIMEOUT_S = 3.0
_LOG_LINES = 1_000


class Client:
    """Every method raises ApiError for a refusal of the node and Unreachable when there is no answer."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._transport = Transport(connection)

    def invoke(
        self,
        name: str,
        payload: bytes = b"{}",
        *,
        kind: str = "RequestResponse",
        qualifier: str = "",
        tail: bool = False,
    ) -> Invocation:
        """`kind` is RequestResponse, Event or DryRun; `tail` asks for the last 4 KB of the invocation's log."""
        headers = {**_JSON, "x-amz-invocation-type": kind}
        if tail:
            headers["x-amz-log-type"] = "Tail"
        answer = self._transport.send(
            "POST",
            f"{_FUNCTIONS}/{_segment(name)}/invocations",
            query=_qualify(qualifier),
            headers=headers,
            body=payload,
            timeout_s=INVOKE_TIMEOUT_S,
        )
        return Invocation(
            status=answer.status,
            payload=answer.body,
            function_error=answer.headers.get("x-amz-function-error", ""),
            executed_version=answer.headers.get("x-amz-executed-version", ""),
            request_id=answer.request_id,
            log=base64.b64decode(answer.headers.get("x-amz-log-result", "")).decode(errors="replace"),
        )

    def create_function(self, *, package: bytes, members: Mapping[str, Any]) -> FunctionConfiguration:
        """`members` are CreateFunction's, without its `Code`."""
        code = {"ZipFile": base64.b64encode(package).decode()}
        return cast(FunctionConfiguration, self._json("POST", _FUNCTIONS, {**members, "Code": code}))

    def update_code(self, name: str, package: bytes, *, publish: bool = False) -> FunctionConfiguration:
        body = {"ZipFile": base64.b64encode(package).decode(), "Publish": publish}
        return cast(FunctionConfiguration, self._json("PUT", f"{_FUNCTIONS}/{_segment(name)}/code", body))

    def update_configuration(self, name: str, members: Mapping[str, Any]) -> FunctionConfiguration:
        return cast(
            FunctionConfiguration, self._json("PUT", f"{_FUNCTIONS}/{_segment(name)}/configuration", dict(members))
        )

    def get_function(self, name: str, *, qualifier: str = "") -> Function:
        return cast(Function, self._json("GET", f"{_FUNCTIONS}/{_segment(name)}", query=_qualify(qualifier)))

    def find_function(self, name: str) -> Function | None:
        """As `get_function`; None when there is none."""
        try:
            return self.get_function(name)
        except ApiError as exc:
            if exc.code != "ResourceNotFoundException":
                raise
            return None

    def list_functions(self) -> Iterator[FunctionConfiguration]:
        return cast(Iterator[FunctionConfiguration], self._pages(_FUNCTIONS + "/", "Functions"))

    def list_versions(self, name: str) -> Iterator[FunctionConfiguration]:
        path = f"{_FUNCTIONS}/{_segment(name)}/versions"
        return cast(Iterator[FunctionConfiguration], self._pages(path, "Versions"))

    def list_aliases(self, name: str) -> Iterator[AliasConfiguration]:
        return cast(Iterator[AliasConfiguration], self._pages(f"{_FUNCTIONS}/{_segment(name)}/aliases", "Aliases"))

    def delete_function(self, name: str, *, qualifier: str = "") -> None:
        self._transport.send("DELETE", f"{_FUNCTIONS}/{_segment(name)}", query=_qualify(qualifier))

    def publish_version(self, name: str, *, description: str = "") -> FunctionConfiguration:
        path = f"{_FUNCTIONS}/{_segment(name)}/versions"
        return cast(FunctionConfiguration, self._json("POST", path, {"Description": description}))

    def publish_layer(
        self, name: str, package: bytes, *, runtimes: Sequence[str] = (), description: str = ""
    ) -> LayerVersion:
        body = {
            "Content": {"ZipFile": base64.b64encode(package).decode()},
            "CompatibleRuntimes": list(runtimes),
            "Description": description,
        }
        return cast(LayerVersion, self._json("POST", f"{_LAYERS}/{_segment(name)}/versions", body))

    def tag(self, arn: str, tags: Mapping[str, str]) -> None:
        body = json.dumps({"Tags": dict(tags)}).encode()
        self._transport.send("POST", f"{_TAGS}/{_segment(arn)}", headers=_JSON, body=body)

    def wait_until_ready(self, name: str, *, timeout_s: float = _READY_TIMEOUT_S) -> FunctionConfiguration:
        """Until the function is Active and its last update is done. Raises NotReady when either failed or it took
        longer than `timeout_s`."""
        deadline_at = time.monotonic() + timeout_s
        while True:
            configuration = self.get_function(name)["Configuration"]
            state, update = configuration.get("State", "Active"), configuration.get("LastUpdateStatus", "Successful")
            if state == "Failed" or update == "Failed":
                reason = configuration.get("StateReason") or configuration.get("LastUpdateStatusReason") or "no reason"
                raise NotReady(f"{name} is {state}, its last update {update}: {reason}")
            if state in ("Active", "Inactive") and update == "Successful":
                return configuration
            if time.monotonic() > deadline_at:
                raise NotReady(f"{name} is still {state}, its last update {update}, after {timeout_s:.0f} s")
            time.sleep(_POLL_S)

    def logs(self, name: str, *, since_ms: int = 0, limit: int = _LOG_LINES, follow: bool = False) -> Iterator[LogLine]:
        """The newest `limit` lines since then, oldest first; with `follow` every later one as it comes, without end."""
        query = {"since": str(since_ms), "limit": str(limit)}
        if follow:
            query["follow"] = "1"
        path = f"/_lambent/functions/{_segment(name)}/logs"
        for line in self._transport.stream_lines(path, query=query, timeout_s=None if follow else 60.0):
            yield json.loads(line)

    def group_logs(
        self, group: str, *, since_ms: int = 0, limit: int = _LOG_LINES, follow: bool = False
    ) -> Iterator[LogLine]:
        """`logs` of a log group that is no function's: the access log of an API."""
        query = {"group": group, "since": str(since_ms), "limit": str(limit)}
        if follow:
            query["follow"] = "1"
        for line in self._transport.stream_lines("/_lambent/logs", query=query, timeout_s=None if follow else 60.0):
            yield json.loads(line)

    def put_url(self, name: str, members: Mapping[str, Any], *, qualifier: str = "") -> Document:
        """Create the function's URL, or change the one it has. `members` are CreateFunctionUrlConfig's."""
        path, query = f"{_URLS}/{_segment(name)}/url", _qualify(qualifier)
        try:
            return self._json("POST", path, dict(members), query=query)
        except ApiError as exc:
            if exc.code != "ResourceConflictException":
                raise
            return self._json("PUT", path, dict(members), query=query)

    def delete_url(self, name: str, *, qualifier: str = "") -> None:
        self._transport.send("DELETE", f"{_URLS}/{_segment(name)}/url", query=_qualify(qualifier))

    def allow(self, name: str, statement: Mapping[str, Any], *, qualifier: str = "") -> None:
        """AddPermission; a statement that is there stays."""
        try:
            self._json("POST", f"{_FUNCTIONS}/{_segment(name)}/policy", dict(statement), query=_qualify(qualifier))
        except ApiError as exc:
            if exc.code != "ResourceConflictException":
                raise

    def forbid(self, name: str, statement_id: str, *, qualifier: str = "") -> None:
        """RemovePermission; a statement that is not there is no error."""
        path = f"{_FUNCTIONS}/{_segment(name)}/policy/{_segment(statement_id)}"
        try:
            self._transport.send("DELETE", path, query=_qualify(qualifier))
        except ApiError as exc:
            if exc.code != "ResourceNotFoundException":
                raise

    def list_mappings(self) -> Iterator[Document]:
        """Event source mappings, as GetEventSourceMapping shows them."""
        return self._pages(_MAPPINGS, "EventSourceMappings")

    def get_mapping(self, uuid: str) -> Document:
        return self._json("GET", f"{_MAPPINGS}/{_segment(uuid)}")

    def enable_mapping(self, uuid: str, *, enabled: bool) -> Document:
        return self._json("PUT", f"{_MAPPINGS}/{_segment(uuid)}", {"Enabled": enabled})

    def call_queue(self, operation: str, **parameters: Any) -> Document:
        """An operation of the SQS wire."""
        return self._call("sqs", "AmazonSQS", "1.0", operation, parameters)

    def queue_url(self, name: str) -> str:
        return str(self.call_queue("GetQueueUrl", QueueName=name)["QueueUrl"])

    def list_queues(self) -> Iterator[str]:
        """Their URLs."""
        token: dict[str, str] = {}
        while True:
            page = self.call_queue("ListQueues", **token)
            yield from page.get("QueueUrls", [])
            if "NextToken" not in page:
                return
            token = {"NextToken": page["NextToken"]}

    def call_bus(self, operation: str, **parameters: Any) -> Document:
        """An operation of the EventBridge wire."""
        return self._call("events", "AWSEvents", "1.1", operation, parameters)

    def list_rules(self, bus: str) -> list[Document]:
        rules: list[Document] = []
        token: dict[str, str] = {}
        while True:
            page = self.call_bus("ListRules", EventBusName=bus, **token)
            rules += page.get("Rules", [])
            if not page.get("NextToken"):
                return rules
            token = {"NextToken": page["NextToken"]}

    def list_schedules(self) -> Iterator[Document]:
        query: dict[str, str] = {}
        while True:
            answer = self._transport.send("GET", "/schedules", query=query, service="scheduler")
            page = json.loads(answer.body)
            yield from page.get("Schedules", [])
            if not page.get("NextToken"):
                return
            query = {"NextToken": page["NextToken"]}

    def list_hooks(self) -> list[Document]:
        return cast("list[Document]", self._json("GET", "/_lambent/hook-settings")["hooks"])

    def put_hook(self, name: str, settings: Mapping[str, Any]) -> Document:
        """Make or change a hook. The answer has its `secret` when one was made up."""
        return self._json("PUT", f"/_lambent/hook-settings/{_segment(name)}", dict(settings))

    def delete_hook(self, name: str) -> None:
        self._transport.send("DELETE", f"/_lambent/hook-settings/{_segment(name)}")

    def list_events(self, chosen: Mapping[str, str]) -> list[Document]:
        """Asynchronous events, the newest first; `chosen` has function, state, since (seconds), error, limit."""
        return cast("list[Document]", self._json("GET", "/_lambent/events", query=chosen)["events"])

    def get_event(self, request_id: str) -> Document:
        """With its payload and the history of its attempts."""
        return self._json("GET", f"/_lambent/events/{_segment(request_id)}")

    def redrive_events(self, chosen: Document) -> int:
        """Ended events run again, at `to` when given. Returns how many."""
        return cast(int, self._json("POST", "/_lambent/events/redrive", chosen)["events"])

    def drop_events(self, chosen: Document) -> int:
        return cast(int, self._json("POST", "/_lambent/events/drop", chosen)["events"])

    def status(self) -> Status:
        return cast(Status, self._json("GET", "/_lambent/status"))

    def runtimes(self) -> list[RuntimeStatus]:
        return cast("list[RuntimeStatus]", self._json("GET", "/_lambent/runtimes")["runtimes"])

    def health(self) -> Document:
        """Of the node; needs no credentials."""
        answer = self._transport.send("GET", "/health", timeout_s=_PROBE_TIMEOUT_S)
        return cast(Document, json.loads(answer.body))

    def _json(
        self, method: str, path: str, body: Document | None = None, *, query: Mapping[str, str] | None = None
    ) -> Document:
        data = b"" if body is None else json.dumps(body).encode()
        answer = self._transport.send(method, path, query=query, headers=_JSON if data else None, body=data)
        return cast(Document, json.loads(answer.body or b"{}"))

    def _call(self, service: str, prefix: str, version: str, operation: str, parameters: Mapping[str, Any]) -> Document:
        """In the protocol `json`, where the operation is a header."""
        headers = {"content-type": f"application/x-amz-json-{version}", "x-amz-target": f"{prefix}.{operation}"}
        body = json.dumps(dict(parameters)).encode()
        answer = self._transport.send("POST", "/", headers=headers, body=body, service=service)
        return cast(Document, json.loads(answer.body or b"{}"))

    def _pages(self, path: str, member: str) -> Iterator[Document]:
        query: dict[str, str] = {}
        while True:
            page = self._json("GET", path, query=query)
            yield from page.get(member, [])
            marker = page.get("NextMarker")
            if not marker:
                return
            query = {"Marker": marker}


def _segment(text: str) -> str:
    return quote(text, safe="")


def _qualify(qualifier: str) -> dict[str, str]:
    return {"Qualifier": qualifier} if qualifier else {}

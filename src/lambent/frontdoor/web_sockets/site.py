"""WebSocket APIs: a function for each kind of message, and a way back to each client by its connection's id.

Source: API Gateway developer guide, "WebSocket APIs". The messages of one connection begin in the order in which they
came; up to eight of them are with functions at a time, and no more is read of the client meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from lambent.awsapi.asgi import Receive, Send
from lambent.frontdoor.access_logs import AccessLog, AccessWriter, find_in, read_access_log
from lambent.frontdoor.authorizers import iam
from lambent.frontdoor.authorizers.decision import Allowed, Forbidden, Unauthorized
from lambent.frontdoor.authorizers.functions import AuthorizerFailed, flatten_context, read_verdict
from lambent.frontdoor.authorizers.iam import Authenticator
from lambent.frontdoor.authorizers.identity_sources import read_sources
from lambent.frontdoor.call import HttpAnswer, HttpCall, answer_json
from lambent.frontdoor.door import read_call
from lambent.frontdoor.functions import EventTooLarge, Functions, TimedOut
from lambent.frontdoor.http_apis.directory import ApiDirectory
from lambent.frontdoor.http_apis.model import WEBSOCKET, Api, Configuration, Members
from lambent.frontdoor.http_apis.parameters import Variables
from lambent.frontdoor.http_apis.stage_variables import fill
from lambent.frontdoor.http_apis.stages import ACCESS_LOG
from lambent.frontdoor.place import APIS, Place
from lambent.frontdoor.references import function_reference
from lambent.frontdoor.throttling import Throttle
from lambent.frontdoor.web_sockets import events
from lambent.frontdoor.web_sockets.connections import (
    MAX_MESSAGE_BYTES,
    Command,
    Connection,
    Connections,
    show_time,
)
from lambent.model.errors import CallerError, PlatformError
from lambent.model.invocation import Outcome

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]

CONNECT, DISCONNECT, DEFAULT = "$connect", "$disconnect", "$default"
AT_A_TIME = 8
AUTHORIZER_MS = 10_000
_CONNECTIONS = "/@connections/"
_ABNORMAL = 1006
ABORT = "lambent.abort"
"""The extension of the scope by which the server gives the way to end a connection at once."""


class Lifetime(msgspec.Struct, frozen=True, kw_only=True):
    """The contract's quotas."""

    idle_s: float = 600.0
    longest_s: float = 7_200.0


class _Stage(NamedTuple):
    api: Api
    name: str
    configuration: Configuration

    @property
    def members(self) -> Members:
        return self.api.stages[self.name]

    @property
    def variables(self) -> Mapping[str, str]:
        return self.members.get("StageVariables") or {}

    @property
    def access(self) -> AccessLog | None:
        given = self.members.get("AccessLogSettings")
        return read_access_log(given, api_id=self.api.api_id, stage=self.name, **ACCESS_LOG) if given else None

    def route(self, key: str) -> Members | None:
        return next((route for route in self.configuration.routes.values() if route["RouteKey"] == key), None)

    @property
    def arn(self) -> str:
        return f"arn:aws:execute-api:{self.api.region}:{self.api.account}:{self.api.api_id}/{self.name}"


class Failed(Exception):
    """What stands behind a route failed; `status` is what a handshake is answered with."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class WebSocketApis:
    """Implements the door's `WebSocketSite`, and its `Site` for `@connections`."""

    max_body_bytes = MAX_MESSAGE_BYTES + 65_536

    def __init__(
        self,
        directory: ApiDirectory,
        *,
        functions: Functions,
        authenticator: Authenticator,
        connections: Connections,
        access: AccessWriter,
        throttle: Throttle | None = None,
        lifetime: Lifetime | None = None,
    ) -> None:
        self._directory = directory
        self._functions = functions
        self._authenticator = authenticator
        self._connections = connections
        self._access = access
        self._throttle = throttle or Throttle()
        self._lifetime = lifetime or Lifetime()

    def has(self, place: Place) -> bool:
        api = self._directory.find(place.id)
        return place.kind == APIS and api is not None and api.protocol == WEBSOCKET

    # The management of connections

    async def answer(self, place: Place, call: HttpCall) -> HttpAnswer:
        """PostToConnection, GetConnection, DeleteConnection."""
        api = self._directory.find(place.id)
        stage, slash, rest = call.raw_path.decode("latin-1")[1:].partition("/")
        if place.stage is not None:
            stage, slash, rest = place.stage, "/", call.raw_path.decode("latin-1")[1:]
        if api is None or stage not in api.stages or not (slash + rest).startswith(_CONNECTIONS):
            return answer_json(403, b'{"message":"Forbidden"}')
        try:
            iam.authorize(self._authenticator, call, service="execute-api", account=api.account)
        except Forbidden as exc:
            return _fail("ForbiddenException", str(exc) or "Forbidden", 403)
        id_ = unquote(rest.removeprefix(_CONNECTIONS[1:]))
        kinds = {"POST": "post", "GET": "get", "DELETE": "delete"}
        if call.method not in kinds:
            return _fail("ForbiddenException", "The method is none of POST, GET and DELETE.", 403)
        if call.method == "POST" and len(call.body) > MAX_MESSAGE_BYTES:
            return _fail("PayloadTooLargeException", f"A message may have {MAX_MESSAGE_BYTES} bytes.", 413)
        command = Command(kind=kinds[call.method], id=id_, api_id=api.api_id, stage=stage, data=call.body)
        try:
            known = await self._connections.carry_out(command)
        except CallerError as exc:
            return _fail(exc.code, exc.message, exc.status)
        if known is None:
            return HttpAnswer(status=204 if call.method == "DELETE" else 200)
        shown = {
            "connectedAt": show_time(known.connected_at_ms),
            "lastActiveAt": show_time(known.last_active_at_ms),
            "identity": {"sourceIp": known.source_ip, "userAgent": known.user_agent},
        }
        return answer_json(200, msgspec.json.encode(shown))

    # Connections

    async def serve(self, place: Place, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        call = read_call(scope, place, b"")
        stage = self._find_stage(place, call)
        if stage is None:
            await _reject(send, 403, b'{"message":"Forbidden"}')
            return
        connection = Connection(
            self._connections.make_id(),
            stage.api.api_id,
            stage.name,
            send,
            source_ip=call.source_ip,
            user_agent=call.header("user-agent") or "",
            abort=(scope.get("extensions") or {}).get(ABORT, lambda: None),
        )
        try:
            allowed, headers = await self._connect(stage, connection, call)
        except Failed as exc:
            self.note(stage, events.build_context(connection, call, kind="CONNECT", route=CONNECT), exc.status)
            await _reject(send, exc.status, _explain_status(exc.status))
            return
        context = events.build_context(connection, call, kind="CONNECT", route=CONNECT, authorizer=allowed.context)
        self.note(stage, context, 200)
        client = _Client(self, stage, connection, call, allowed)
        await client.run(headers, receive, send)

    def _find_stage(self, place: Place, call: HttpCall) -> _Stage | None:
        api = self._directory.find(place.id)
        name = place.stage if place.stage is not None else call.raw_path.decode("latin-1").strip("/")
        configuration = api.served(name) if api is not None else None
        return _Stage(api, name, configuration) if api is not None and configuration is not None else None

    async def _connect(
        self, stage: _Stage, connection: Connection, call: HttpCall
    ) -> tuple[Allowed, list[tuple[bytes, bytes]]]:
        """Who it is, and the headers of the handshake. Raises Failed."""
        route = stage.route(CONNECT)
        if route is None:
            return Allowed(context={}), []
        if not self.passes(stage, CONNECT):
            raise Failed(429)
        try:
            allowed = await self._authorize(stage, route, connection, call)
        except Unauthorized as exc:
            raise Failed(401) from exc
        except Forbidden as exc:
            raise Failed(403) from exc
        except AuthorizerFailed as exc:
            raise Failed(500) from exc
        context = events.build_context(connection, call, kind="CONNECT", route=CONNECT, authorizer=allowed.context)
        outcome = await self.invoke(stage, route, events.build_connect(context, call, stage.variables), call.trace_id)
        return allowed, _read_handshake(outcome)

    async def _authorize(self, stage: _Stage, route: Members, connection: Connection, call: HttpCall) -> Allowed:
        kind = route.get("AuthorizationType", "NONE")
        if kind == "NONE":
            return Allowed(context={})
        if kind == "AWS_IAM":
            allowed = iam.authorize(self._authenticator, call, service="execute-api", account=stage.api.account)
            return Allowed(context={"principalId": allowed.account_id}, account_id=allowed.account_id)
        authorizer = stage.configuration.authorizers.get(route.get("AuthorizerId", ""))
        if authorizer is None:
            raise AuthorizerFailed("the route's authorizer is not there")
        sources = authorizer.get("IdentitySource") or []
        if read_sources(sources, call, context={}, stage_variables=stage.variables) is None:
            raise Unauthorized
        context = events.build_context(connection, call, kind="CONNECT", route=CONNECT, authorizer={})
        event = {
            **events.build_connect(context, call, stage.variables),
            "type": "REQUEST",
            "methodArn": f"{stage.arn}/{CONNECT}",
        }
        arn = fill(function_reference(authorizer["AuthorizerUri"]), stage.variables)
        try:
            outcome = await self._functions.invoke(
                stage.api.account, arn, event, timeout_ms=AUTHORIZER_MS, trace_id=call.trace_id
            )
        except (CallerError, PlatformError, EventTooLarge, TimedOut) as exc:
            raise AuthorizerFailed("the authorizer was not invoked") from exc
        if outcome.function_error:
            if b'"Unauthorized"' in outcome.payload:
                raise Unauthorized
            raise AuthorizerFailed("the authorizer failed")
        verdict = read_verdict(outcome.payload, simple=False)
        verdict.check(f"{stage.arn}/{CONNECT}")
        return Allowed(context={"principalId": verdict.principal_id, **flatten_context(verdict.context)})

    def passes(self, stage: _Stage, key: str) -> bool:
        return self._throttle.passes(stage.members, (stage.api.api_id, stage.name), key)

    async def invoke(self, stage: _Stage, route: Members, event: dict[str, Any], trace_id: str) -> Outcome | None:
        """What the route's function answered; None for a route without one. Raises Failed."""
        target = route.get("Target", "").partition("/")[2]
        integration = stage.configuration.integrations.get(target)
        if integration is None or integration["IntegrationType"] == "MOCK":
            return None
        if integration["IntegrationType"] != "AWS_PROXY":
            raise Failed(501)
        try:
            outcome = await self._functions.invoke(
                stage.api.account,
                fill(function_reference(integration["IntegrationUri"]), stage.variables),
                event,
                timeout_ms=integration.get("TimeoutInMillis", 29_000),
                trace_id=trace_id,
            )
        except (EventTooLarge, PlatformError) as exc:
            raise Failed(500) from exc
        except TimedOut as exc:
            raise Failed(504) from exc
        except CallerError as exc:
            raise Failed(429 if exc.code == "TooManyRequestsException" else 500) from exc
        if outcome.function_error:
            raise Failed(502)
        return outcome

    def note(self, stage: _Stage, context: Mapping[str, Any], status: int, error: str = "") -> None:
        """A line of the stage's access log, if it has one."""
        access = stage.access
        if access is None:
            return
        account = stage.api.account
        facts = {"status": status, "accountId": account, "error.message": error, "protocol": "WEBSOCKET"}
        self._access.write(
            access,
            lambda name: facts[name] if name in facts else find_in(context, name),
            request_id=context["requestId"],
        )

    def open(self, connection: Connection) -> None:
        connection.is_open = True
        self._connections.add(connection)

    def close(self, connection: Connection) -> None:
        self._connections.remove(connection)

    @property
    def lifetime(self) -> Lifetime:
        return self._lifetime


class _Client:
    """The messages of one connection."""

    def __init__(
        self, site: WebSocketApis, stage: _Stage, connection: Connection, call: HttpCall, allowed: Allowed
    ) -> None:
        self._site = site
        self._stage = stage
        self._connection = connection
        self._call = call
        self._authorizer = allowed.context
        self._room = asyncio.Semaphore(AT_A_TIME)
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, headers: list[tuple[bytes, bytes]], receive: Receive, send: Send) -> None:
        protocol = next((value.decode("latin-1") for name, value in headers if name == b"sec-websocket-protocol"), None)
        kept = [pair for pair in headers if pair[0] != b"sec-websocket-protocol"]
        await send({"type": "websocket.accept", "subprotocol": protocol, "headers": kept})
        self._site.open(self._connection)
        code, reason = _ABNORMAL, ""
        try:
            code, reason = await self._read(receive)
        finally:
            self._site.close(self._connection)
            if self._running:
                await asyncio.wait(self._running)
            await self._say_goodbye(code, reason)

    async def _read(self, receive: Receive) -> tuple[int, str]:
        """Until it ends, from whichever side. Returns the code and the reason."""
        lifetime = self._site.lifetime
        ends_at = time.monotonic() + lifetime.longest_s
        while True:
            wait_s = min(lifetime.idle_s, ends_at - time.monotonic())
            try:
                async with asyncio.timeout(wait_s):
                    message = await receive()
            except TimeoutError:
                await self._connection.close(1001, "Going away")
                return 1001, "Idle for too long" if wait_s == lifetime.idle_s else "Open for too long"
            if message["type"] == "websocket.disconnect":
                return message.get("code") or 1005, message.get("reason") or ""
            if message["type"] == "websocket.receive":
                await self._begin(message)

    async def _begin(self, message: Mapping[str, Any]) -> None:
        """Begins in order, and waits for room."""
        self._connection.touch()
        await self._room.acquire()
        text = message.get("text")
        data = text if text is not None else message.get("bytes") or b""
        task = asyncio.create_task(self._serve(data), name=f"message of {self._connection.id}")
        self._running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._room.release()
        if not task.cancelled() and task.exception() is not None:
            log.error("message failed", extra={"action": "message_failed"}, exc_info=task.exception())

    async def _serve(self, data: str | bytes) -> None:
        key, route = self._select(data)
        context = events.build_context(
            self._connection, self._call, kind="MESSAGE", route=key, authorizer=self._authorizer
        )
        if route is None:
            await self._complain("Forbidden", context, 403)
            return
        if not self._site.passes(self._stage, key):
            await self._complain("Too Many Requests", context, 429)
            return
        event = events.build_message(context, data, self._stage.variables)
        try:
            outcome = await self._site.invoke(self._stage, route, event, self._call.trace_id)
        except Failed as exc:
            message = "Endpoint request timed out" if exc.status == 504 else "Internal server error"
            await self._complain(message, context, exc.status)
            return
        self._site.note(self._stage, context, 200)
        responses = self._stage.configuration.route_responses.get(route["RouteId"])
        if outcome is not None and responses and route.get("RouteResponseSelectionExpression"):
            await self._send(_read_reply(outcome.payload))

    def _select(self, data: str | bytes) -> tuple[str, Members | None]:
        body = data.encode() if isinstance(data, str) else data
        variables = Variables(
            call=msgspec.structs.replace(self._call, body=body),
            path_parameters={},
            context={},
            stage_variables=self._stage.variables,
        )
        key = variables.fill(self._stage.api.settings["RouteSelectionExpression"])
        if key and not key.startswith("$") and (route := self._stage.route(key)) is not None:
            return key, route
        return DEFAULT, self._stage.route(DEFAULT)

    async def _complain(self, message: str, context: Mapping[str, Any], status: int) -> None:
        self._site.note(self._stage, context, status, message)
        document = {"message": message, "connectionId": self._connection.id, "requestId": context["requestId"]}
        await self._send(msgspec.json.encode(document))

    async def _send(self, data: bytes) -> None:
        try:
            await self._connection.send(data)
        except CallerError:
            # Whoever left needs no answer.
            return

    async def _say_goodbye(self, code: int, reason: str) -> None:
        route = self._stage.route(DISCONNECT)
        if route is None:
            return
        context = events.build_context(
            self._connection, self._call, kind="DISCONNECT", route=DISCONNECT, authorizer=self._authorizer
        )
        event = events.build_disconnect(context, code, reason, self._call, self._stage.variables)
        try:
            await self._site.invoke(self._stage, route, event, self._call.trace_id)
            self._site.note(self._stage, context, 200)
        except Failed as exc:
            self._site.note(self._stage, context, exc.status)
            log.warning(
                "$disconnect failed",
                extra={"action": "disconnect_failed", "api": self._stage.api.api_id, "status": exc.status},
            )


def _read_handshake(outcome: Outcome | None) -> list[tuple[bytes, bytes]]:
    """The headers of an answer that accepts. Raises Failed for one that does not."""
    if outcome is None:
        return []
    try:
        answer = msgspec.json.decode(outcome.payload)
    except ValueError as exc:
        raise Failed(502) from exc
    if not isinstance(answer, dict):
        raise Failed(502)
    status = answer.get("statusCode", 200)
    if not isinstance(status, int) or isinstance(status, bool):
        raise Failed(502)
    if not 200 <= status < 300:
        raise Failed(status if 400 <= status <= 599 else 502)
    headers = answer.get("headers") or {}
    return [
        (name.lower().encode("latin-1"), str(value).encode("latin-1", "replace"))
        for name, value in headers.items()
        if name.lower() == "sec-websocket-protocol"
    ]


def _read_reply(payload: bytes) -> bytes:
    """The body of a function's answer, else the answer."""
    try:
        answer = msgspec.json.decode(payload)
    except ValueError:
        return payload
    if isinstance(answer, dict) and "statusCode" in answer:
        body = answer.get("body")
        return body.encode() if isinstance(body, str) else msgspec.json.encode(body) if body is not None else b""
    return payload


def _explain_status(status: int) -> bytes:
    texts = {401: "Unauthorized", 403: "Forbidden", 429: "Too Many Requests"}
    return msgspec.json.encode({"message": texts.get(status, "Internal server error")})


async def _reject(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


def _fail(code: str, message: str, status: int) -> HttpAnswer:
    return answer_json(status, msgspec.json.encode({"message": message}), [("x-amzn-errortype", code)])

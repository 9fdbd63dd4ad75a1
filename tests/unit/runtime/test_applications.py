"""Web applications as they are, served from events: real frameworks, and events as the contract has them."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import types
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings as django_settings
from fastapi import FastAPI, Form, Request, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse
from flask import Flask
from flask import request as flask_request
from litestar import Litestar, get

from lambent.dataplane.runtime import handler as handlers
from lambent.dataplane.runtime.applications.asgi import AsgiHandler, LifespanFailed
from lambent.dataplane.runtime.applications.recognition import adapt
from lambent.dataplane.runtime.applications.requests import NotHttp
from lambent.dataplane.runtime.applications.wsgi import WsgiHandler
from lambent.dataplane.runtime.streaming import SEPARATOR, ResponseWriter
from lambent.dataplane.wire import frames
from lambent.frontdoor.call import HttpCall
from lambent.frontdoor.payloads import v1, v2

PNG = bytes(range(256))


class Context:
    """What of an invocation's context adapters use."""

    def __init__(self, sock: socket.socket | None = None) -> None:
        self.streams_response = sock is not None
        self._sock = sock

    def response_stream(self) -> ResponseWriter:
        assert self._sock is not None
        return ResponseWriter(self._sock, streams=True)


def call(method: str = "GET", path: str = "/", *, query: str = "", body: bytes = b"", **headers: str) -> HttpCall:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return HttpCall(
        method=method,
        raw_path=path.encode(),
        query_string=query.encode(),
        headers=[(b"host", b"shop.example:8443"), *pairs],
        body=body,
        host="shop.example",
        port=8443,
        source_ip="192.0.2.1",
        scheme="https",
        request_id="r1",
        received_at_ms=1,
    )


def second(given: HttpCall, *, stage: str = "$default") -> dict[str, Any]:
    """As a function URL hands it on: the path as it came."""
    prefix = "" if stage == "$default" else f"/{stage}"
    return v2.build_event(
        given, path=prefix + given.raw_path.decode(), stage=stage, api_id="a", account_id="1", domain_name="d.e"
    )


def first(given: HttpCall) -> dict[str, Any]:
    return v1.build_event(
        given, path=given.path, resource="/{proxy+}", stage="prod", api_id="a", account_id="1", domain_name="d.e"
    )


def serve(application: Any, event: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    document = json.loads(json.dumps(application(json.loads(json.dumps(event)), Context())))
    headers = document.get("headers") or {
        name: values[0] for name, values in document.get("multiValueHeaders", {}).items()
    }
    body = base64.b64decode(document["body"]) if document["isBase64Encoded"] else document["body"].encode()
    return document["statusCode"], headers, body


@pytest.fixture
def adapted() -> Iterator[Callable[[Any], Any]]:
    """Adapts and starts applications, and closes their loops."""
    made: list[Any] = []

    def adapt_and_start(app: Any) -> Any:
        application = adapt(app)
        assert application is not None
        made.append(application)
        application.startup()
        return application

    yield adapt_and_start
    for application in made:
        loop = getattr(application, "_loop", None)
        if loop is not None:
            for task in asyncio.all_tasks(loop):
                task.cancel()
                loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
            loop.close()
    asyncio.set_event_loop(None)


def make_fastapi() -> FastAPI:
    app = FastAPI()

    @app.get("/items/{name}")
    def item(name: str, tag: str = "") -> dict[str, str]:
        return {"name": name, "tag": tag}

    @app.post("/form")
    def form(who: str = Form()) -> JSONResponse:
        answer = JSONResponse({"who": who}, status_code=201)
        answer.set_cookie("a", "1")
        answer.set_cookie("b", "2")
        return answer

    @app.get("/image")
    def image() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield PNG[:100]
            yield PNG[100:]

        return StreamingResponse(pieces(), media_type="image/png")

    @app.post("/raw")
    async def raw(request: Request) -> dict[str, Any]:
        return {
            "size": len(await request.body()),
            "url": str(request.url),
            "client": request.client.host if request.client else None,
            "cookies": request.cookies,
            "aws": request.scope["aws.event"]["version"],
        }

    @app.get("/fails")
    def fails() -> None:
        raise ValueError("secret")

    @app.websocket("/ws")
    async def ws(_: WebSocket) -> None: ...

    return app


def test_a_fastapi_app_serves_events_of_both_formats(adapted: Callable[[Any], Any]) -> None:
    app = adapted(make_fastapi())
    given = call("GET", "/items/a%20b", query="tag=x%26y")
    for event in (second(given), first(given)):
        assert serve(app, event)[2] == b'{"name":"a b","tag":"x&y"}'
    form = call("POST", "/form", body=b"who=me", content_type="application/x-www-form-urlencoded")
    document = app(second(form), Context())
    assert document["statusCode"] == 201
    assert [cookie.split(";")[0] for cookie in document["cookies"]] == ["a=1", "b=2"]
    assert "set-cookie" not in document["headers"]
    assert len(app(first(form), Context())["multiValueHeaders"]["set-cookie"]) == 2


def test_bodies_that_are_no_text_go_both_ways(adapted: Callable[[Any], Any]) -> None:
    app = adapted(make_fastapi())
    status, headers, body = serve(app, second(call(path="/image")))
    assert (status, headers["content-type"], body) == (200, "image/png", PNG)
    raw = call("POST", "/raw", body=PNG, content_type="application/octet-stream", cookie="one=1; two=2")
    seen = json.loads(serve(app, second(raw))[2])
    assert seen == {
        "size": 256,
        "url": "https://shop.example:8443/raw",
        "client": "192.0.2.1",
        "cookies": {"one": "1", "two": "2"},
        "aws": "2.0",
    }


def test_an_exception_before_the_answer_is_a_500_and_goes_to_the_log(
    adapted: Callable[[Any], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, body = serve(adapted(make_fastapi()), second(call(path="/fails")))
    assert (status, body) == (500, b"Internal Server Error")
    assert "ValueError: secret" in capsys.readouterr().err


def test_a_stage_in_the_address_is_the_root_path(adapted: Callable[[Any], Any]) -> None:
    app = adapted(make_fastapi())
    given = call("GET", "/items/a")
    assert serve(app, second(given, stage="dev"))[0] == 200
    event = first(given)
    event["requestContext"]["path"] = "/prod/items/a"
    assert serve(app, event)[0] == 200


def test_head_has_no_body(adapted: Callable[[Any], Any]) -> None:
    app = Flask("test")
    app.get("/")(lambda: "hello")
    status, headers, body = serve(adapted(app), second(call("HEAD", "/")))
    assert (status, headers["content-length"], body) == (200, "5", b"")


def test_the_lifespan_runs_once_and_its_state_reaches_every_request(adapted: Callable[[Any], Any]) -> None:
    events = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            events.append((await receive())["type"])
            scope["state"]["pool"] = "open"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["state"]["pool"].encode()})

    application = adapted(app)
    for _ in range(2):
        assert serve(application, second(call()))[2] == b"open"
    assert events == ["lifespan.startup"]


def test_a_lifespan_that_fails_fails_the_start(adapted: Callable[[Any], Any]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(LifespanFailed, match="no database"):
        adapted(app)


def test_an_answer_is_streamed_to_whoever_reads_it_so(adapted: Callable[[Any], Any]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert adapted(make_fastapi())(second(call(path="/image")), Context(theirs)) is None
        theirs.close()
        data = b""
        while piece := ours.recv(65_536):
            data += piece
    kinds, bodies = [], []
    while data:
        kind, length = frames.HEAD.unpack_from(data)
        kinds.append(kind)
        bodies.append(data[frames.HEAD.size : frames.HEAD.size + length])
        data = data[frames.HEAD.size + length :]
    assert kinds == [frames.BEGIN, frames.PIECE, frames.PIECE, frames.PIECE]
    head = json.loads(bodies[1].removesuffix(SEPARATOR))
    assert (head["statusCode"], head["headers"]["content-type"]) == (200, "image/png")
    assert bodies[2] + bodies[3] == PNG


def test_litestar_and_second_version_applications_are_recognised(adapted: Callable[[Any], Any]) -> None:
    @get("/")
    async def index() -> str:
        return "litestar"

    assert serve(adapted(Litestar([index])), second(call()))[2] == b"litestar"

    class Second:
        def __init__(self, scope: Any) -> None:
            self.scope = scope

        async def __call__(self, receive: Any, send: Any) -> None:
            if self.scope["type"] != "http":
                raise ValueError(self.scope["type"])
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    assert serve(adapted(Second), second(call()))[0] == 204


def test_a_flask_app_is_served_as_wsgi(adapted: Callable[[Any], Any]) -> None:
    app = Flask("test")

    @app.post("/ö/<name>")
    def show(name: str) -> Any:
        return {
            "name": name,
            "args": flask_request.args.getlist("a"),
            "form": flask_request.form.get("who"),
            "host": flask_request.host,
            "agent": flask_request.headers["User-Agent"],
            "remote": flask_request.remote_addr,
        }

    application = adapted(app)
    assert isinstance(application, WsgiHandler)
    given = call(
        "POST",
        "/%C3%B6/x",
        query="a=1&a=2",
        body=b"who=me",
        content_type="application/x-www-form-urlencoded",
        user_agent="t",
    )
    for event in (second(given), first(given)):
        assert json.loads(serve(application, event)[2]) == {
            "name": "x",
            "args": ["1", "2"],
            "form": "me",
            "host": "shop.example:8443",
            "agent": "t",
            "remote": "192.0.2.1",
        }


def test_a_wsgi_app_may_write_start_again_on_an_error_and_is_closed(adapted: Callable[[Any], Any]) -> None:
    closed = []

    class Pieces:
        def __iter__(self) -> Iterator[bytes]:
            yield b"b"

        def close(self) -> None:
            closed.append(True)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        if environ["PATH_INFO"] == "/again":
            try:
                raise ValueError
            except ValueError as exc:
                start_response("409 Conflict", [("Content-Type", "text/plain")], (type(exc), exc, exc.__traceback__))
        if environ["PATH_INFO"] == "/twice":
            start_response("200 OK", [])
        write(b"a")
        return Pieces()

    application = adapted(app)
    assert serve(application, second(call()))[::2] == (200, b"ab")
    assert serve(application, second(call(path="/again")))[::2] == (409, b"ab")
    assert serve(application, second(call(path="/twice")))[0] == 500
    assert closed == [True, True]


def test_django_is_served_both_ways(adapted: Callable[[Any], Any]) -> None:
    from django.http import HttpRequest, HttpResponse
    from django.urls import path

    urls = types.ModuleType("test_urls")

    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(f"{request.method} {request.path} {request.GET.get('a')}")

    urls.urlpatterns = [path("page/", view)]  # type: ignore[attr-defined]
    if not django_settings.configured:
        django_settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=urls, SECRET_KEY="x", LOGGING_CONFIG=None)
        django.setup()
    from django.core.asgi import get_asgi_application
    from django.core.wsgi import get_wsgi_application

    asgi, wsgi = adapted(get_asgi_application()), adapted(get_wsgi_application())
    assert isinstance(asgi, AsgiHandler)
    for application in (asgi, wsgi):
        assert serve(application, second(call(path="/page/", query="a=1")))[2] == b"GET /page/ 1"


def test_an_event_of_no_request_is_refused(adapted: Callable[[Any], Any]) -> None:
    application = adapted(make_fastapi())
    events: list[Any] = [{}, [], {"Records": []}, {"version": "2.0"}]
    for event in events:
        with pytest.raises(NotHttp):
            application(event, Context())


def test_applications_are_named_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_main.py").write_text(
        "def make():\n    return wsgi\n"
        "def wsgi(environ, start_response):\n    start_response('200 OK', [])\n    return [b'x']\n"
        "class holder:\n    app = staticmethod(wsgi)\nnumber = 7\n"
        "async def broken(scope, receive, send):\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for reference in ("shop_main:wsgi", "shop_main:holder.app", "shop_main:make()"):
        assert serve(handlers.load_handler(reference), second(call()))[2] == b"x"
    for reference, error_type, message in (
        ("shop_main:none", "Runtime.HandlerNotFound", "missing on module"),
        ("shop_main:number", "Runtime.HandlerNotFound", "no application that Lambent knows"),
        ("nowhere:app", "Runtime.ImportModuleError", "nowhere"),
        ("shop_main:broken", "LifespanFailed", "no database"),
    ):
        with pytest.raises(handlers.HandlerNotLoaded, match=message) as failed:
            handlers.load_handler(reference)
        assert failed.value.fault.error_type == error_type
    asyncio.set_event_loop(None)

"""Applications of Azure Functions' Python v2 model, unmodified: its real package, events of the contract."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest
from tests.unit.runtime.test_applications import Context, call, first, second, serve

from lambent.dataplane.runtime.applications import azure
from lambent.dataplane.runtime.applications.azure import AzureHandler, NoSuchFunction
from lambent.dataplane.runtime.applications.recognition import adapt


class Invocation(Context):
    aws_request_id = "r1"


class Cloud:
    """Queues and buckets that remember."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.objects: dict[tuple[str, str], bytes] = {}

    def get_queue_url(self, QueueName: str) -> dict[str, str]:  # noqa: N803 - the contract's name
        return {"QueueUrl": f"http://q/{QueueName}"}

    def send_message(self, QueueUrl: str, MessageBody: str) -> None:  # noqa: N803
        self.sent.append((QueueUrl, MessageBody))

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        return {"Body": io.BytesIO(self.objects[Bucket, Key])}

    def put_object(self, Bucket: str, Key: str, Body: bytes) -> None:  # noqa: N803
        self.objects[Bucket, Key] = Body


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Cloud:
    made = Cloud()
    monkeypatch.setattr(azure, "_connect", lambda _service: made)
    return made


def make(app: Any) -> AzureHandler:
    handler = adapt(app)
    assert isinstance(handler, AzureHandler)
    handler.startup()
    return handler


def message(queue: str, body: str) -> dict[str, Any]:
    return {
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:us-east-1:1:{queue}",
        "messageId": "m1",
        "receiptHandle": "h",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "2", "SentTimestamp": "1700000000000"},
    }


def test_http_triggers_are_served_by_their_routes() -> None:
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    @app.route(route="items/{id:int}", methods=["GET", "POST"])
    def item(req: func.HttpRequest) -> func.HttpResponse:
        told = {"id": req.route_params["id"], "q": req.params.get("q"), "body": req.get_body().decode(), "url": req.url}
        return func.HttpResponse(json.dumps(told), status_code=201, mimetype="application/json", headers={"x-a": "1"})

    @app.route(route="items/special")
    async def special(req: func.HttpRequest) -> str:
        return "special"

    @app.function_name(name="plain")
    @app.route()
    def unnamed(req: func.HttpRequest, context: func.Context) -> str:
        return f"{context.function_name} {context.invocation_id}"

    @app.route(route="files/{*path}")
    def files(req: func.HttpRequest) -> str:
        return str(req.route_params.get("path", "none"))

    @app.route(route="broken")
    def broken(req: func.HttpRequest) -> str:
        raise RuntimeError("no luck")

    handler = make(app)
    given = call("POST", "/api/items/5", query="q=%2B", body=b"x")
    for event in (first(given), second(given)):
        document = json.loads(json.dumps(handler(event, Invocation())))
        assert document["statusCode"] == 201
        assert json.loads(document["body"])["id"] == "5"
    _, headers, body = serve(handler, second(given))
    assert (headers["content-type"], headers["x-a"]) == ("application/json; charset=utf-8", "1")
    assert json.loads(body) == {
        "id": "5",
        "q": "+",
        "body": "x",
        "url": "https://shop.example:8443/api/items/5?q=%2B",
    }

    def ask(method: str, path: str) -> tuple[int, bytes]:
        document = handler(second(call(method, path)), Invocation())
        return document["statusCode"], document["body"].encode()

    assert ask("GET", "/api/Items/special") == (200, b"special")
    assert ask("GET", "/api/plain") == (200, b"plain r1")
    assert ask("GET", "/api/files/a/b%20c") == (200, b"a/b c")
    assert ask("GET", "/api/files") == (200, b"none")
    assert ask("PUT", "/api/items/5")[0] == 405
    assert ask("GET", "/api/items/five")[0] == 404
    assert ask("GET", "/items/5")[0] == 404
    assert ask("GET", "/api/broken") == (500, b"")
    handler._loop.close()


def test_functions_that_are_not_anonymous_want_their_key(monkeypatch: pytest.MonkeyPatch) -> None:
    app = func.FunctionApp()

    @app.route(route="a")
    def a(req: func.HttpRequest) -> str:
        return "in"

    handler = make(app)
    assert serve(handler, second(call(path="/api/a")))[0] == 401
    monkeypatch.setenv("FUNCTIONS_KEY", "secret")
    assert serve(handler, second(call(path="/api/a")))[0] == 401
    assert serve(handler, second(call(path="/api/a", query="code=wrong")))[0] == 401
    assert serve(handler, second(call(path="/api/a", query="code=secret")))[2] == b"in"
    assert serve(handler, second(call(path="/api/a", x_functions_key="secret")))[2] == b"in"
    signed = second(call(path="/api/a"))
    signed["requestContext"]["authorizer"] = {"iam": {"userId": "u"}}
    assert serve(handler, signed)[2] == b"in"


def test_the_prefix_is_that_of_host_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBDA_TASK_ROOT", str(tmp_path))
    (tmp_path / "host.json").write_text('{"extensions": {"http": {"routePrefix": ""}}}')
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    @app.route(route="a")
    def a(req: func.HttpRequest) -> None:
        return None

    assert serve(make(app), second(call(path="/a")))[0] == 204


def test_timers_are_run_by_schedules() -> None:
    ran: list[tuple[str, bool]] = []

    def make_app() -> Any:
        app = func.FunctionApp()

        @app.timer_trigger(schedule="0 * * * * *", arg_name="timer")
        def clean(timer: func.TimerRequest) -> None:
            ran.append(("clean", timer.past_due))

        return app

    handler = make(make_app())
    handler({"detail-type": "Scheduled Event", "resources": ["arn:aws:events:us-east-1:1:rule/any"]}, Invocation())
    handler({}, Invocation())

    app = make_app()

    @app.schedule(schedule="0 0 * * * *", arg_name="timer")  # type: ignore[untyped-decorator]
    def report(timer: func.TimerRequest) -> None:
        ran.append(("report", timer.past_due))

    handler = make(app)
    handler({"resources": ["arn:aws:events:us-east-1:1:rule/report"]}, Invocation())
    handler({"function": "clean"}, Invocation())
    assert ran == [("clean", False), ("clean", False), ("report", False), ("clean", False)]
    with pytest.raises(NoSuchFunction, match="several timers"):
        handler({}, Invocation())


def test_queues_and_blobs_come_in_and_go_out(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUE", "jobs")
    app, got = func.FunctionApp(), []

    @app.queue_trigger(arg_name="msg", queue_name="%QUEUE%", connection="C")
    @app.queue_output(arg_name="out", queue_name="done", connection="C")
    @app.blob_output(arg_name="copy", path="copies/{name}.txt", connection="C")
    def work(msg: func.QueueMessage, out: func.Out[str], copy: func.Out[str]) -> None:
        got.append((msg.id, msg.get_json(), msg.dequeue_count))
        out.set("finished")
        copy.set("text")

    @app.blob_trigger(arg_name="blob", path="box/{name}.txt", connection="C")
    @app.blob_input(arg_name="other", path="others/{name}", connection="C")
    @app.queue_output(arg_name="$return", queue_name="seen", connection="C")
    def look(blob: func.InputStream, other: str) -> str:
        return f"{blob.name} {blob.length} {blob.read().decode()} {other}"

    handler = make(app)
    handler({"Records": [message("jobs", '{"name": "n"}')]}, Invocation())
    assert got == [("m1", {"name": "n"}, 2)]
    assert cloud.objects["copies", "n.txt"] == b"text"
    cloud.objects.update({("box", "a b.txt"): b"data", ("others", "a b"): b"more"})
    record = {"eventSource": "aws:s3", "s3": {"bucket": {"name": "box"}, "object": {"key": "a+b.txt"}}}
    handler({"Records": [record]}, Invocation())
    assert cloud.sent == [("http://q/done", "finished"), ("http://q/seen", "box/a b.txt 4 data more")]
    with pytest.raises(NoSuchFunction, match="queue others"):
        handler({"Records": [message("others", "")]}, Invocation())


def test_a_web_application_within_azures_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBDA_TASK_ROOT", str(tmp_path))
    (tmp_path / "host.json").write_text('{"extensions": {"http": {"routePrefix": ""}}}')

    def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["PATH_INFO"].encode()]

    handler = make(func.WsgiFunctionApp(app=wsgi, http_auth_level=func.AuthLevel.ANONYMOUS))
    document = handler(second(call(path="/a/b")), Invocation())
    assert (document["statusCode"], document["body"]) == (200, "/a/b")

"""Web applications deployed as they are: `main:app` as the handler, reached through function URLs of a real node."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any

import pytest
from tests.conftest import Deploy, Deployed, connect
from tests.integration.gateway.test_function_urls import Site

from lambent.testing.node import LambentNode
from lambent.testing.packages import collect_package

ASGI = """
import asyncio, json, os, time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if os.environ.get("BROKEN"):
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            return
        scope["state"]["started_by"] = os.getpid()
        scope["state"]["loop"] = id(asyncio.get_running_loop())
        await send({"type": "lifespan.startup.complete"})
        await receive()
    assert scope["type"] == "http"
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/pieces":
        for _ in range(2):
            await send({"type": "http.response.body", "body": f"{time.time()}\\n".encode(), "more_body": True})
            await asyncio.sleep(1)
        await send({"type": "http.response.body"})
        return
    message = await receive()
    same_loop = scope["state"]["loop"] == id(asyncio.get_running_loop())
    answer = {"path": scope["path"], "same_loop": same_loop, "size": len(message["body"])}
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
"""
FLASK = """
from flask import Flask, render_template_string, request
app = Flask(__name__)

@app.route("/hello/<name>", methods=["GET", "POST"])
def hello(name):
    return render_template_string("<p>{{ name }} {{ who }}</p>", name=name, who=request.form.get("who", ""))
"""


@pytest.fixture(scope="module")
def asgi(deploy: Deploy) -> Deployed:
    return deploy({"main.py": ASGI}, Handler="main:app", Timeout=10)


def test_an_asgi_application_is_served_with_its_lifespan(asgi: Deployed) -> None:
    site = Site(asgi)
    for _ in range(2):
        status, headers, body = site.ask("/a%20b", method="POST", body=b"x" * 10)
        assert (status, dict(headers)["content-type"]) == (200, "text/plain")
        assert json.loads(body) == {"path": "/a b", "same_loop": True, "size": 10}
    # Behind a URL that does not stream the pieces come together.
    assert len(site.ask("/pieces")[2].split()) == 2


def test_what_an_application_sends_in_pieces_leaves_in_pieces(deploy: Deploy) -> None:
    site = Site(deploy({"main.py": ASGI}, Handler="main:app", Timeout=10), InvokeMode="RESPONSE_STREAM")
    connection = site.open()
    connection.request("GET", "/pieces", headers={"Host": site.host})
    response = connection.getresponse()
    assert (response.status, response.getheader("content-type")) == (200, "text/plain")
    first = float(response.readline())
    first_at = time.time()
    second = float(response.read())
    assert first <= first_at < second
    connection.close()


def test_an_application_that_cannot_start_is_an_init_error(deploy: Deploy) -> None:
    function = deploy({"main.py": ASGI}, Handler="main:app", Environment={"Variables": {"BROKEN": "1"}})
    answer = function({"version": "2.0"})
    assert (answer.error, answer.payload["errorType"]) == ("Unhandled", "LifespanFailed")
    assert answer.payload["errorMessage"] == "no database"


def test_an_application_starts_anew_in_each_fork_of_a_template(deploy: Deploy) -> None:
    function = deploy({"main.py": ASGI}, Handler="main:app", SnapStart={"ApplyOn": "PublishedVersions"})
    client = function.client
    version = client.publish_version(FunctionName=function.name)["Version"]
    client.get_waiter("published_version_active").wait(FunctionName=function.name, Qualifier=version)
    client.create_alias(FunctionName=function.name, Name="live", FunctionVersion=version)
    site = Site(function, Qualifier="live", public=False)
    client.add_permission(
        FunctionName=function.name,
        Qualifier="live",
        StatementId="everybody",
        Action="lambda:InvokeFunctionUrl",
        Principal="*",
        FunctionUrlAuthType="NONE",
    )
    status, _, body = site.ask("/a")
    assert (status, json.loads(body)["same_loop"]) == (200, True)


def test_a_flask_application_with_its_packages_is_served(deploy: Deploy) -> None:
    files = collect_package("flask", "werkzeug", "jinja2", "markupsafe", "itsdangerous", "blinker", "click")
    site = Site(deploy({**files, "main.py": FLASK}, Handler="main:app", Timeout=10, MemorySize=256))
    form: dict[str, Any] = {"Content-Type": "application/x-www-form-urlencoded"}
    status, _, body = site.ask("/hello/%C3%B6", method="POST", body=b"who=me", headers=form)
    assert (status, body.decode()) == (200, "<p>ö me</p>")
    assert site.ask("/none")[0] == http.client.NOT_FOUND


GOOGLE = """
import functions_framework
from flask import Request

@functions_framework.http
def hello(request: Request):
    return {"path": request.path, "name": request.args.get("name")}
"""
AZURE = """
import azure.functions as func
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route(route="hello/{name}", methods=["POST"])
async def hello(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(req.route_params["name"] + req.get_body().decode())

@app.queue_trigger(arg_name="message", queue_name="azure-jobs", connection="ANY")
@app.queue_output(arg_name="done", queue_name="azure-done", connection="ANY")
def work(message: func.QueueMessage, done: func.Out[str]) -> None:
    done.set(message.get_body().decode() + " is done")
"""


def test_a_function_of_googles_framework_runs_unmodified(deploy: Deploy) -> None:
    files = collect_package(
        "functions-framework", "cloudevents", "deprecation", "packaging", "python-dateutil", "six", "flask", "werkzeug",
        "jinja2", "markupsafe", "itsdangerous", "blinker", "click", "watchdog",
    )  # fmt: skip
    site = Site(deploy({**files, "main.py": GOOGLE}, Handler="main:hello", Timeout=10, MemorySize=256))
    status, _, body = site.ask("/a?name=you")
    assert (status, json.loads(body)) == (200, {"path": "/a", "name": "you"})


def test_an_application_for_azure_runs_unmodified(deploy: Deploy, node: LambentNode) -> None:
    files = collect_package("azure-functions", "werkzeug", "markupsafe")
    function = deploy({**files, "function_app.py": AZURE}, Handler="function_app:app", Timeout=10, MemorySize=256)
    status, _, body = Site(function).ask("/api/hello/you", method="POST", body=b"!")
    assert (status, body) == (200, b"you!")
    sqs = connect(node, "sqs")
    jobs, done = (sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("azure-jobs", "azure-done"))
    arn = sqs.get_queue_attributes(QueueUrl=jobs, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    mapping = function.client.create_event_source_mapping(EventSourceArn=arn, FunctionName=function.name)
    sqs.send_message(QueueUrl=jobs, MessageBody="this")
    received = sqs.receive_message(QueueUrl=done, WaitTimeSeconds=20)
    function.client.delete_event_source_mapping(UUID=mapping["UUID"])
    assert [each["Body"] for each in received["Messages"]] == ["this is done"]


def test_a_folder_of_files_is_a_site(deploy: Deploy) -> None:
    files: dict[str, str | bytes] = {"site/index.html": "<h1>home</h1>", "site/photo.png": bytes(range(256))}
    site = Site(deploy(files, Handler="lambent_static:site"))
    status, headers, body = site.ask("/")
    assert (status, body) == (200, b"<h1>home</h1>")
    assert site.ask("/", headers={"If-None-Match": dict(headers)["etag"]})[0] == 304
    status, headers, body = site.ask("/photo.png", headers={"Range": "bytes=1-3"})
    assert (status, body, dict(headers)["content-range"]) == (206, b"\x01\x02\x03", "bytes 1-3/256")


def test_functions_can_serve_files_themselves(deploy: Deploy) -> None:
    source = "from lambent_static import StaticFiles\nhandler = StaticFiles('.')\n"
    site = Site(deploy({"app.py": source, "a.txt": "text"}))
    assert site.ask("/a.txt")[::2] == (200, b"text")

"""Chalice deploys to a node, unchanged: a REST API with CORS, an authorizer and an API key."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.conftest import ROLE, connect

from lambent.testing.node import LambentNode

APP = """
from chalice import AuthResponse, BadRequestError, Chalice, Response

app = Chalice(app_name="pets")
PETS = {}


@app.authorizer()
def guard(request):
    return AuthResponse(routes=["*"] if request.token == "friend" else [], principal_id="someone")


@app.route("/pets/{name}", methods=["PUT"], cors=True)
def put(name):
    PETS[name] = app.current_request.json_body
    if "kind" not in PETS[name]:
        raise BadRequestError("kind is missing")
    return Response({"name": name, **PETS[name]}, status_code=201, headers={"X-Pet": name})


@app.route("/secret", authorizer=guard)
def secret():
    return {"principal": app.current_request.context["authorizer"]["principalId"]}


@app.route("/query")
def query():
    return app.current_request.query_params
"""


@pytest.mark.slow
def test_a_chalice_application_is_deployed_called_and_changed(node: LambentNode, tmp_path: Path) -> None:
    project = tmp_path / "pets"
    (project / ".chalice").mkdir(parents=True)
    (project / "app.py").write_text(APP)
    (project / "requirements.txt").write_text("")
    configuration = {
        "version": "2.0",
        "app_name": "pets",
        "stages": {"dev": {"api_gateway_stage": "api", "manage_iam_role": False, "iam_role_arn": ROLE}},
    }
    (project / ".chalice" / "config.json").write_text(json.dumps(configuration))
    api_id = deploy(node, project)
    port = urlsplit(node.endpoint).port
    base = f"http://{api_id}.execute-api.us-east-1.localhost:{port}/api"

    status, headers, body = ask("PUT", base + "/pets/rex", {"kind": "dog"})
    assert (status, headers["x-pet"], json.loads(body)) == (201, "rex", {"name": "rex", "kind": "dog"})
    assert headers["access-control-allow-origin"] == "*"
    status, _, body = ask("PUT", base + "/pets/rex", {})
    assert (status, json.loads(body)["Code"]) == (400, "BadRequestError")
    status, headers, _ = ask("OPTIONS", base + "/pets/rex")
    assert (status, set(headers["access-control-allow-methods"].split(","))) == (200, {"OPTIONS", "PUT"})
    assert json.loads(ask("GET", base + "/query?a=1")[2]) == {"a": "1"}
    assert ask("GET", base + "/secret")[0] == 401
    assert ask("GET", base + "/secret", token="enemy")[0] == 403
    assert json.loads(ask("GET", base + "/secret", token="friend")[2]) == {"principal": "someone"}

    (project / "app.py").write_text(APP.replace('"/query"', '"/asked"'))
    assert deploy(node, project) == api_id
    assert (ask("GET", base + "/query")[0], ask("GET", base + "/asked?b=2")[0]) == (403, 200)
    run(node, project, "delete")
    assert api_id not in [api["id"] for api in connect(node, "apigateway").get_rest_apis(limit=500)["items"]]


def deploy(node: LambentNode, project: Path) -> str:
    output = run(node, project, "deploy")
    found = re.search(r"Rest API URL: https://([a-z0-9]+)\.execute-api", output)
    assert found is not None, output
    return found[1]


def run(node: LambentNode, project: Path, *arguments: str) -> str:
    client = connect(node)
    credentials = client._request_signer._credentials
    environ = {
        **os.environ,
        "AWS_ENDPOINT_URL": node.endpoint,
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "HOME": str(project.parent),
    }
    command = [str(Path(sys.executable).parent / "chalice"), *arguments, "--stage", "dev"]
    done = subprocess.run(command, check=False, cwd=project, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def ask(method: str, url: str, body: object = None, *, token: str = "") -> tuple[int, dict[str, str], bytes]:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if token:
        headers["Authorization"] = token
    parts = urlsplit(url)
    # Names below localhost lead to this machine in browsers and curl; here the Host header says it.
    request = urllib.request.Request(
        f"http://127.0.0.1:{parts.port}{parts.path}" + (f"?{parts.query}" if parts.query else ""),
        method=method,
        data=json.dumps(body).encode() if body is not None else None,
        headers={**headers, "Host": parts.netloc},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, lower(response.headers), response.read()
    except urllib.error.HTTPError as exc:
        return exc.code, lower(exc.headers), exc.read()

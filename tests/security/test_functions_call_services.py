"""A function acts for its account with what it finds in its environment: that much, and no more."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PYTHON, ROLE, Deploy, connect

from lambent.testing.node import LambentNode, make_zip

SIGNER = (Path(__file__).parent / "calling_function.py").read_text()
"""Signs with the standard library alone, as an SDK does: a package with boto3 in it takes seconds to deploy."""

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def call(deploy: Deploy) -> Call:
    """Ask something of the node from within a function: `{"status": ..., "body": ...}` or `{"refused": ...}`."""
    function = deploy(SIGNER, Timeout=20)

    def ask(method: str, path: str, **event: Any) -> Any:
        answer = function({"method": method, "path": path, **event})
        assert not answer.error, answer.payload
        return answer.payload

    return ask


def test_a_function_invokes_another_with_its_own_credentials(call: Call, deploy: Deploy) -> None:
    other = deploy("def handler(event, context):\n    return {'got': event}\n")
    path = f"/2015-03-31/functions/{other.name}/invocations"
    assert call("POST", path, body='{"a": 1}') == {"status": 200, "body": '{"got": {"a": 1}}'}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/2015-03-31/functions/"),
        ("DELETE", "/2015-03-31/functions/any"),
        ("PUT", "/2015-03-31/functions/any/code"),
        ("POST", "/2015-03-31/functions"),
        ("GET", "/2016-08-19/account-settings/"),
        ("GET", "/_lambent/status"),
        ("GET", "/_lambent/functions/any/logs"),
        ("GET", "/_lambent/hook-settings"),
    ],
)
def test_it_cannot_change_or_look_at_functions_and_the_node(call: Call, method: str, path: str) -> None:
    answer = call(method, path, body="{}" if method in ("PUT", "POST") else "")
    assert answer["status"] == 403
    assert "is not authorized to perform" in answer["body"]
    assert ":assumed-role/any/" in answer["body"]


def test_without_its_signature_it_is_nobody(call: Call) -> None:
    assert call("POST", "/2015-03-31/functions/any/invocations", body="{}", unsigned=True)["status"] == 403
    assert call("POST", "/2015-03-31/functions/any/invocations", body="{}", token="AAAA")["status"] == 403
    assert call("POST", "/2015-03-31/functions/any/invocations", body="{}", token="")["status"] == 403


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the namespace tier")
@pytest.mark.parametrize("url", ["http://169.254.100.1:80", "http://169.254.100.2:8700", "http://127.0.0.1:8700"])
def test_the_address_of_the_api_is_one_address_with_one_port(call: Call, url: str) -> None:
    assert "refused" in call("GET", "/health", url=url)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the namespace tier")
def test_a_function_without_a_network_has_no_credentials_and_no_way(deploy: Deploy) -> None:
    source = (
        "import os\ndef handler(event, context):\n    return sorted(k for k in os.environ if k.startswith('AWS_'))\n"
    )
    function = deploy(source, Tags={"lambent:network": "none"})
    names = function().payload
    assert "AWS_REGION" in names
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"} & set(names)


def test_an_endpoint_that_a_function_names_itself_stays(deploy: Deploy) -> None:
    source = "import os\ndef handler(event, context):\n    return os.environ['AWS_ENDPOINT_URL']\n"
    function = deploy(source, Environment={"Variables": {"AWS_ENDPOINT_URL": "https://elsewhere.example"}})
    assert function().payload == "https://elsewhere.example"


def test_each_environment_has_credentials_of_its_own(deploy: Deploy, client: Any) -> None:
    source = "import os\ndef handler(event, context):\n    return os.environ['AWS_ACCESS_KEY_ID']\n"
    function = deploy(source)
    first = function().payload
    assert function().payload == first
    client.update_function_configuration(FunctionName=function.name, Description="new")
    client.get_waiter("function_updated_v2").wait(FunctionName=function.name)
    assert function().payload != first


def test_another_node_refuses_them(tmp_path: Path, call: Call) -> None:
    with LambentNode(tmp_path / "data").running() as other:
        client = connect(other)
        name = "caller"
        client.create_function(
            FunctionName=name,
            Role=ROLE,
            Runtime=PYTHON,
            Handler="app.handler",
            Code={"ZipFile": make_zip({"app.py": "import os\ndef handler(e, c):\n    return dict(os.environ)\n"})},
        )
        client.get_waiter("function_active_v2").wait(FunctionName=name)
        stolen = json.loads(client.invoke(FunctionName=name)["Payload"].read())
    answer = call("POST", "/2015-03-31/functions/any/invocations", body="{}", environ=stolen)
    assert answer["status"] == 403
    assert "security token" in answer["body"]

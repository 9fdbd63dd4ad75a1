"""What tests of a real node share: one node for all of them, and functions deployed to it by their source."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from lambent.awsapi.sigv4 import sign
from lambent.client.client import Client
from lambent.client.connection import Connection, Credentials
from lambent.client.shapes import LogLine
from lambent.testing.node import LambentNode, make_zip

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
"""The runtime that every machine which runs these tests has: their own."""
_ENVIRON = threading.Lock()
ROLE = "arn:aws:iam::123456789012:role/any"


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LambentNode]:
    with LambentNode(tmp_path_factory.mktemp("node") / "data").running() as running:
        yield running


def connect(node: LambentNode, service: str = "lambda") -> Any:
    """A boto3 client that takes nothing from this machine's own configuration."""
    # One at a time: a second thread would take the first one's variables for the machine's, and leave them behind.
    with _ENVIRON:
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update(node.environ())
        try:
            config = Config(retries={"max_attempts": 0}, read_timeout=120, max_pool_connections=64)
            return boto3.session.Session(profile_name="lambent").client(service, config=config)
        finally:
            os.environ.clear()
            os.environ.update(before)


@pytest.fixture(scope="session")
def client(node: LambentNode) -> Any:
    return connect(node)


def ask(client: Any, path: str) -> Any:
    """One of Lambent's own endpoints, signed with the client's key."""
    credentials = client._request_signer._credentials
    url = f"{client.meta.endpoint_url}{path}"
    headers = sign(
        method="GET",
        url=url,
        headers={},
        body=b"",
        access_key=credentials.access_key,
        secret=credentials.secret_key,
        region=client.meta.region_name,
    )
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as response:
        return json.load(response)


@dataclasses.dataclass(kw_only=True)
class Answer:
    payload: Any
    error: str
    log: str


@dataclasses.dataclass(kw_only=True)
class Deployed:
    """A function of the node, invoked by its name."""

    client: Any
    name: str

    def __call__(self, event: Any = None, **parameters: Any) -> Answer:
        import base64

        response = self.client.invoke(
            FunctionName=self.name, Payload=json.dumps(event or {}).encode(), LogType="Tail", **parameters
        )
        return Answer(
            payload=json.loads(response["Payload"].read()),
            error=response.get("FunctionError", ""),
            log=base64.b64decode(response.get("LogResult", "")).decode(),
        )


def connection_of(client: Any) -> Connection:
    """What a boto3 client connects to, for our own client."""
    credentials = client._request_signer._credentials
    return Connection(
        endpoint=client.meta.endpoint_url,
        region=client.meta.region_name,
        credentials=Credentials(access_key=credentials.access_key, secret=credentials.secret_key),
        source="the test",
    )


def read_log(function: Deployed) -> Iterator[LogLine]:
    """All lines of its log, and those that come."""
    return Client(connection_of(function.client)).logs(function.name, follow=True)


Deploy = Callable[..., Deployed]


@pytest.fixture(scope="session")
def deploy(client: Any) -> Deploy:
    """`deploy(source, **create_function parameters)`: `source` becomes app.py with `handler(event, context)`."""

    def deploy_source(source: str | dict[str, str | bytes], **parameters: Any) -> Deployed:
        files = {"app.py": source} if isinstance(source, str) else source
        name = parameters.pop("FunctionName", f"t-{uuid.uuid4().hex[:12]}")
        executable = parameters.pop("executable", ())
        client.create_function(
            FunctionName=name,
            Role=ROLE,
            Code={"ZipFile": make_zip(files, executable=executable)},
            **{"Runtime": PYTHON, "Handler": "app.handler", **parameters},
        )
        client.get_waiter("function_active_v2").wait(FunctionName=name)
        return Deployed(client=client, name=name)

    return deploy_source


@pytest.fixture(scope="session")
def run_inside(deploy: Deploy) -> Callable[[str], Any]:
    """Evaluate an expression inside an environment; what it raises comes back as `Type: text`."""
    function = deploy(
        "import os, sys, socket, subprocess, ctypes, pathlib, time\n"
        "def handler(event, context):\n"
        "    try:\n"
        "        return eval(event['expression'], globals())\n"
        "    except BaseException as exc:\n"
        "        return f'{type(exc).__name__}: {exc}'\n",
        Timeout=20,
    )

    def run(expression: str) -> Any:
        answer = function({"expression": expression})
        assert not answer.error, answer.payload
        return answer.payload

    return run


def is_ci() -> bool:
    return bool(os.environ.get("CI"))


def own_processes(marker: Path) -> list[int]:
    """Processes of this machine whose command line or environment names a data folder, or that are zygotes."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(marker).encode() in text:
                found.append(int(entry.name))
    return found

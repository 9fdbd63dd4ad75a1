"""The whole promise once, as a new user would check it: deploy with AWS's own tools, invoke, kill, find all again."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PYTHON, ROLE, connect, is_ci
from tests.integration.environment.test_node_functions import RUNTIME as NODE_RUNTIME
from tests.integration.environment.test_provided_runtimes import SOURCE as BOOTSTRAP_SOURCE
from tests.integration.node.test_lifecycle import descendants, leftovers, wait_nothing_left

from lambent.testing.node import LambentNode, make_zip

BIN = Path(sys.executable).parent


class Aws:
    """The AWS CLI, as a user runs it with the variables of `lambent env`."""

    def __init__(self, node: LambentNode, folder: Path) -> None:
        self._environ = {**node.environ(), "AWS_PROFILE": "lambent"}
        self._folder = folder

    def __call__(self, *arguments: str) -> Any:
        done = subprocess.run(
            [str(BIN / "aws"), "lambda", *arguments, "--output", "json"],
            env=self._environ,
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def invoke(self, name: str, payload: str) -> Any:
        answer = self._folder / "answer.json"
        encoded = base64.b64encode(payload.encode()).decode()
        self("invoke", "--function-name", name, "--payload", payload if is_version_one() else encoded, str(answer))
        return json.loads(answer.read_text())


def is_version_one() -> bool:
    """Version 1 of the CLI takes a payload as it is."""
    done = subprocess.run([str(BIN / "aws"), "--version"], capture_output=True, text=True, check=True)
    return "aws-cli/1." in done.stdout + done.stderr


def build_bootstrap(folder: Path) -> bytes:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        assert not is_ci(), "a C compiler is needed: apt-get install gcc"
        pytest.skip("no C compiler")
    program = folder / "bootstrap"
    subprocess.run([compiler, "-static", "-O1", "-o", str(program), str(BOOTSTRAP_SOURCE)], check=True)
    return program.read_bytes()


def test_deploy_invoke_kill_under_load_and_find_everything_again(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data")
    node.start()
    client = connect(node)
    aws = Aws(node, tmp_path)
    packages = {
        "python": (PYTHON, "app.handler", make_zip({"app.py": "def handler(e, c):\n    return {'py': e}\n"})),
        "node": (NODE_RUNTIME, "index.handler", make_zip({"index.js": "exports.handler = async (e) => ({ js: e });"})),
        "compiled": (
            "provided.al2023",
            "any",
            make_zip({"bootstrap": build_bootstrap(tmp_path)}, executable=("bootstrap",)),
        ),
    }

    # Given the same three functions deployed with boto3 and with the AWS CLI, each with a version and an alias
    for name, (runtime, handler, package) in packages.items():
        client.create_function(
            FunctionName=f"boto-{name}", Runtime=runtime, Role=ROLE, Handler=handler, Code={"ZipFile": package}
        )
        client.get_waiter("function_active_v2").wait(FunctionName=f"boto-{name}")
        (tmp_path / f"{name}.zip").write_bytes(package)
        settings = ("--function-name", f"cli-{name}", "--runtime", runtime, "--handler", handler, "--role", ROLE)
        aws("create-function", *settings, "--zip-file", f"fileb://{name}.zip")
        aws("wait", "function-active-v2", "--function-name", f"cli-{name}")
        for tool in ("boto", "cli"):
            version = client.publish_version(FunctionName=f"{tool}-{name}")["Version"]
            client.get_waiter("published_version_active").wait(FunctionName=f"{tool}-{name}", Qualifier=version)
            client.create_alias(FunctionName=f"{tool}-{name}", Name="live", FunctionVersion=version)

    # When they are invoked with both tools
    def check(client: Any, aws: Aws) -> None:
        for name in packages:
            for tool in ("boto", "cli"):
                answer = client.invoke(FunctionName=f"{tool}-{name}:live", Payload=b'{"n": 1}')
                assert "FunctionError" not in answer, answer["Payload"].read()
                assert answer["ExecutedVersion"] == "1"
        assert aws.invoke("cli-python", '{"n": 2}') == {"py": {"n": 2}}
        assert aws.invoke("boto-node", '{"n": 3}') == {"js": {"n": 3}}

    check(client, aws)
    before = client.list_functions(FunctionVersion="ALL")["Functions"]
    assert len(before) == 12

    # And the node is killed under load
    stop = threading.Event()
    answered = 0

    def call() -> None:
        nonlocal answered
        own = connect(node)
        while not stop.is_set():
            try:
                own.invoke(FunctionName="boto-python", Payload=b"{}")
            except Exception:
                return
            answered += 1

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    deadline_at = time.monotonic() + 20
    while answered < 50 and time.monotonic() < deadline_at:
        time.sleep(0.01)
    pids = descendants(node.pid)
    node.kill()
    stop.set()
    for caller in callers:
        caller.join()
    assert answered >= 50

    # Then nothing of it is left, and a node started on the same folder has every function, version and alias
    wait_nothing_left(node.data_dir, pids)
    again = LambentNode(tmp_path / "data")
    with again.running():
        client, aws = connect(again), Aws(again, tmp_path)
        assert client.list_functions(FunctionVersion="ALL")["Functions"] == before
        for name in packages:
            for tool in ("boto", "cli"):
                aliases = client.list_aliases(FunctionName=f"{tool}-{name}")["Aliases"]
                assert [(alias["Name"], alias["FunctionVersion"]) for alias in aliases] == [("live", "1")]
        check(client, aws)
    assert leftovers(node.data_dir) == []


def test_the_package_of_a_function_downloads_as_it_was_uploaded(tmp_path: Path) -> None:
    import io
    import urllib.request

    with LambentNode(tmp_path / "data").running() as node:
        client = connect(node)
        package = make_zip({"app.py": "def handler(e, c):\n    return 1\n"})
        client.create_function(
            FunctionName="f", Runtime=PYTHON, Role=ROLE, Handler="app.handler", Code={"ZipFile": package}
        )
        with urllib.request.urlopen(client.get_function(FunctionName="f")["Code"]["Location"]) as response:
            downloaded = response.read()
        assert downloaded == package
        assert zipfile.ZipFile(io.BytesIO(downloaded)).namelist() == ["app.py"]

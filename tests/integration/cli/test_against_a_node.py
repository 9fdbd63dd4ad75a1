"""The command line as people run it, against a real node."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lambent.testing.node import LambentNode

HANDLER = "import json\ndef handler(event, context):\n    print('saw', json.dumps(event))\n    return {'got': event}\n"

Lambent = Callable[..., subprocess.CompletedProcess[str]]


def own_environ(node: LambentNode) -> dict[str, str]:
    """Nothing but the data folder: everything else is found there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LAMBENT_"))}
    return {**kept, "LAMBENT_DATA_DIR": str(node.data_dir)}


@pytest.fixture
def lambent(node: LambentNode, tmp_path: Path) -> Lambent:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lambent", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=own_environ(node),
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture
def shop(lambent: Lambent, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "cli-shop").mkdir()
    (tmp_path / "cli-shop" / "app.py").write_text(HANDLER)
    deployed = lambent("deploy", "cli-shop")
    assert deployed.returncode == 0, deployed.stderr
    yield "cli-shop"
    lambent("rm", "cli-shop", "--yes")


def test_on_the_nodes_machine_a_folder_is_deployed_and_invoked_without_configuration(
    lambent: Lambent, shop: str
) -> None:
    ran = lambent("invoke", shop, "-d", '{"n": 1}', "--tail")
    assert (ran.returncode, json.loads(ran.stdout)) == (0, {"got": {"n": 1}})
    assert 'saw {"n": 1}' in ran.stderr
    assert "REPORT RequestId" in ran.stderr
    assert shop in lambent("ls").stdout
    assert json.loads(lambent("show", shop, "--json").stdout)["Configuration"]["State"] == "Active"
    assert "REPORT RequestId" in lambent("logs", shop).stdout
    assert json.loads(lambent("status", "--json").stdout)["counters"]["invocations"] >= 1


def test_a_changed_function_answers_with_its_new_code(lambent: Lambent, shop: str, tmp_path: Path) -> None:
    (tmp_path / shop / "app.py").write_text("def handler(event, context):\n    return 'new'\n")
    updated = lambent("deploy", shop, "--memory", "256", "--json")
    assert sorted(json.loads(updated.stdout)["changes"]) == ["Code", "MemorySize"]
    assert lambent("invoke", shop).stdout == '"new"\n'


def test_a_followed_log_shows_new_lines_as_they_come_and_ends_with_ctrl_c(
    lambent: Lambent, shop: str, node: LambentNode
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "lambent", "logs", shop, "--follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=own_environ(node),
    ) as follower:
        assert follower.stdout is not None
        assert follower.stderr is not None
        # The first line shows that it listens; the second invocation is one it can only see by following.
        lambent("invoke", shop, "-d", '"first"')
        seen = iter(follower.stdout.readline, "")
        assert any('saw "first"' in line for line in seen)
        lambent("invoke", shop, "-d", '"second"')
        assert any('saw "second"' in line for line in seen)
        follower.send_signal(signal.SIGINT)
        assert follower.wait(30) == 130
        assert "Traceback" not in follower.stderr.read()


def test_the_variables_of_env_are_enough_for_another_client(lambent: Lambent, shop: str) -> None:
    variables = json.loads(lambent("env", "--json").stdout)
    ran = subprocess.run(
        [sys.executable, "-m", "lambent", "ls", "--json"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LAMBENT_DATA_DIR": "/nonexistent", **variables},
    )
    assert shop in {function["FunctionName"] for function in json.loads(ran.stdout)}


def test_a_function_gets_an_address_with_the_deploy_and_loses_it(
    lambent: Lambent, node: LambentNode, tmp_path: Path
) -> None:
    (tmp_path / "page.py").write_text("def handler(event, context):\n    return event['rawPath']\n")

    def get(url: str) -> tuple[int, bytes]:
        host = url.removeprefix("http://").rstrip("/")
        connection = http.client.HTTPConnection(node.endpoint.removeprefix("http://"), timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/a", headers={"Host": host})
            response = connection.getresponse()
            return response.status, response.read()

    deployed = lambent("deploy", "page.py", "--name", "cli-page", "--url", "--json")
    assert deployed.returncode == 0, deployed.stderr
    url = json.loads(deployed.stdout)["url"]
    assert get(url) == (200, b'"/a"')
    shown = lambent("url", "cli-page")
    assert (shown.returncode, shown.stdout.strip()) == (0, url)
    assert lambent("url", "cli-page", "--iam").returncode == 0
    assert get(url)[0] == 403
    removed = lambent("url", "cli-page", "--rm")
    assert (removed.returncode, removed.stdout) == (0, "")
    assert get(url)[0] == 404
    assert lambent("url", "nobody").returncode != 0
    lambent("rm", "cli-page", "--yes")

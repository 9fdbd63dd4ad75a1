"""The same functions on every Python that this machine has."""

from __future__ import annotations

from typing import Any

import pytest
from tests.conftest import Deploy, ask

SOURCE = """
import logging, sys

def handler(event, context):
    if event.get("fail"):
        raise ValueError("asked for")
    logging.getLogger().warning("seen %s", event["n"])
    return {"n": event["n"], "version": "%d.%d" % sys.version_info[:2], "left": context.get_remaining_time_in_millis()}
"""


@pytest.fixture(scope="module")
def available(client: Any) -> list[str]:
    runtimes = ask(client, "/_lambent/runtimes")["runtimes"]
    return [runtime["name"] for runtime in runtimes if runtime["available"]]


@pytest.mark.parametrize("runtime", [f"python3.{minor}" for minor in range(9, 15)])
def test_a_function_runs_on_each_python(deploy: Deploy, available: list[str], runtime: str) -> None:
    if runtime not in available:
        pytest.skip(f"{runtime} is not installed")
    function = deploy(SOURCE, Runtime=runtime)
    for number in range(2):
        answer = function({"n": number})
        assert not answer.error, answer.payload
        assert answer.payload["version"] == runtime.removeprefix("python")
        assert f"seen {number}" in answer.log
    failed = function({"fail": True})
    assert failed.payload["errorType"] == "ValueError"
    assert failed.payload["stackTrace"]


@pytest.mark.parametrize("runtime", [f"python3.{minor}" for minor in range(9, 15)])
def test_text_is_ascii_in_answers_up_to_python_3_11(
    deploy: Deploy, available: list[str], client: Any, runtime: str
) -> None:
    if runtime not in available:
        pytest.skip(f"{runtime} is not installed")
    source = "import collections\ndef handler(event, context):\n    return collections.namedtuple('P', 'x')('é')\n"
    function = deploy(source, Runtime=runtime)
    payload = client.invoke(FunctionName=function.name)["Payload"].read()
    escapes = int(runtime.rpartition(".")[2]) <= 11
    assert payload == (b'{"x": "\\u00e9"}' if escapes else '{"x": "é"}'.encode())


def test_a_runtime_that_is_not_installed_says_how_to_install_it(deploy: Deploy, available: list[str]) -> None:
    missing = [f"python3.{minor}" for minor in range(9, 15) if f"python3.{minor}" not in available]
    if not missing:
        pytest.skip("every runtime is installed")
    function = deploy(SOURCE, Runtime=missing[0])
    with pytest.raises(function.client.exceptions.InvalidRuntimeException) as refused:
        function({"n": 1})
    assert missing[0] in str(refused.value)
    assert "lambent.toml" in str(refused.value)

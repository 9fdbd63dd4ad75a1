"""All environments of a runtime begin as copies of one process: nothing of another tenant may lie in its memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.conftest import PYTHON, ROLE, connect

from lambent.testing.node import LambentNode, make_zip

OWNER = "def handler(event, context):\n    return 'kept'\n"
# The pattern does not match its own text.
ATTACKER = """
import re
PATTERN = re.compile(rb"TOP-SECRE[T]-[0-9]+")
def handler(event, context):
    found, readable = [], 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            if rights[0] != "r" or "[v" in line:
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                data = memory.read(end - start)
            except (OSError, ValueError, OverflowError):
                continue
            readable += len(data)
            found += [match.decode() for match in PATTERN.findall(data)]
    return {"found": found, "readable": readable}
"""


def create(client: Any, name: str, source: str, **variables: str) -> None:
    client.create_function(
        FunctionName=name,
        Runtime=PYTHON,
        Role=ROLE,
        Handler="app.handler",
        Timeout=30,
        Environment={"Variables": variables},
        Code={"ZipFile": make_zip({"app.py": source})},
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name)


def invoke(client: Any, name: str) -> Any:
    response = client.invoke(FunctionName=name)
    assert "FunctionError" not in response
    return json.loads(response["Payload"].read())


@pytest.mark.parametrize("shells", [0, 1])
def test_an_environment_finds_no_variables_of_those_before_it_in_its_memory(
    tmp_path_factory: pytest.TempPathFactory, shells: int
) -> None:
    folder = tmp_path_factory.mktemp("memory")
    config = folder / "lambent.toml"
    config.write_text(f"[prewarm]\nshells = {shells}\n")
    with LambentNode(folder / "data", arguments=["--config", str(config)]).running() as node:
        client = connect(node)
        for number in range(3):
            create(client, f"owner-{number}", OWNER, PASSWORD=f"TOP-SECRET-{number}", FILLER="x" * 3_000)
            assert invoke(client, f"owner-{number}") == "kept"
        create(client, "attacker", ATTACKER, MINE="TOP-SECRET-99")
        seen = invoke(client, "attacker")
    assert seen["readable"] > 1_000_000
    assert set(seen["found"]) == {"TOP-SECRET-99"}

"""What tests ask of a node's shells: which there are, and what runs in them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import PYTHON, ask

PATIENCE_S = 20.0


def until(condition: Callable[[], bool]) -> None:
    deadline_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_at, "it did not come to that"
        time.sleep(0.02)


def shells_of(client: Any, runtime: str = PYTHON) -> set[int]:
    """Pids of those that wait, and of those about to: children of the zygote that are nobody's environment."""
    status = ask(client, "/_lambent/status")
    zygote = status["zygotes"][runtime]
    children = {int(pid) for pid in Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()}
    return children - {environment["pid"] for environment in status["environments"]}


def wait_full(client: Any, count: int = 2, runtime: str = PYTHON) -> set[int]:
    until(lambda: ask(client, "/_lambent/status")["shells"].get(runtime) == count)
    return shells_of(client, runtime)


def environment_of(client: Any, name: str) -> Any:
    (found,) = [entry for entry in ask(client, "/_lambent/status")["environments"] if entry["function"] == name]
    return found

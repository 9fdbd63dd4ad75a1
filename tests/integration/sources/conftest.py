"""The real components, each started once for the run. One that is missing skips on a laptop and fails in CI."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lambent.testing.components.kafka import Kafka
from lambent.testing.components.nats import Nats
from lambent.testing.components.postgres import Postgres
from lambent.testing.components.processes import Component, ComponentMissing
from lambent.testing.components.rabbitmq import RabbitMq
from lambent.testing.components.redis import Redis


def _run(build: Callable[[Path], Component], factory: pytest.TempPathFactory) -> Iterator[Component]:
    try:
        component = build(factory.mktemp(build.__name__.lower()))
    except ComponentMissing as exc:
        if os.environ.get("CI"):
            pytest.fail(str(exc))
        pytest.skip(str(exc))
    with component.running():
        yield component


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Component]:
    yield from _run(Postgres, tmp_path_factory)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Component]:
    yield from _run(Kafka, tmp_path_factory)


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Component]:
    yield from _run(Nats, tmp_path_factory)


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Component]:
    yield from _run(Redis, tmp_path_factory)


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Component]:
    yield from _run(RabbitMq, tmp_path_factory)

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.client.fake_node import FakeNode

from lambent.client.client import Client
from lambent.client.connection import resolve_connection


@pytest.fixture
def fake_node() -> Iterator[FakeNode]:
    with FakeNode().running() as running:
        yield running


@pytest.fixture
def client(fake_node: FakeNode) -> Client:
    return Client(resolve_connection(environ=fake_node.environ()))

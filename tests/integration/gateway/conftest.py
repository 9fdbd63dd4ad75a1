"""A server outside of the node, and a node that may ask it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.gateway.outside import Outside, open_outside

from lambent.testing.node import LambentNode


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    with open_outside() as opened:
        yield opened


@pytest.fixture(scope="module")
def open_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LambentNode]:
    """One that may ask servers of this machine."""
    with LambentNode(tmp_path_factory.mktemp("dev") / "data", arguments=["--dev"]).running() as running:
        yield running

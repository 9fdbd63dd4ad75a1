"""What tests of APIs share: a client for them, a function that answers its event, and a server outside of the node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.conftest import Deploy, connect
from tests.integration.gateway.http_api import ECHO, arn_of
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


@pytest.fixture(scope="module")
def gateway(node: LambentNode) -> Any:
    return connect(node, "apigatewayv2")


@pytest.fixture(scope="module")
def echo(deploy: Deploy) -> str:
    return arn_of(deploy(ECHO))

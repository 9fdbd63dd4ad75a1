"""Versions with SnapStart, published to the node of all tests."""

from __future__ import annotations

import base64
import json
import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.conftest import PYTHON, ROLE, Answer

from lambent.testing.node import make_zip

Publish = Callable[..., "Published"]

PATIENCE_S = 60.0


class Published:
    """Version 1 of a function of its own."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name

    @property
    def shown(self) -> dict[str, Any]:
        shown: dict[str, Any] = self.client.get_function_configuration(FunctionName=self.name, Qualifier="1")
        return shown

    def __call__(self, event: Any = None) -> Answer:
        response = self.client.invoke(
            FunctionName=self.name, Qualifier="1", Payload=json.dumps(event or {}).encode(), LogType="Tail"
        )
        return Answer(
            payload=json.loads(response["Payload"].read()),
            error=response.get("FunctionError", ""),
            log=base64.b64decode(response.get("LogResult", "")).decode(),
        )

    def at_once(self, count: int, event: Any) -> list[Answer]:
        """That many invocations side by side, so in as many environments; `event` must make them last."""
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(self, [event] * count))


def publish_with(client: Any, source: str | dict[str, str | bytes], **parameters: Any) -> Published:
    """Publishes version 1 and waits until it has settled."""
    files = {"app.py": source} if isinstance(source, str) else source
    name = f"snap-{uuid.uuid4().hex[:12]}"
    client.create_function(
        FunctionName=name,
        Role=ROLE,
        Code={"ZipFile": make_zip(files)},
        Publish=True,
        **{
            "Runtime": PYTHON,
            "Handler": "app.handler",
            "Timeout": 20,
            "SnapStart": {"ApplyOn": "PublishedVersions"},
            **parameters,
        },
    )
    published = Published(client, name)
    give_up_at = time.monotonic() + PATIENCE_S
    while published.shown["State"] == "Pending":
        assert time.monotonic() < give_up_at, published.shown
        time.sleep(0.02)
    return published


@pytest.fixture(scope="session")
def publish(client: Any) -> Publish:
    if os.geteuid():
        pytest.skip("templates need a node that runs as root")

    def publish_source(source: str | dict[str, str | bytes], **parameters: Any) -> Published:
        return publish_with(client, source, **parameters)

    return publish_source

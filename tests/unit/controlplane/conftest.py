"""A control plane on memory documents, called as the wire calls it: validated before, serialised after."""

from __future__ import annotations

import asyncio
import io
import json
import stat
import zipfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lambent.awsapi.context import RequestContext
from lambent.awsapi.models import ServiceModel, load_model
from lambent.awsapi.rest_json import RestJson
from lambent.awsapi.validation import validate
from lambent.controlplane.activation import Activation
from lambent.controlplane.operations import operations
from lambent.controlplane.packages import CodeStore
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.registry import Registry
from lambent.controlplane.sweeper import Sweeper
from lambent.model.function import LayerVersion, Version
from lambent.substrate.blobs import FileBlobs
from lambent.substrate.memory.documents import MemoryDocuments

ROLE = "arn:aws:iam::123456789012:role/any"


class Clock:
    """Wall and monotonic time that a test moves; each look at the wall moves it by a millisecond."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 5, 38, 54, 683_000, UTC)
        self.seconds = 0.0

    def read_wall(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def read_monotonic(self) -> float:
        return self.seconds


class Api:
    """Calls operations by name, and checks that what they answer fits the model."""

    def __init__(self, plane: ControlPlane, model: ServiceModel) -> None:
        self.plane = plane
        self._model = model
        self._codec = RestJson(model)
        self._operations = operations(plane)
        self.context = RequestContext(
            account="123456789012", region="us-east-1", access_key="AKIA", request_id="r-1", host="localhost:8700"
        )

    async def call(self, name: str, **params: Any) -> dict[str, Any]:
        """Answers what a client would read; background work is left running."""
        model = self._model.operations[name]
        if model.input is not None:
            validate(params, model.input)
        response = self._codec.write_result(model, await self._operations[name](self.context, params))
        parsed: dict[str, Any] = json.loads(response.body) if response.body else {}
        return parsed | {"HTTPStatusCode": response.status}

    async def settled(self, name: str, **params: Any) -> dict[str, Any]:
        """Answers once everything that the call began has come to its end."""
        answer = await self.call(name, **params)
        await self.plane.activation.wait_idle()
        return answer

    async def create(self, name: str = "hello", **params: Any) -> dict[str, Any]:
        given: dict[str, Any] = {
            "FunctionName": name,
            "Runtime": "python3.12",
            "Role": ROLE,
            "Handler": "app.handler",
            "Code": {"ZipFile": make_zip({"app.py": f"# {name}\n"})},
        }
        return await self.settled("CreateFunction", **(given | params))


def make_zip(files: dict[str, str | bytes], *, modes: dict[str, int] | None = None) -> bytes:
    """A zip of these files; `modes` are whole st_mode values."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


@pytest.fixture
def zip_of() -> Callable[..., bytes]:
    return make_zip


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def documents() -> MemoryDocuments:
    return MemoryDocuments()


@pytest.fixture(scope="session")
def model() -> ServiceModel:
    return load_model("lambda")


@pytest.fixture
def code(tmp_path: Path, clock: Clock) -> CodeStore:
    return CodeStore(tmp_path / "code", FileBlobs(tmp_path / "blobs"), clock=clock.read_monotonic)


@pytest.fixture
async def plane(documents: MemoryDocuments, code: CodeStore, clock: Clock) -> AsyncIterator[ControlPlane]:
    registry = Registry(documents)
    ids = iter(f"00000000-0000-0000-0000-{number:012}" for number in range(10_000))

    def code_url(context: RequestContext, package: Version | LayerVersion) -> str:
        return f"http://{context.host}/_lambent/code/{package.digest}"

    plane = ControlPlane(
        registry=registry,
        code=code,
        activation=Activation(registry, code),
        sweeper=Sweeper(registry, code, sleep=_sleep_never),
        now=clock.read_wall,
        new_id=lambda: next(ids),
        architecture="x86_64",
        code_url=code_url,
        function_url=lambda context, url: f"http://{url.url_id}.lambda-url.{url.region}.localhost/",
    )
    yield plane
    await plane.stop()


async def _sleep_never(_seconds: float) -> None:
    await asyncio.Event().wait()


@pytest.fixture
def api(plane: ControlPlane, model: ServiceModel) -> Api:
    return Api(plane, model)

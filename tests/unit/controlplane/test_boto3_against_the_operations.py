"""boto3's own parsers, paginators and waiters against the operations, without a socket between them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSResponse

from lambent.awsapi.context import RequestContext
from lambent.awsapi.http import HttpRequest
from lambent.awsapi.models import ServiceModel
from lambent.awsapi.service import Service
from lambent.controlplane.operations import operations
from lambent.controlplane.plane import open_plane
from lambent.substrate.blobs import FileBlobs
from lambent.substrate.memory.documents import MemoryDocuments

MakeZip = Callable[..., bytes]
CONTEXT = RequestContext(account="123456789012", region="us-east-1", access_key="AKIA", request_id="r-1")


class Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


class Loop:
    """An event loop in a thread of its own, as boto3 blocks the caller."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def answer(self, request: Any, **_more: Any) -> AWSResponse:
        url = urlsplit(request.url)
        wire = HttpRequest(
            method=request.method,
            raw_path=url.path.encode(),
            query_string=url.query.encode(),
            headers=[(name.lower().encode(), _as_bytes(value)) for name, value in request.headers.items()],
            body=_as_bytes(request.body or b""),
        )
        response = self.run(self._handle(wire))
        headers = {name.decode(): value.decode() for name, value in response.headers}
        return AWSResponse(request.url, response.status, headers, Raw(response.body))

    async def _handle(self, wire: HttpRequest) -> Any:
        try:
            return await self._service.handle(wire, CONTEXT)
        except Exception as exc:
            return self._service.write_error(exc, CONTEXT.request_id)


def _as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


@pytest.fixture
def client(model: ServiceModel, tmp_path: Path) -> Iterator[Any]:
    plane = open_plane(
        MemoryDocuments(),
        FileBlobs(tmp_path / "blobs"),
        tmp_path / "code",
        code_url=lambda _context, package: f"http://localhost/{package.digest}",
        function_url=lambda _context, url: f"http://{url.url_id}.lambda-url.localhost/",
    )
    loop = Loop(Service(model, operations(plane)))
    loop.run(plane.start())
    client = boto3.client("lambda", region_name="us-east-1", aws_access_key_id="AKIA", aws_secret_access_key="secret")
    client.meta.events.register("before-send.lambda", loop.answer)
    yield client
    loop.run(plane.stop())
    loop.close()


def create(client: Any, data: bytes, **params: Any) -> Any:
    return client.create_function(
        FunctionName="hello",
        Runtime="python3.12",
        Role="arn:aws:iam::123456789012:role/any",
        Handler="app.handler",
        Code={"ZipFile": data},
        **params,
    )


def test_the_waiters_of_the_sdk_pass(client: Any, zip_of: MakeZip) -> None:
    assert create(client, zip_of({"app.py": "1"}))["State"] == "Pending"
    client.get_waiter("function_active_v2").wait(FunctionName="hello")
    client.get_waiter("function_active").wait(FunctionName="hello")
    assert client.update_function_code(FunctionName="hello", ZipFile=zip_of({"app.py": "2"}))["LastUpdateStatus"] == (
        "InProgress"
    )
    client.get_waiter("function_updated_v2").wait(FunctionName="hello")
    client.get_waiter("function_updated").wait(FunctionName="hello")
    version = client.publish_version(FunctionName="hello")["Version"]
    client.get_waiter("published_version_active").wait(FunctionName="hello", Qualifier=version)
    client.get_waiter("function_exists").wait(FunctionName="hello")


def test_the_exceptions_of_the_sdk_are_raised(client: Any, zip_of: MakeZip) -> None:
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="Function not found: arn:aws:lambda:"):
        client.get_function(FunctionName="hello")
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="Could not unzip uploaded file"):
        create(client, b"no zip")
    create(client, zip_of({"app.py": "1"}))
    with pytest.raises(client.exceptions.ResourceConflictException, match="Function already exist: hello"):
        create(client, zip_of({"app.py": "1"}))
    client.get_waiter("function_active_v2").wait(FunctionName="hello")
    with pytest.raises(client.exceptions.PreconditionFailedException):
        client.update_function_configuration(FunctionName="hello", Timeout=5, RevisionId="stale")


def test_the_paginators_of_the_sdk_see_everything(client: Any, zip_of: MakeZip) -> None:
    create(client, zip_of({"app.py": "1"}), Publish=True)
    for name in ("a", "b", "c"):
        client.create_alias(FunctionName="hello", Name=name, FunctionVersion="1")
        client.publish_layer_version(LayerName=name, Content={"ZipFile": zip_of({"x": name})})
    paging = {"PageSize": 1}
    aliases = client.get_paginator("list_aliases").paginate(FunctionName="hello", PaginationConfig=paging)
    assert [alias["Name"] for page in aliases for alias in page["Aliases"]] == ["a", "b", "c"]
    layers = client.get_paginator("list_layers").paginate(PaginationConfig=paging)
    assert [layer["LayerName"] for page in layers for layer in page["Layers"]] == ["a", "b", "c"]
    versions = client.get_paginator("list_versions_by_function").paginate(FunctionName="hello", PaginationConfig=paging)
    assert [version["Version"] for page in versions for version in page["Versions"]] == ["$LATEST", "1"]


def test_what_is_not_served_yet_says_so(client: Any) -> None:
    with pytest.raises(client.exceptions.ClientError, match="CodeSigningConfig is not implemented by Lambent yet"):
        client.put_function_code_signing_config(
            FunctionName="hello",
            CodeSigningConfigArn="arn:aws:lambda:us-east-1:123456789012:code-signing-config:csc-0123456789abcdef0",
        )

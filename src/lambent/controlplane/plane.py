"""What the operations of the control plane share: where things are kept, the time, and what the node gives them."""

from __future__ import annotations

import asyncio
import dataclasses
import platform
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from lambent.awsapi.context import RequestContext
from lambent.controlplane.activation import Activation, Optimize
from lambent.controlplane.packages import CodeStore
from lambent.controlplane.registry import Registry
from lambent.controlplane.sweeper import Sweeper
from lambent.model import limits
from lambent.model.function import FunctionUrl, LayerVersion, Version
from lambent.model.provisioned import Allocation
from lambent.substrate.ports import Blobs, Documents

ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), "x86_64")
"""This machine's, in the contract's words."""


class FetchS3(Protocol):
    """Reads an object of the account's own buckets, or of the upstream S3 that the operator configured."""

    async def __call__(self, account: str, bucket: str, key: str, version: str | None) -> bytes:
        """Raises CallerError when it is not there or may not be read."""
        ...


class CodeUrl(Protocol):
    """The URL under which the caller can download a zip for some minutes."""

    def __call__(self, context: RequestContext, package: Version | LayerVersion) -> str: ...


class FunctionAddress(Protocol):
    """The URL under which a function URL is reached by whoever made the request."""

    def __call__(self, context: RequestContext, url: FunctionUrl) -> str: ...


Allocations = Callable[[str], Awaitable[Mapping[str, Allocation]]]
"""What has come of the provisioned concurrency of a function (ACCOUNT/NAME), by qualifier."""


async def _allocate_nothing(_function: str) -> Mapping[str, Allocation]:
    return {}


@dataclasses.dataclass(slots=True, kw_only=True)
class ControlPlane:
    """`now` tells the time (UTC), `new_id` makes revision ids, `architecture` is this machine's (`x86_64`, `arm64`).

    `runtime_available` gives the reason why functions of a runtime cannot be created, None when they can.
    """

    registry: Registry
    code: CodeStore
    activation: Activation
    sweeper: Sweeper
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    architecture: str
    code_url: CodeUrl
    function_url: FunctionAddress
    fetch_s3: FetchS3 | None = None
    runtime_available: Callable[[str], str | None] = lambda _runtime: None
    account_concurrency: int = limits.DEFAULT_ACCOUNT_CONCURRENCY
    reservations: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    """Held while reserved and provisioned concurrency is summed up and changed."""
    allocations: Allocations = _allocate_nothing

    async def recover(self) -> None:
        """Mend what a killed node left. At start, before the first request and before anything is invoked."""
        await self.code.recover(await self.sweeper.read_referenced())
        await self.activation.recover()
        await self.sweeper.collect(grace_s=0.0)

    async def start(self) -> None:
        """Recover, then sweep until `stop`."""
        await self.recover()
        self.sweeper.start()

    async def stop(self) -> None:
        await self.activation.wait_idle()
        await self.sweeper.stop()

    async def owns_code(self, account: str, digest: str) -> bool:
        """Whether a version or a layer of the account is made of this zip."""
        versions = await self.registry.versions(account)
        layers = await self.registry.layers(account)
        return digest in {entry.value.digest for entry in versions} | {entry.value.digest for entry in layers}

    def timestamp(self) -> str:
        """Now, as the contract writes it: 2026-11-23T05:38:54.683+0000."""
        now = self.now().astimezone(UTC)
        return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}+0000"


def open_plane(
    documents: Documents,
    blobs: Blobs,
    root: Path,
    *,
    code_url: CodeUrl,
    function_url: FunctionAddress,
    fetch_s3: FetchS3 | None = None,
    runtime_available: Callable[[str], str | None] = lambda _runtime: None,
    tree_in_use: Callable[[str], bool] = lambda _name: False,
    account_concurrency: int = limits.DEFAULT_ACCOUNT_CONCURRENCY,
    optimize: Optimize | None = None,
    allocations: Allocations = _allocate_nothing,
) -> ControlPlane:
    """The control plane of a node: trees below `root`, the machine's clocks and architecture.

    `tree_in_use` tells whether a living environment has the tree of that name mounted.
    """
    registry = Registry(documents)
    code = CodeStore(root, blobs, clock=time.monotonic)
    return ControlPlane(
        registry=registry,
        code=code,
        activation=Activation(registry, code) if optimize is None else Activation(registry, code, optimize=optimize),
        sweeper=Sweeper(registry, code, in_use=tree_in_use),
        now=lambda: datetime.now(UTC),
        new_id=lambda: str(uuid.uuid4()),
        architecture=ARCHITECTURE,
        code_url=code_url,
        function_url=function_url,
        fetch_s3=fetch_s3,
        runtime_available=runtime_available,
        account_concurrency=account_concurrency,
        allocations=allocations,
    )

"""What the operations of the control plane share: where things are kept, the time, and what the node gives them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from lambent.awsapi.context import RequestContext
from lambent.controlplane.activation import Activation
from lambent.controlplane.packages import CodeStore
from lambent.controlplane.registry import Registry
from lambent.controlplane.sweeper import Sweeper
from lambent.model import limits
from lambent.model.function import LayerVersion, Version


class FetchS3(Protocol):
    """Reads an object of the upstream S3 that the operator configured."""

    async def __call__(self, bucket: str, key: str, version: str | None) -> bytes:
        """Raises CallerError when it is not there or may not be read."""
        ...


class CodeUrl(Protocol):
    """The URL under which the caller can download a zip for some minutes."""

    def __call__(self, context: RequestContext, package: Version | LayerVersion) -> str: ...


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
    fetch_s3: FetchS3 | None = None
    runtime_available: Callable[[str], str | None] = lambda _runtime: None
    account_concurrency: int = limits.DEFAULT_ACCOUNT_CONCURRENCY
    reservations: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    """Held while reserved concurrency is summed up and changed."""

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

    def timestamp(self) -> str:
        """Now, as the contract writes it: 2026-11-23T05:38:54.683+0000."""
        now = self.now().astimezone(UTC)
        return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}+0000"

"""What an environment borrows from the node, as those who lend it promise it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Protocol

from lambent.dataplane.sandbox.network.pool import NamespaceSource


class Lease(Protocol):
    """Something an environment uses once and gives back."""

    def release(self) -> None: ...


class NetworkLease(Lease, Protocol):
    @property
    def fd(self) -> int:
        """The network namespace."""
        ...

    def take_runtime_api(self) -> socket.socket:
        """The listener of the Runtime API inside it; becomes the caller's."""
        ...


class ScratchLease(Lease, Protocol):
    @property
    def fd(self) -> int:
        """A detached mount for /tmp, -1 for a tmpfs made by the child."""
        ...


class LimitsLease(Lease, Protocol):
    def procs_fds(self) -> Sequence[int]: ...
    def memory_peak_mb(self) -> int: ...
    def oom_kills(self) -> int: ...
    def process_count(self) -> int: ...
    def kill(self) -> None: ...


class Networks(Protocol):
    async def acquire(self, kind: str, *, environment_id: str, source: NamespaceSource | None = None) -> NetworkLease:
        """`source`: the zygote whose user namespace must own it; None where one maker serves all."""
        ...

    def adopt(self, kind: str, fds: list[int], *, environment_id: str) -> NetworkLease:
        """A namespace that was made with the environment; the descriptors become the lease's."""
        ...


class Scratches(Protocol):
    async def acquire(self, size_mb: int) -> ScratchLease: ...


class Limits(Protocol):
    def create(self, name: str, *, memory_mb: int) -> LimitsLease: ...
    def make(self, name: str) -> LimitsLease:
        """A group without limits, for a shell: `limit` sets them before any code of a tenant is in it."""
        ...

    def limit(self, lease: LimitsLease, *, memory_mb: int) -> None: ...

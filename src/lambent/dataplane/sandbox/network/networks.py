"""The network of every environment of a node: namespaces from the pool, their way out through the egress process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping

from lambent.dataplane.sandbox.network.egress_link import Egress
from lambent.dataplane.sandbox.network.namespace import Namespace
from lambent.dataplane.sandbox.network.policy import EgressPolicy
from lambent.dataplane.sandbox.network.pool import DEFAULT_SPARE, NamespaceSource, NetworkPool, PoolStatistics
from lambent.model.errors import PlatformError


class NetworkLease:
    """One environment's network. `release` ends its connections and lets the kernel remove the namespace."""

    def __init__(self, namespace: Namespace, egress: Egress, environment_id: str) -> None:
        self._namespace = namespace
        self._egress = egress
        self._environment_id = environment_id

    @property
    def fd(self) -> int:
        return self._namespace.fd

    def take_runtime_api(self) -> socket.socket:
        """The listener of the Runtime API; becomes the caller's."""
        return self._namespace.take_runtime_api()

    def release(self) -> None:
        self._egress.remove(self._environment_id)
        self._namespace.release()


class EnvironmentNetworks:
    """Implements the launcher's `Networks`. Each source of namespaces has a pool of its own.

    As root there is one source for all. As an ordinary user each zygote makes those of its own environments, for only
    its user namespace may enter them: name it with `acquire(..., source=zygote)`.
    """

    def __init__(
        self,
        egress: Egress,
        *,
        maker: NamespaceSource | None,
        policy: EgressPolicy,
        spare: Mapping[str, int] = DEFAULT_SPARE,
    ) -> None:
        """`maker` None: every `acquire` names its source."""
        self._egress = egress
        self._policy = policy
        self._spare = spare
        self._maker = maker
        self._pools: dict[NamespaceSource, NetworkPool] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Make the first namespaces, so that a machine that cannot says so now. Raises PlatformError."""
        if self._maker is not None:
            await self._pool(self._maker).start()

    async def acquire(self, kind: str, *, environment_id: str, source: NamespaceSource | None = None) -> NetworkLease:
        """`kind` is `outgoing` or `none`. At once when one is ready. Raises PlatformError."""
        self._drop_dead()
        chosen = source or self._maker
        if chosen is None:
            raise PlatformError("no one makes network namespaces here", retry_safe=True)
        namespace = await self._pool(chosen).acquire(kind)
        if namespace.outgoing:
            self._egress.add(environment_id, namespace.outgoing, self._policy)
        return NetworkLease(namespace, self._egress, environment_id)

    def adopt(self, kind: str, fds: list[int], *, environment_id: str) -> NetworkLease:
        """A namespace that was made elsewhere, for this environment alone; the descriptors become ours."""
        namespace = Namespace(kind, fds)
        if namespace.outgoing:
            self._egress.add(environment_id, namespace.outgoing, self._policy)
        return NetworkLease(namespace, self._egress, environment_id)

    def statistics(self) -> list[Mapping[str, PoolStatistics]]:
        """One entry for each source."""
        return [pool.statistics() for pool in self._pools.values()]

    async def close(self) -> None:
        """Close the pools; leases that are out stay their owners'."""
        pools = list(self._pools.values())
        self._pools.clear()
        for pool in pools:
            await pool.close()
        await asyncio.gather(*self._closing)

    def _pool(self, source: NamespaceSource) -> NetworkPool:
        if source not in self._pools:
            self._pools[source] = NetworkPool(source, spare=self._spare)
        return self._pools[source]

    def _drop_dead(self) -> None:
        """The namespaces of an ended zygote can be entered by nobody any more."""
        for source in [source for source in self._pools if not source.alive]:
            task = asyncio.create_task(self._pools.pop(source).close(), name="close a pool of network namespaces")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

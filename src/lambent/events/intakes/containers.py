"""Events of a container runtime (Docker or Podman, by Docker's API over its socket) as CloudEvents.

A started container is described with what a security check looks at: image, user, privileges, mounts, ports. The time
of the last event that was handed over is kept, and the next connection asks for what came since: a runtime keeps the
latest events for that. What comes twice is left out by its time and container.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from lambent.events.deliveries import Deliveries, Delivery
from lambent.model.errors import CallerError, PlatformError
from lambent.substrate.ports import Connection, Schema, Tables

log = logging.getLogger(__name__)

ACTIONS = ("create", "start", "die", "oom", "kill", "stop", "destroy")
FIRST_PAUSE_S, LAST_PAUSE_S = 0.5, 30.0
_MOST_BYTES = 4_194_304
"""Of one event or one description."""
SCHEMA = Schema(
    name="containers",
    versions=(
        """
        CREATE TABLE containers_seen (
            socket TEXT NOT NULL, at_ns INTEGER NOT NULL, container TEXT NOT NULL, action TEXT NOT NULL,
            PRIMARY KEY (socket, at_ns, container, action)
        ) STRICT, WITHOUT ROWID;
        """,
    ),
)
_OVERLAP_NS = 60 * 1_000_000_000
"""How far back is asked beyond the last event: those of one moment may come in another order."""


class ContainerEvents:
    """Reads from `start` to `stop`, and connects again for as long as that takes."""

    def __init__(
        self,
        tables: Tables,
        deliveries: Deliveries,
        *,
        socket: str,
        account: str,
        region: str,
        target: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`socket` is a path, `target` the ARN of a function, queue, topic or bus of the account."""
        self._tables = tables
        self._deliveries = deliveries
        self._socket = socket
        self._account, self._region, self._target = account, region, target
        self._now = now
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="read container events")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async for event in self._follow():
                    await self._take(event)
                    pause_s = FIRST_PAUSE_S
            except (PlatformError, OSError) as exc:
                said = {"action": "containers_lost", "socket": self._socket, "reason": str(exc)}
                log.warning("container events cannot be read", extra=said)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LAST_PAUSE_S)

    async def _follow(self) -> AsyncIterator[dict[str, Any]]:
        """Until the runtime ends the stream. Raises PlatformError."""
        last_ns = await self._tables.read(self._read_last)
        filters = quote(msgspec.json.encode({"type": ["container"], "event": list(ACTIONS)}))
        since = f"&since={(last_ns - _OVERLAP_NS) / 1e9:.9f}" if last_ns else f"&since={self._now():.9f}"
        async with _open(self._socket) as pool, _get(pool, f"/events?filters={filters}{since}") as response:
            if response.status != 200:
                raise PlatformError(f"the runtime answered {response.status}")
            waiting = b""
            async for piece in response.aiter_stream():
                waiting += piece
                *lines, waiting = waiting.split(b"\n")
                if len(waiting) > _MOST_BYTES:
                    raise PlatformError("an event of the runtime has no end")
                for line in lines:
                    if line.strip():
                        yield _decode(line)

    async def _take(self, event: dict[str, Any]) -> None:
        key = (self._socket, int(event.get("timeNano", 0)), str(event["Actor"]["ID"]), str(event["Action"]))
        query = "SELECT 1 FROM containers_seen WHERE socket = ? AND at_ns = ? AND container = ? AND action = ?"
        if await self._tables.read(lambda connection: connection.execute(query, key).get) is not None:
            return
        described = await self._describe(key[2]) if event["Action"] in ("create", "start") else None
        await self._hand_over(write_event(event, described, self._account))
        await self._tables.write(lambda connection: self._see(connection, key))

    async def _hand_over(self, document: dict[str, Any]) -> None:
        """Tries until it is durable: the stream waits, and the runtime keeps what comes meanwhile."""
        to_bus = self._target.split(":")[2] == "events"
        delivery = Delivery(
            account=self._account,
            region=self._region,
            target=self._target,
            body=msgspec.json.encode(document["data"] if to_bus else document),
            source_arn=f"arn:lambent:containers:{self._region}:{self._account}:runtime",
            attributes={"Source": document["source"], "DetailType": document["type"]},
        )
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._deliveries.deliver(delivery)
            except (PlatformError, CallerError) as exc:
                log.warning("container event waits", extra={"action": "container_event_waits", "reason": str(exc)})
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LAST_PAUSE_S)
            else:
                return

    async def _describe(self, container: str) -> dict[str, Any] | None:
        """None when it is gone already."""
        async with _open(self._socket) as pool, _get(pool, f"/containers/{quote(container, safe='')}/json") as response:
            if response.status != 200:
                return None
            body = b""
            async for piece in response.aiter_stream():
                body += piece
                if len(body) > _MOST_BYTES:
                    return None
        return _decode(body)

    def _read_last(self, connection: Connection) -> int:
        found = connection.execute("SELECT max(at_ns) FROM containers_seen WHERE socket = ?", (self._socket,)).get
        return int(found or 0)

    def _see(self, connection: Connection, key: tuple[str, int, str, str]) -> None:
        connection.execute("INSERT OR REPLACE INTO containers_seen VALUES (?, ?, ?, ?)", key)
        # A little more than is asked for again.
        connection.execute(
            "DELETE FROM containers_seen WHERE socket = ? AND at_ns < ?", (key[0], key[1] - 2 * _OVERLAP_NS)
        )


def write_event(event: dict[str, Any], described: dict[str, Any] | None, account: str) -> dict[str, Any]:
    """A CloudEvent of the type `container.ACTION`; `data` has the event and what a check looks at."""
    at_ns = int(event.get("timeNano", 0))
    attributes = event["Actor"].get("Attributes", {})
    data: dict[str, Any] = {
        "action": event["Action"],
        "container": event["Actor"]["ID"],
        "name": attributes.get("name", ""),
        "image": attributes.get("image", ""),
        "attributes": attributes,
    }
    if described is not None:
        host, config = described.get("HostConfig", {}), described.get("Config", {})
        data["config"] = {
            "user": config.get("User", ""),
            "privileged": bool(host.get("Privileged")),
            "network_mode": host.get("NetworkMode", ""),
            "pid_mode": host.get("PidMode", ""),
            "capabilities_added": host.get("CapAdd") or [],
            "security_options": host.get("SecurityOpt") or [],
            "read_only": bool(host.get("ReadonlyRootfs")),
            "mounts": [
                {"source": mount.get("Source", ""), "target": mount.get("Destination", ""), "writable": mount.get("RW")}
                for mount in described.get("Mounts") or []
            ],
            "ports": sorted(host.get("PortBindings") or {}),
        }
    return {
        "specversion": "1.0",
        "id": f"{event['Actor']['ID']}-{at_ns}-{event['Action']}",
        "source": f"/accounts/{account}/containers",
        "type": f"container.{event['Action']}",
        "subject": data["name"],
        "time": datetime.fromtimestamp(at_ns / 1e9, UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": data,
    }


@contextlib.asynccontextmanager
async def _open(path: str) -> AsyncIterator[Any]:
    import httpcore2  # noqa: PLC0415 - only for nodes that were given a socket

    try:
        async with httpcore2.AsyncConnectionPool(uds=path) as pool:
            yield pool
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as exc:
        raise PlatformError(str(exc) or type(exc).__name__, retry_safe=True) from exc


def _get(pool: Any, path: str) -> Any:
    return pool.stream("GET", f"http://runtime{path}")


def _decode(data: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(data)
    except ValueError as exc:
        raise PlatformError(f"the runtime sent what is not JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise PlatformError("the runtime sent what is no object")
    return document

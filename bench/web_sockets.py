"""What idle WebSocket connections cost a node.

python -m bench.web_sockets [CONNECTIONS]
"""

from __future__ import annotations

import asyncio
import base64
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from bench.run import port_of, pss_mb, say
from bench.web import connect

from lambent.testing.node import LambentNode

CONNECTIONS = 10_000
PER_ADDRESS = 5_000
"""An address has some 28,000 ports; several keep well below."""
AT_A_TIME = 200


class Client(asyncio.Protocol):
    """Shakes hands, then counts what comes."""

    def __init__(self, path: str, opened: asyncio.Future[None]) -> None:
        self._path = path
        self._opened = opened
        self.received = 0
        self.waiting: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(head.encode())

    def data_received(self, data: bytes) -> None:
        if not self._opened.done():
            if data.startswith(b"HTTP/1.1 101 "):
                self._opened.set_result(None)
            else:
                self._opened.set_exception(ConnectionError(data[:100].decode("latin-1")))
            return
        self.received += 1
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)


async def open_all(port: int, path: str, count: int) -> list[Client]:
    loop = asyncio.get_running_loop()
    room = asyncio.Semaphore(AT_A_TIME)

    async def open_one(number: int) -> Client:
        async with room:
            opened: asyncio.Future[None] = loop.create_future()
            address = (f"127.0.0.{2 + number // PER_ADDRESS}", 0)
            _, client = await loop.create_connection(
                lambda: Client(path, opened), "127.0.0.1", port, local_addr=address
            )
            await opened
            return client

    return await asyncio.gather(*(open_one(number) for number in range(count)))


async def measure(node: LambentNode, api: str, count: int) -> None:
    port = port_of(node.endpoint)
    before_mb = pss_mb(node.pid)
    began = time.perf_counter()
    clients = await open_all(port, f"/_lambent/api/{api}/live", count)
    opened_s = time.perf_counter() - began
    held_mb = pss_mb(node.pid) - before_mb
    say(f"{count} connections opened in {opened_s:.1f} s ({count / opened_s:.0f}/s)")
    say(f"node {before_mb:.1f} MB before, {held_mb:.1f} MB more with them: {held_mb * 1024 / count:.1f} KB each")
    ticks = cpu_s(node.pid)
    await asyncio.sleep(10)
    say(f"idle for 10 s they take {(cpu_s(node.pid) - ticks) * 1000:.0f} ms of processor time")
    for client in clients:
        client.transport.abort()


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 1_000
    if hard < wanted:
        sys.exit(f"{count} connections need {wanted} descriptors, and this shell has {hard}: ulimit -n {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    with (
        tempfile.TemporaryDirectory(prefix="lambent-bench-") as folder,
        LambentNode(Path(folder) / "data", arguments=["--log-level", "warning"]).running() as node,
    ):
        gateway = connect(node, "apigatewayv2")
        api = gateway.create_api(Name="idle", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.a")
        gateway.create_stage(ApiId=api["ApiId"], StageName="live", AutoDeploy=True)
        asyncio.run(measure(node, api["ApiId"], count))


if __name__ == "__main__":
    main()

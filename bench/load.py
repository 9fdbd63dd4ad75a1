"""Closed-loop HTTP load from its own process: as little work per request as Python allows.

Run as `python bench/load.py HOST PORT CONNECTIONS SECONDS < request-bytes`; prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop


class Client(asyncio.Protocol):
    """Sends the request, waits for the whole answer, sends again until the end."""

    def __init__(self, request: bytes, load: Load) -> None:
        self._request = request
        self._load = load
        self._expected = 0
        self._got = 0
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._got += len(data)
        if not self._expected:
            self._expected = self._length_of(data)
        if self._got < self._expected:
            return
        if data[9:12] != b"200" and self._got == len(data):
            self._load.errors += 1
        self._load.latencies.append(time.perf_counter() - self._began)
        if time.perf_counter() < self._load.end_at:
            self._send()
        else:
            self._load.finish()
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if time.perf_counter() < self._load.end_at:
            self._load.errors += 1
            self._load.finish()

    def _send(self) -> None:
        self._got = self._expected = 0
        self._began = time.perf_counter()
        self._transport.write(self._request)

    @staticmethod
    def _length_of(data: bytes) -> int:
        head, _, _ = data.partition(b"\r\n\r\n")
        at = head.lower().index(b"content-length:") + 15
        return len(head) + 4 + int(head[at : at + 12].split(b"\r\n")[0])


class Load:
    def __init__(self, connections: int) -> None:
        self.latencies: list[float] = []
        self.errors = 0
        self.end_at = 0.0
        self._left = connections
        self.done = asyncio.Event()

    def finish(self) -> None:
        self._left -= 1
        if not self._left:
            self.done.set()


async def run(host: str, port: int, connections: int, seconds: float, request: bytes) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    load = Load(connections)
    load.end_at = time.perf_counter() + seconds
    began = time.perf_counter()
    for _ in range(connections):
        await loop.create_connection(lambda: Client(request, load), host, port)
    await load.done.wait()
    elapsed = time.perf_counter() - began
    latencies = sorted(load.latencies)
    return {
        "requests_per_s": len(latencies) / elapsed,
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
        "errors": load.errors,
    }


if __name__ == "__main__":
    _, host, port, connections, seconds = sys.argv
    body = sys.stdin.buffer.read()
    print(json.dumps(uvloop.run(run(host, int(port), int(connections), float(seconds), body))))

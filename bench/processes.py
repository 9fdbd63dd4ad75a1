"""Throughput of a node of one and of two processes, beside a bare uvicorn in the same run. JSON on stdout.

Sixteen connections over several functions, so that each process is the home of some and forwards the others. Floor and
subjects take turns; the ratios are medians of the turns.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lambent.members.membership import choose_home
from lambent.testing.node import LambentNode, make_zip

HERE = Path(__file__).parent
BARE_PORT = 8_798
CONNECTIONS = 16
FUNCTIONS = 4
SECONDS = float(os.environ.get("BENCH_SECONDS", "3"))
TURNS = int(os.environ.get("BENCH_TURNS", "3"))
HELLO = 'def handler(event, context):\n    return {"message": "Hello, world!"}\n'
EVENT = b'{"name": "world"}'


def main() -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(bare())
        endpoints = {"bare": f"http://127.0.0.1:{BARE_PORT}"}
        functions = {"bare": ["f"] * FUNCTIONS}
        for processes in (1, 2):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            arguments = ["--dev", "--processes", str(processes)]
            node = stack.enter_context(LambentNode(Path(folder) / "data", arguments=arguments).running())
            name = f"{processes} process{'es' if processes > 1 else ''}"
            endpoints[name] = node.endpoint
            functions[name] = choose_names(node.endpoint, processes)
            for function in functions[name]:
                create(node.endpoint, function)
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in endpoints}
        for _ in range(TURNS):
            for name, endpoint in endpoints.items():
                turns[name].append(load(endpoint, functions[name]))
    floor = statistics.median(turn["requests_per_s"] for turn in turns["bare"])
    print(json.dumps({name: summarise(measured, floor) for name, measured in turns.items()}, indent=2))


def summarise(turns: list[dict[str, float]], floor: float) -> dict[str, float]:
    served = statistics.median(turn["requests_per_s"] for turn in turns)
    return {
        "requests_per_s": round(served),
        "of bare": round(served / floor, 3),
        "p50_ms": round(statistics.median(turn["p50_ms"] for turn in turns), 2),
        "p99_ms": round(statistics.median(turn["p99_ms"] for turn in turns), 2),
        "errors": sum(turn["errors"] for turn in turns),
    }


@contextlib.contextmanager
def bare() -> Iterator[None]:
    body = '{"message": "Hello, world!"}'
    process = subprocess.Popen([sys.executable, HERE / "bare.py", str(BARE_PORT), body])
    try:
        deadline_at = time.monotonic() + 30
        while time.monotonic() < deadline_at:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{BARE_PORT}/"):
                break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def create(endpoint: str, name: str) -> None:
    code = base64.b64encode(make_zip({"app.py": HELLO})).decode()
    runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"
    role = "arn:aws:iam::123456789012:role/any"
    body = {"FunctionName": name, "Runtime": runtime, "Role": role, "Handler": "app.handler", "Code": {"ZipFile": code}}
    ask(f"{endpoint}/2015-03-31/functions", json.dumps(body).encode())
    while ask(f"{endpoint}/2015-03-31/functions/{name}/configuration")["State"] != "Active":
        time.sleep(0.01)
    ask(f"{endpoint}/2015-03-31/functions/{name}/invocations", EVENT)


def ask(url: str, body: bytes | None = None) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, data=body)) as response:
        return json.load(response)


def choose_names(endpoint: str, processes: int) -> list[str]:
    """As many at home in each process: what is measured is not the luck of a few names."""
    account = ask(f"{endpoint}/_lambent/status")["account"]
    members = [str(index) for index in range(processes)]
    names = [f"f{number}" for number in range(200)]
    by_home = [[name for name in names if choose_home(f"{account}/{name}", members) == member] for member in members]
    return [name for names in by_home for name in names[: FUNCTIONS // processes]]


def load(endpoint: str, functions: list[str]) -> dict[str, float]:
    """One load process per function, their connections together."""
    host, port = endpoint.removeprefix("http://").split(":")
    share = str(CONNECTIONS // FUNCTIONS)
    runs = []
    for function in functions:
        request = (
            f"POST /2015-03-31/functions/{function}/invocations HTTP/1.1\r\nhost: {host}\r\n"
            f"content-length: {len(EVENT)}\r\n\r\n"
        ).encode() + EVENT
        command = [sys.executable, str(HERE / "load.py"), host, port, share, str(SECONDS)]
        run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert run.stdin is not None
        run.stdin.write(request)
        run.stdin.close()
        runs.append(run)
    results = []
    for run in runs:
        assert run.stdout is not None
        results.append(json.loads(run.stdout.read()))
        run.wait()
    return {
        "requests_per_s": sum(result["requests_per_s"] for result in results),
        "p50_ms": statistics.median(result["p50_ms"] for result in results),
        "p99_ms": max(result["p99_ms"] for result in results),
        "errors": sum(result["errors"] for result in results),
    }


if __name__ == "__main__":
    main()

"""What Lambent costs, each figure beside a floor measured in the same run. `make bench`; JSON in bench/results/.

Machines differ and are noisy: read the ratios. Floor and subject take turns, and each ratio is the median of the turns.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lambent.awsapi.sigv4 import sign
from lambent.testing.node import LambentNode, make_zip

HERE = Path(__file__).parent
TURNS = 3
SECONDS = 2.0
CONNECTIONS = (1, 16, 64)
COLD_STARTS = 40
HELLO = 'def handler(event, context):\n    return {"message": "Hello, world!"}\n'
EVENT = b'{"name": "world"}'
TARGETS = {
    "dev throughput at 16 / bare": (">=", 0.55),
    "signed throughput at 16 / bare": (">=", 0.40),
    "dev p50 at 1 / bare": ("<=", 2.0),
    "cold start / python3 -c pass": ("<=", 0.8),
    "idle environment, MB PSS": ("<=", 5.0),
    "idle node, MB PSS": ("<=", 80.0),
}


class Caller:
    """Signed requests to one node, as plain as can be."""

    def __init__(self, node: LambentNode) -> None:
        self.endpoint = node.endpoint
        lines = dict(line.split(" = ", 1) for line in node.profile.read_text().splitlines() if " = " in line)
        self._key, self._secret = lines["aws_access_key_id"], lines["aws_secret_access_key"]

    def headers(self, method: str, path: str, body: bytes, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return sign(
            method=method,
            url=self.endpoint + path,
            headers={"content-type": "application/json", **(more or {})},
            body=body,
            access_key=self._key,
            secret=self._secret,
            region="us-east-1",
        )

    def send(self, method: str, path: str, body: bytes = b"") -> Any:
        request = urllib.request.Request(
            self.endpoint + path, data=body or None, headers=self.headers(method, path, body), method=method
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def send_event(self, name: str, body: bytes) -> None:
        """An asynchronous invocation, answered by 202 without a body."""
        path = f"/2015-03-31/functions/{name}/invocations"
        headers = self.headers("POST", path, body, {"x-amz-invocation-type": "Event"})
        request = urllib.request.Request(self.endpoint + path, data=body, headers=headers, method="POST")
        with urllib.request.urlopen(request) as response:
            assert response.status == 202

    def create(self, name: str) -> None:
        self.create_from(name, make_zip({"app.py": HELLO}))

    def create_from(self, name: str, package: bytes, *, timeout_s: int = 3) -> None:
        code = base64.b64encode(package).decode()
        role = "arn:aws:iam::123456789012:role/any"
        runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"
        body = {"FunctionName": name, "Runtime": runtime, "Role": role, "Handler": "app.handler", "Timeout": timeout_s}
        self.send("POST", "/2015-03-31/functions", json.dumps({**body, "Code": {"ZipFile": code}}).encode())
        while self.send("GET", f"/2015-03-31/functions/{name}/configuration")["State"] != "Active":
            time.sleep(0.01)

    def raw_invoke(self, name: str) -> bytes:
        """The bytes of a signed invocation, to be sent again and again."""
        path = f"/2015-03-31/functions/{name}/invocations"
        headers = {**self.headers("POST", path, EVENT), "content-length": str(len(EVENT))}
        lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + EVENT


def load(port: int, connections: int, request: bytes) -> dict[str, float]:
    command = [sys.executable, str(HERE / "load.py"), "127.0.0.1", str(port), str(connections), str(SECONDS)]
    done = subprocess.run(command, input=request, capture_output=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    assert not result["errors"], f"{result['errors']:.0f} answers were errors"
    return result


def port_of(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def measure_throughput(bare_port: int, dev: LambentNode, signed: LambentNode) -> dict[str, Any]:
    callers = {"dev": Caller(dev), "signed": Caller(signed)}
    for caller in callers.values():
        caller.create("hello")
        caller.send("POST", "/2015-03-31/functions/hello/invocations", EVENT)
    results: dict[str, Any] = {}
    for connections in CONNECTIONS:
        turns: dict[str, list[dict[str, float]]] = {"bare": [], "dev": [], "signed": []}
        for name, node in (("dev", dev), ("signed", signed)):
            # Not measured: as many environments as connections are started by it.
            load(port_of(node.endpoint), connections, callers[name].raw_invoke("hello"))
        for _ in range(TURNS):
            turns["bare"].append(load(bare_port, connections, callers["dev"].raw_invoke("hello")))
            for name, node in (("dev", dev), ("signed", signed)):
                turns[name].append(load(port_of(node.endpoint), connections, callers[name].raw_invoke("hello")))
        results[str(connections)] = {name: summarise(runs, turns["bare"]) for name, runs in turns.items()}
        say(f"{connections:3} connections: " + "; ".join(describe(name, results[str(connections)]) for name in turns))
    return results


def summarise(runs: list[dict[str, float]], floor: list[dict[str, float]]) -> dict[str, float]:
    def median(name: str) -> float:
        return statistics.median(run[name] for run in runs)

    def ratio(name: str) -> float:
        return statistics.median(run[name] / base[name] for run, base in zip(runs, floor, strict=True))

    return {
        "requests_per_s": median("requests_per_s"),
        "p50_ms": median("p50_ms"),
        "p99_ms": median("p99_ms"),
        "throughput_ratio": ratio("requests_per_s"),
        "p50_ratio": ratio("p50_ms"),
    }


def describe(name: str, results: dict[str, dict[str, float]]) -> str:
    figures = results[name]
    text = f"{name} {figures['requests_per_s']:.0f}/s p50 {figures['p50_ms']:.2f} p99 {figures['p99_ms']:.2f} ms"
    return text if name == "bare" else f"{text} (x{figures['throughput_ratio']:.2f})"


def measure_cold_starts(node: LambentNode) -> dict[str, float]:
    """From request to answer of a function that has no environment, beside `python3 -c pass`, in turns."""
    caller = Caller(node)
    starts, floors = [], []
    floor = [sys.executable, "-c", "pass"]
    for _ in range(COLD_STARTS):
        name = f"cold-{uuid.uuid4().hex[:8]}"
        caller.create(name)
        wait_calm(node)
        path = f"/2015-03-31/functions/{name}/invocations"
        starts.append(timed(functools.partial(caller.send, "POST", path, EVENT)))
        floors.append(timed(functools.partial(subprocess.run, floor, check=True)))
    return {
        "cold_start_ms": statistics.median(starts) * 1000,
        "python_pass_ms": statistics.median(floors) * 1000,
        "ratio": statistics.median(starts) / statistics.median(floors),
    }


def wait_calm(node: LambentNode) -> None:
    """Until the node and what it keeps ready use no processor time: pools refill behind a cold start."""
    before = processor_ticks(node.pid)
    while True:
        time.sleep(0.05)
        now = processor_ticks(node.pid)
        if now == before:
            return
        before = now


def processor_ticks(pid: int) -> int:
    return sum(int(field) for field in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure_memory(node: LambentNode) -> dict[str, float]:
    """PSS of the node process and of one idle environment (its init and its runtime)."""
    caller = Caller(node)
    environments = caller.send("GET", "/_lambent/status")["environments"]
    sizes = [sum(pss_mb(pid) for pid in family(entry["pid"])) for entry in environments if entry["state"] == "idle"]
    return {"environment_mb": statistics.median(sizes), "node_mb": pss_mb(node.pid)}


def family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in family(int(child)))]


def pss_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.split("\nPss:")[1].split()[0]) / 1024


def measure_first_answer(folder: Path) -> dict[str, float]:
    """From `lambent up` on a data folder with one function to its first answer, beside `python3 -c pass`."""
    node = LambentNode(folder)
    with node.running():
        Caller(node).create("first")
    began = time.perf_counter()
    with node_again(folder) as again:
        Caller(again).send("POST", "/2015-03-31/functions/first/invocations", EVENT)
        elapsed = time.perf_counter() - began
    return {"up_to_first_answer_ms": elapsed * 1000}


def node_again(folder: Path) -> Any:
    return LambentNode(folder).running()


def judge(figures: dict[str, float]) -> dict[str, dict[str, Any]]:
    verdicts = {}
    for name, (sign_, goal) in TARGETS.items():
        met = figures[name] >= goal if sign_ == ">=" else figures[name] <= goal
        verdicts[name] = {"measured": round(figures[name], 3), "goal": f"{sign_} {goal}", "met": met}
        say(f"{'ok ' if met else 'MISS'}  {name}: {figures[name]:.2f} (goal {sign_} {goal})")
    return verdicts


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="lambent-bench-") as name:
        folder = Path(name)
        bare = subprocess.Popen([sys.executable, str(HERE / "bare.py"), "8798", '{"message": "Hello, world!"}'])
        try:
            with (
                LambentNode(folder / "dev", arguments=["--dev", "--log-level", "warning"]).running() as dev,
                LambentNode(folder / "signed", arguments=["--log-level", "warning"]).running() as signed,
            ):
                idle_node_mb = pss_mb(signed.pid)
                throughput = measure_throughput(8798, dev, signed)
                cold = measure_cold_starts(signed)
                say(f"cold start {cold['cold_start_ms']:.1f} ms, python3 -c pass {cold['python_pass_ms']:.1f} ms")
                memory = measure_memory(signed)
        finally:
            bare.terminate()
            bare.wait()
        first = measure_first_answer(folder / "first")
        say(f"`lambent up` to first answer {first['up_to_first_answer_ms']:.0f} ms")
    verdicts = judge(
        {
            "dev throughput at 16 / bare": throughput["16"]["dev"]["throughput_ratio"],
            "signed throughput at 16 / bare": throughput["16"]["signed"]["throughput_ratio"],
            "dev p50 at 1 / bare": throughput["1"]["dev"]["p50_ratio"],
            "cold start / python3 -c pass": cold["ratio"],
            "idle environment, MB PSS": memory["environment_mb"],
            "idle node, MB PSS": idle_node_mb,
        }
    )
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    path = results / f"{time.strftime('%Y%m%dT%H%M%S')}.json"
    path.write_text(
        json.dumps(
            {
                "machine": {"cpus": os.cpu_count(), "kernel": os.uname().release, "python": sys.version.split()[0]},
                "throughput": throughput,
                "cold_start": cold,
                "memory": {**memory, "idle_node_mb": idle_node_mb},
                "start": first,
                "verdicts": verdicts,
            },
            indent=2,
        )
    )
    say(f"written to {path}")


if __name__ == "__main__":
    main()

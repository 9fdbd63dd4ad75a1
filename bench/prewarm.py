"""What environments that wait without code are worth: cold starts with shells and without, beside bare interpreters.

`python -m bench.prewarm`. Read the ratios: floor and subject take turns, and each ratio is one of medians.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import itertools
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.run import EVENT, HELLO, Caller, port_of, pss_mb, say, timed, wait_calm

from lambent.testing.node import LambentNode, make_zip

TURNS = 40
FUNCTIONS = 200
SUSTAINED_S = 10.0
CONNECTIONS = 4
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
NODE_HELLO = 'exports.handler = async () => ({ message: "Hello, world!" });\n'


def create(caller: Caller, name: str, runtime: str, files: dict[str, str], handler: str) -> None:
    code = base64.b64encode(make_zip(files)).decode()
    role = "arn:aws:iam::123456789012:role/any"
    body = {"FunctionName": name, "Runtime": runtime, "Role": role, "Handler": handler, "Code": {"ZipFile": code}}
    caller.send("POST", "/2015-03-31/functions", json.dumps(body).encode())
    while caller.send("GET", f"/2015-03-31/functions/{name}/configuration")["State"] != "Active":
        time.sleep(0.01)


def create_python(caller: Caller, name: str) -> None:
    create(caller, name, PYTHON, {"app.py": HELLO}, "app.handler")


def create_node(runtime: str, caller: Caller, name: str) -> None:
    create(caller, name, runtime, {"index.js": NODE_HELLO}, "index.handler")


def invoke(caller: Caller, name: str) -> None:
    answer = caller.send("POST", f"/2015-03-31/functions/{name}/invocations", EVENT)
    assert answer == {"message": "Hello, world!"}, answer


def measure_starts(
    nodes: dict[str, LambentNode], create_one: Callable[[Caller, str], None], floor: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Milliseconds from request to answer of a function that has no environment, on each node and bare, in turns."""
    times: dict[str, list[float]] = {"bare": [], **{name: [] for name in nodes}}
    tag = f"{time.time_ns()}"
    for node in nodes.values():
        # The zygote, and the first shells.
        create_one(Caller(node), f"first-{tag}")
        invoke(Caller(node), f"first-{tag}")
    for turn in range(TURNS):
        for name, node in nodes.items():
            caller = Caller(node)
            create_one(caller, f"cold-{tag}-{turn}")
            wait_calm(node)
            times[name].append(timed(functools.partial(invoke, caller, f"cold-{tag}-{turn}")))
        times["bare"].append(timed(functools.partial(subprocess.run, list(floor), check=True)))
    bare = statistics.median(times["bare"])
    return {
        name: {"ms": statistics.median(values) * 1000, "ratio": statistics.median(values) / bare}
        for name, values in times.items()
    }


def measure_sustained(node: LambentNode) -> dict[str, float]:
    """Cold starts a second: distinct functions in turn on a node that keeps environments for less than a turn takes."""
    caller = Caller(node)
    names = [f"many-{number}" for number in range(FUNCTIONS)]
    for name in names:
        create_python(caller, name)
    requests = [caller.raw_invoke(name) for name in names]
    before = caller.send("GET", "/_lambent/status")["counters"]
    until = time.perf_counter() + SUSTAINED_S
    threads = [
        threading.Thread(target=keep_invoking, args=(port_of(node.endpoint), requests[offset::CONNECTIONS], until))
        for offset in range(CONNECTIONS)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - began
    after = caller.send("GET", "/_lambent/status")["counters"]
    cold, all_ = (after[key] - before.get(key, 0) for key in ("cold_starts", "invocations"))
    return {"cold_starts_per_s": cold / elapsed, "cold_share": cold / all_}


def keep_invoking(port: int, requests: Sequence[bytes], until: float) -> None:
    """One request after the other over one connection, as cheap as can be: the machine is the node's."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for request in itertools.cycle(requests):
            if time.perf_counter() >= until:
                return
            connection.sendall(request)
            answer = connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200"), answer


def memory_of_shells(node: LambentNode) -> float:
    """MB of PSS of a shell that waits: one process."""
    status = Caller(node).send("GET", "/_lambent/status")
    zygote = status["zygotes"][PYTHON]
    used = {entry["pid"] for entry in status["environments"]}
    children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
    sizes = [pss_mb(int(pid)) for pid in children if int(pid) not in used]
    return statistics.median(sizes)


def measure(folder: Path) -> dict[str, Any]:
    quiet = ["--log-level", "warning"]
    results: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        nodes = {
            name: stack.enter_context(
                LambentNode(folder / name, arguments=quiet, environ={"LAMBENT_PREWARM_SHELLS": shells}).running()
            )
            for name, shells in (("with shells", "2"), ("without", "0"))
        }
        floor = [sys.executable, "-c", "pass"]
        results["python"] = measure_starts(nodes, create_python, floor)
        tell("Python", "python3 -c pass", results["python"])
        results["shell_mb"] = memory_of_shells(nodes["with shells"])
        say(f"a shell that waits: {results['shell_mb']:.1f} MB PSS")
        node = shutil.which("node")
        if node is not None:
            major = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
            runtime = f"nodejs{major.lstrip('v').partition('.')[0]}.x"
            results["node"] = measure_starts(nodes, functools.partial(create_node, runtime), [node, "-e", "0"])
            tell(f"Node ({runtime})", "node -e 0", results["node"])
    for name, shells in (("with shells", "2"), ("without", "0")):
        environ = {"LAMBENT_PREWARM_SHELLS": shells, "LAMBENT_KEEP_ALIVE_SECONDS": "1"}
        many = LambentNode(folder / f"many-{shells}", arguments=["--dev", *quiet], environ=environ)
        with many.running():
            results[f"sustained {name}"] = measure_sustained(many)
        figures = results[f"sustained {name}"]
        share = figures["cold_share"]
        say(f"sustained {name}: {figures['cold_starts_per_s']:.0f} cold starts/s ({share:.0%} of invocations)")
    return results


def judge(results: dict[str, Any]) -> None:
    figures = {
        "cold start with shells / python3 -c pass": (results["python"]["with shells"]["ratio"], "<=", 0.5),
        "cold starts a second": (results["sustained with shells"]["cold_starts_per_s"], ">=", 150.0),
    }
    if "node" in results:
        figures["Node cold start with shells / node -e 0"] = (results["node"]["with shells"]["ratio"], "<=", 1.3)
    for name, (measured, sign, goal) in figures.items():
        met = measured <= goal if sign == "<=" else measured >= goal
        say(f"{'ok ' if met else 'MISS'}  {name}: {measured:.2f} (goal {sign} {goal})")


def tell(what: str, floor: str, figures: dict[str, dict[str, float]]) -> None:
    parts = (
        f"{name} {entry['ms']:.1f} ms (x{entry['ratio']:.2f})" for name, entry in figures.items() if name != "bare"
    )
    say(f"{what}: {', '.join(parts)}; {floor} {figures['bare']['ms']:.1f} ms")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="lambent-bench-") as name:
        judge(measure(Path(name)))


if __name__ == "__main__":
    main()

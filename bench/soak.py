"""Mixed traffic for minutes, then a look at what is left. `python bench/soak.py [MINUTES] [lambent up arguments]`.

Cold, warm and SnapStart starts, code that changes under load, timeouts, crashes, log lines, events of many sizes, ten
functions. Ends with 1 when an invocation failed that its function did not make fail, or when anything is left over.
"""

from __future__ import annotations

import collections
import dataclasses
import http.client
import json
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from lambent.awsapi.sigv4 import sign
from lambent.testing.node import LambentNode, make_zip

CALLERS = 8
KEEP_ALIVE_S = 3
ROLE = "arn:aws:iam::123456789012:role/any"
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
SOURCE = """
import json, os, random, time
REVISION = {revision}
with open("/tmp/mine", "x") as file:
    file.write("one environment, one folder")
def handler(event, context):
    kind = event["kind"]
    if kind == "sleep":
        time.sleep(event["s"])
    elif kind == "print":
        for number in range(event["lines"]):
            print(json.dumps({{"line": number, "id": context.aws_request_id}}))
    elif kind == "raise":
        raise ValueError("asked for")
    elif kind == "exit":
        os._exit(3)
    elif kind == "hang":
        time.sleep(30)
    elif kind == "memory":
        bytearray(400_000_000)
    return {{"kind": kind, "revision": REVISION, "size": len(event.get("text", "")), "id": context.aws_request_id}}
"""
EXPECTED = {
    "raise": "ValueError",
    "exit": "Runtime.ExitError",
    "hang": "Sandbox.Timedout",
    "memory": "Runtime.ExitError",
}
"""What a function that is asked to fail is to fail with; Runtime.OutOfMemory counts as MemoryError too."""
SLACK = {"processes": 4, "descriptors": 12, "mounts": 0, "cgroups": 4}
"""Between two looks: what waits in pools, and connections that happen to be open."""
MEMORY_ERRORS = {"MemoryError", "Runtime.ExitError", "Runtime.OutOfMemory"}


@dataclasses.dataclass
class Tally:
    done: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    wrong: list[str] = dataclasses.field(default_factory=list)
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def count(self, kind: str, problem: str = "") -> None:
        with self.lock:
            self.done[kind] += 1
            if problem:
                self.wrong.append(f"{kind}: {problem}")


class Caller:
    """Signed invocations over one kept connection."""

    def __init__(self, node: LambentNode) -> None:
        lines = dict(line.split(" = ", 1) for line in node.profile.read_text().splitlines() if " = " in line)
        self._key, self._secret = lines["aws_access_key_id"], lines["aws_secret_access_key"]
        self._endpoint = node.endpoint
        address = urlsplit(node.endpoint)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)

    def invoke(self, name: str, event: Any, qualifier: str = "") -> tuple[int, str, Any]:
        path = f"/2015-03-31/functions/{name}/invocations" + (f"?Qualifier={qualifier}" if qualifier else "")
        return self._send("POST", path, json.dumps(event).encode())

    def status(self) -> Any:
        return self._send("GET", "/_lambent/status", b"")[2]

    def _send(self, method: str, path: str, body: bytes) -> tuple[int, str, Any]:
        headers = sign(
            method=method,
            url=self._endpoint + path,
            headers={},
            body=body,
            access_key=self._key,
            secret=self._secret,
            region="us-east-1",
        )
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        return response.status, response.headers.get("x-amz-function-error", ""), json.loads(response.read())


def choose_event(rng: random.Random) -> dict[str, Any]:
    draw = rng.random()
    if draw < 0.75:
        return {"kind": "echo", "text": "x" * int(rng.paretovariate(0.7) % 200_000)}
    if draw < 0.88:
        return {"kind": "sleep", "s": rng.random() / 5}
    if draw < 0.96:
        return {"kind": "print", "lines": rng.randrange(1, 200)}
    return {"kind": rng.choice(["raise", "raise", "exit", "hang", "memory"])}


def judge(event: dict[str, Any], status: int, error: str, answer: Any) -> str:
    """Empty when all is as it should be."""
    kind = event["kind"]
    if status != 200:
        return f"{status} {answer}"
    if kind not in EXPECTED:
        ok = not error and answer["kind"] == kind and answer["size"] == len(event.get("text", ""))
        return "" if ok else str(answer)[:300]
    found = answer.get("errorType", "")
    expected = MEMORY_ERRORS if kind == "memory" else {EXPECTED[kind]}
    return "" if error == "Unhandled" and found in expected else str(answer)[:300]


class Soak:
    def __init__(self, node: LambentNode) -> None:
        self._node = node
        self._end_at = 0.0
        self.tally = Tally()
        self._names = [f"f{number}" for number in range(10)]
        environ = node.environ()
        os.environ.update({key: value for key, value in environ.items() if key.startswith("AWS_")})
        self._api = boto3.session.Session(profile_name="lambent").client("lambda", config=Config(read_timeout=120))
        self._snap = ""

    def deploy(self) -> None:
        for name in self._names:
            self._api.create_function(
                FunctionName=name,
                Runtime=RUNTIME,
                Role=ROLE,
                Handler="app.handler",
                Timeout=2,
                MemorySize=256,
                Code={"ZipFile": make_zip({"app.py": SOURCE.format(revision=0)})},
            )
            self._api.get_waiter("function_active_v2").wait(FunctionName=name)
        self._snap = self._publish_snap(self._names[9])

    def _publish_snap(self, name: str) -> str:
        """A version that starts from a snapshot, where the node offers that."""
        try:
            self._api.update_function_configuration(
                FunctionName=name, SnapStart={"ApplyOn": "PublishedVersions"}, Timeout=2
            )
        except self._api.exceptions.ClientError as exc:
            print(f"without SnapStart: {exc}", flush=True)
        self._api.get_waiter("function_updated_v2").wait(FunctionName=name)
        version: str = self._api.publish_version(FunctionName=name)["Version"]
        self._api.get_waiter("published_version_active").wait(FunctionName=name, Qualifier=version)
        return version

    def run(self, seconds: float) -> None:
        self._end_at = time.monotonic() + seconds
        threads = [threading.Thread(target=self._call, args=(seed,)) for seed in range(CALLERS)]
        threads.append(threading.Thread(target=self._update))
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            next(thread for thread in threads if thread.is_alive()).join(30)
            with self.tally.lock:
                print(f"{sum(self.tally.done.values())} invocations, {len(self.tally.wrong)} wrong", flush=True)

    def _call(self, seed: int) -> None:
        rng = random.Random(seed)
        caller = Caller(self._node)
        while time.monotonic() < self._end_at:
            event = choose_event(rng)
            # Few functions often and many seldom, with pauses beyond the keep-alive: warm, scaled out and cold.
            number = min(9, int(rng.expovariate(0.5)))
            qualifier = self._snap if number == 9 else ""
            try:
                status, error, answer = caller.invoke(self._names[number], event, qualifier)
                problem = judge(event, status, error, answer)
            except Exception as exc:
                problem = f"{type(exc).__name__}: {exc}"
                caller = Caller(self._node)
            self.tally.count("snap" if qualifier else event["kind"], problem)
            if rng.random() < 0.02:
                time.sleep(rng.random() * KEEP_ALIVE_S * 2)

    def _update(self) -> None:
        """New code under load; once its update is there, no answer of older code."""
        rng = random.Random("updates")
        revision = 0
        caller = Caller(self._node)
        while time.monotonic() < self._end_at:
            revision += 1
            name = self._names[rng.randrange(3)]
            code = make_zip({"app.py": SOURCE.format(revision=revision)})
            self._api.update_function_code(FunctionName=name, ZipFile=code)
            self._api.get_waiter("function_updated_v2").wait(FunctionName=name)
            status, _, answer = caller.invoke(name, {"kind": "echo"})
            problem = "" if status == 200 and answer.get("revision") == revision else f"old code: {status} {answer}"
            self.tally.count("update", problem)
            time.sleep(1)


@dataclasses.dataclass(frozen=True)
class Traces:
    """What a node holds of the machine."""

    processes: int
    descriptors: int
    mounts: int
    cgroups: int
    memory_mb: float

    @classmethod
    def of(cls, node: LambentNode) -> Traces:
        pid = node.pid
        # Other nodes of the machine have groups too.
        own = (node.data_dir / "node-id").read_text().strip()
        return cls(
            processes=len(family(pid)),
            descriptors=sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
            mounts=len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines()),
            cgroups=sum(1 for path in Path("/sys/fs/cgroup").glob(f"*/lambent-{own}*/*") if path.is_dir()),
            memory_mb=round(int(Path(f"/proc/{pid}/smaps_rollup").read_text().split("\nPss:")[1].split()[0]) / 1024, 1),
        )


def family(pid: int) -> list[int]:
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid, *(member for child in children for member in family(child))]


def settle(node: LambentNode) -> Traces:
    """What is held once every environment has outlived its keep-alive and what waits in pools is there again."""
    caller = Caller(node)
    while caller.status()["environments"]:
        time.sleep(0.5)
    traces = Traces.of(node)
    while (again := settled_later(node)) != traces.processes:
        traces = dataclasses.replace(Traces.of(node), processes=again)
    return Traces.of(node)


def settled_later(node: LambentNode) -> int:
    time.sleep(3)
    return len(family(node.pid))


def report(tally: Tally, before: Traces, after: Traces, left: list[int], counters: dict[str, Any]) -> int:
    print(f"invocations by kind: {dict(sorted(tally.done.items()))}")
    print(f"counters: {counters}")
    print(f"held after the first part: {before}")
    print(f"held at the end:           {after}")
    problems = tally.wrong[:20]
    for name in ("processes", "descriptors", "mounts", "cgroups"):
        grown = getattr(after, name) - getattr(before, name)
        if grown > SLACK[name]:
            problems.append(f"{name} grew by {grown}")
    if after.memory_mb > before.memory_mb * 1.25 + 5:
        problems.append(f"the node's memory grew from {before.memory_mb} to {after.memory_mb} MB")
    if left:
        problems.append(f"processes left after the stop: {left}")
    for problem in problems:
        print(f"PROBLEM  {problem}")
    print("failed" if problems else "nothing failed that was not asked to, and nothing is left")
    return 1 if problems else 0


def main() -> int:
    seconds = 60 * (float(sys.argv[1]) if len(sys.argv) > 1 else 20)
    with tempfile.TemporaryDirectory(prefix="lambent-soak-") as name:
        config = Path(name) / "lambent.toml"
        config.write_text(f"keep_alive_seconds = {KEEP_ALIVE_S}\n")
        arguments = ["--config", str(config), "--log-level", "error", *sys.argv[2:]]
        node = LambentNode(Path(name) / "data", arguments=arguments)
        with node.running():
            soak = Soak(node)
            soak.deploy()
            # What is made once for all is there before the first look.
            soak.run(seconds / 5)
            before = settle(node)
            soak.run(seconds * 4 / 5)
            after = settle(node)
            counters = Caller(node).status()["counters"]
            members = family(node.pid)
        left = [pid for pid in members if Path(f"/proc/{pid}").exists()]
        print(node.output)
    return report(soak.tally, before, after, left, counters)


if __name__ == "__main__":
    raise SystemExit(main())

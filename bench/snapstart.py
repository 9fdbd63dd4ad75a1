"""What SnapStart buys a function that imports numpy and pandas: start to answer, and memory of 100 idle environments.

`python -m bench.snapstart`. The packages are fetched with pip into a temporary folder; without them it says so and
ends.
Floor and subjects take turns, and each ratio is the median of the turns.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.run import Caller

from lambent.testing.node import LambentNode, make_zip

TURNS = 20
ORDINARY_TURNS = 5
ENVIRONMENTS = 100
HANDLER = """
import time
import numpy, pandas
def handler(event, context):
    time.sleep(event.get("sleep", 0))
    return int(numpy.arange(10).sum()) + len(pandas.DataFrame({"a": [1, 2]}))
"""
UNNEEDED = ("tests", "__pycache__", "bin", "include")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="lambent-bench-") as scratch:
        package = build_package(Path(scratch) / "package")
        if package is None:
            print("skipped: numpy and pandas could not be fetched with pip")
            return 0
        results = measure_starts(package, Path(scratch)) | measure_memory(package, Path(scratch))
    print(json.dumps(results, indent=2))
    return 0


def build_package(folder: Path) -> tuple[bytes, bytes] | None:
    """The function's zip, and that of a layer with numpy: together they are larger than a request may be."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "numpy", "pandas"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return None
    for unneeded in [path for path in folder.rglob("*") if path.is_dir() and path.name in UNNEEDED]:
        shutil.rmtree(unneeded, ignore_errors=True)
    files: dict[str, str | bytes] = {"app.py": HANDLER}
    layer: dict[str, str | bytes] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            name = str(path.relative_to(folder))
            if name.startswith("numpy"):
                layer[f"python/{name}"] = path.read_bytes()
            else:
                files[name] = path.read_bytes()
    return make_zip(files), make_zip(layer)


def deploy(caller: Caller, name: str, package: tuple[bytes, bytes], *, snap_start: bool) -> str:
    """Returns the path that invokes it."""
    code, layer = package
    content = {"Content": {"ZipFile": base64.b64encode(layer).decode()}}
    published = caller.send("POST", "/2018-10-31/layers/numpy/versions", json.dumps(content).encode())
    body: dict[str, Any] = {
        "FunctionName": name,
        "Runtime": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "Role": "arn:aws:iam::123456789012:role/any",
        "Handler": "app.handler",
        "MemorySize": 512,
        "Timeout": 60,
        "Publish": True,
        "Code": {"ZipFile": base64.b64encode(code).decode()},
        "Layers": [published["LayerVersionArn"]],
        "SnapStart": {"ApplyOn": "PublishedVersions" if snap_start else "None"},
    }
    caller.send("POST", "/2015-03-31/functions", json.dumps(body).encode())
    while True:
        shown = caller.send("GET", f"/2015-03-31/functions/{name}/configuration?Qualifier=1")
        if shown["State"] != "Pending":
            break
        time.sleep(0.1)
    assert shown["State"] == "Active", shown
    if snap_start:
        assert shown["SnapStart"]["OptimizationStatus"] == "On", shown
    return f"/2015-03-31/functions/{name}/invocations?Qualifier=1"


def measure_starts(package: tuple[bytes, bytes], scratch: Path) -> dict[str, Any]:
    """With a keep-alive of 0 every invocation is a start."""
    with LambentNode(scratch / "starts", environ={"LAMBENT_KEEP_ALIVE_SECONDS": "0"}).running() as node:
        caller = Caller(node)
        ordinary = deploy(caller, "ordinary", package, snap_start=False)
        restored = deploy(caller, "snapstart", package, snap_start=True)
        for path in (ordinary, restored):
            caller.send("POST", path, b"{}")
        floors, starts, colds = [], [], []
        for turn in range(TURNS):
            floors.append(timed(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True)))
            time.sleep(0.2)
            starts.append(timed(lambda: caller.send("POST", restored, b"{}")))
            time.sleep(0.2)
            if turn < ORDINARY_TURNS:
                colds.append(timed(lambda: caller.send("POST", ordinary, b"{}")))
    floor, start, cold = map(statistics.median, (floors, starts, colds))
    return {
        "python3 -c pass, ms": round(floor, 1),
        "SnapStart start to answer, ms": round(start, 1),
        "ordinary cold start to answer, ms": round(cold, 1),
        "SnapStart / python3 -c pass": round(start / floor, 2),
        "SnapStart / ordinary": round(start / cold, 3),
    }


def measure_memory(package: tuple[bytes, bytes], scratch: Path) -> dict[str, Any]:
    if os.geteuid():
        return {}
    with LambentNode(scratch / "memory").running() as node:
        caller = Caller(node)
        path = deploy(caller, "idle", package, snap_start=True)
        before_kb = sum(pss_kb(pid) for pid in descendants(node.pid))
        threads = [
            threading.Thread(target=caller.send, args=("POST", path, b'{"sleep": 10}')) for _ in range(ENVIRONMENTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        environments = caller.send("GET", "/_lambent/status")["environments"]
        after_kb = sum(pss_kb(pid) for pid in descendants(node.pid))
    return {
        "idle environments": len(environments),
        "their PSS beside node and template, MB": round((after_kb - before_kb) / 1024, 1),
    }


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def pss_kb(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())

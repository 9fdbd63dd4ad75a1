"""From nothing to 100 invocations at once, beside as many bare interpreters. `python -m bench.burst`."""

from __future__ import annotations

import concurrent.futures
import functools
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.run import EVENT, Caller, say, timed
from bench.soak import family

from lambent.testing.node import LambentNode, make_zip

CONCURRENT = 100
SLEEP_S = 1.0
SOURCE = f"import time\ndef handler(event, context):\n    time.sleep({SLEEP_S})\n    return 'slept'\n"
PATH = "/2015-03-31/functions/burst/invocations"


def run_all(node: LambentNode) -> None:
    """Each from a connection of its own."""

    def invoke(_: int) -> None:
        assert Caller(node).send("POST", PATH, EVENT) == "slept"

    with concurrent.futures.ThreadPoolExecutor(CONCURRENT) as pool:
        list(pool.map(invoke, range(CONCURRENT)))


def run_interpreters() -> None:
    floor = [sys.executable, "-c", f"import time; time.sleep({SLEEP_S})"]
    with concurrent.futures.ThreadPoolExecutor(CONCURRENT) as pool:
        list(pool.map(lambda _: subprocess.run(floor, check=True), range(CONCURRENT)))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="lambent-bench-") as name:
        with LambentNode(Path(name), arguments=["--log-level", "warning"]).running() as node:
            caller = Caller(node)
            caller.create_from("burst", make_zip({"app.py": SOURCE}), timeout_s=60)
            cold_s = timed(functools.partial(run_all, node))
            warm_s = timed(functools.partial(run_all, node))
            environments = len(caller.send("GET", "/_lambent/status")["environments"])
            processes = len(family(node.pid))
        floor_s = timed(run_interpreters)
    say(
        f"{CONCURRENT} at once, each sleeping {SLEEP_S:.0f} s: {cold_s:.2f} s from nothing, {warm_s:.2f} s warm, "
        f"{floor_s:.2f} s as bare interpreters; {environments} environments, {processes} processes"
    )


if __name__ == "__main__":
    main()

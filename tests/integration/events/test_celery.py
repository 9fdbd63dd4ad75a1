"""Celery, unmodified, on the queues of a real node: kombu's SQS transport with signed requests."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from lambent.testing.node import LambentNode

TASKS = """
import os
from celery import Celery
options = {"region": "us-east-1", "is_secure": False, "wait_time_seconds": 1, "visibility_timeout": 30}
app = Celery("tasks", broker=os.environ["BROKER"], broker_transport_options=options)
@app.task
def add(first, second):
    with open(os.environ["OUT"], "a") as out:
        out.write(f"{first + second}\\n")
"""
SENDER = "import tasks\nfor number in range(20):\n    tasks.add.delay(number, number)\n"


@pytest.fixture
def environ(node: LambentNode, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "tasks.py").write_text(TASKS)
    profiles = configparser.ConfigParser()
    profiles.read(node.profile)
    key = quote(profiles["default"]["aws_access_key_id"], safe="")
    secret = quote(profiles["default"]["aws_secret_access_key"], safe="")
    return {
        **os.environ,
        "BROKER": f"sqs://{key}:{secret}@{node.endpoint.removeprefix('http://')}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "OUT": str(tmp_path / "out"),
    }


def test_tasks_are_queued_and_worked(environ: dict[str, str], tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", SENDER], cwd=tmp_path, env=environ, check=True, timeout=60)
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "tasks",
        "worker",
        "-P",
        "solo",
        "--without-mingle",
        "--without-gossip",
    ]
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=log, stderr=subprocess.STDOUT)
        try:
            out, give_up_at = tmp_path / "out", time.monotonic() + 60
            while not (out.exists() and len(out.read_text().split()) >= 20):
                assert time.monotonic() < give_up_at, (tmp_path / "log").read_text()
                time.sleep(0.05)
        finally:
            worker.terminate()
            worker.wait(timeout=30)
    assert sorted(map(int, out.read_text().split())) == [2 * number for number in range(20)]

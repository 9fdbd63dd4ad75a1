"""The user tier for real: a node that runs as nobody, whose environments live in nested user namespaces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import connect
from tests.integration.node.test_lifecycle import create
from tests.shells import environment_of, wait_full

import lambent
from lambent.testing.node import LambentNode

NOBODY = 65534
SOURCE = """
import ctypes, os, socket

def handler(event, context):
    answers = {"uid": os.getuid(), "pids": [int(name) for name in os.listdir("/proc") if name.isdigit()]}
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
    answers["capabilities"] = [status[name] for name in ("CapEff", "CapPrm", "CapBnd")]
    answers["seccomp"] = status["Seccomp"]
    for name, path in (("usr", "/usr/x"), ("task", "/var/task/x"), ("root", "/x")):
        try:
            open(path, "w")
            answers[name] = "written"
        except OSError as exc:
            answers[name] = "refused"
    answers["tmp"] = open("/tmp/x", "w").write("ok")
    answers["data"] = os.path.exists(event["data"])
    answers["mount"] = ctypes.CDLL(None).mount(b"none", b"/tmp", b"tmpfs", 0, None)
    try:
        socket.create_connection(("127.0.0.1", event["port"]), 2)
        answers["port"] = "reached"
    except OSError:
        answers["port"] = "refused"
    return answers
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where nobody may write and every folder above may be entered."""
    path = Path(tempfile.mkdtemp(prefix="lambent-user-", dir="/tmp"))
    os.chown(path, NOBODY, NOBODY)
    yield path
    shutil.rmtree(path)


def find_python(folder: Path) -> str:
    """An interpreter of this version that nobody can run, seeing what is installed here."""
    system = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
    source = Path(lambent.__file__).parent.parent
    site = next(path for path in sys.path if path.endswith("site-packages"))
    if not system.exists():
        pytest.skip("no interpreter of this version below /usr")
    subprocess.run([str(system), "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    for paths in (folder / "venv" / "lib").glob("python*/site-packages"):
        (paths / "here.pth").write_text(f"{source}\n{site}\n")
    return str(folder / "venv" / "bin" / "python")


def check_confined(answers: Any) -> None:
    """What every environment with namespaces says of itself."""
    assert set(answers["pids"]) <= {1, 2}
    assert {int(value, 16) for value in answers["capabilities"]} == {0}
    assert answers["seccomp"] == "2"
    assert [answers[name] for name in ("usr", "task", "root", "port")] == ["refused"] * 4
    assert (answers["tmp"], answers["data"], answers["mount"]) == (2, False, -1)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="root changes to nobody by setpriv")
def test_an_ordinary_user_gets_the_same_isolation(folder: Path) -> None:
    python = find_python(folder)
    as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if subprocess.run(
        [*as_nobody, python, "-c", "import lambent.node.assemble"], capture_output=True, check=False
    ).returncode:
        pytest.skip("nobody may not read this checkout")
    node = LambentNode(folder / "data", command=[*as_nobody, python, "-m", "lambent"], environ={"HOME": str(folder)})
    with node.running():
        assert "isolation: user" in node.output
        client = connect(node)
        create(client, "look", SOURCE)
        event = {"data": str(node.data_dir), "port": int(node.endpoint.rpartition(":")[2])}
        answers = json.load(client.invoke(FunctionName="look", Payload=json.dumps(event).encode())["Payload"])
        assert answers["uid"] == 993
        check_confined(answers)
        # And in an environment that was confined ahead.
        waiting = wait_full(client)
        create(client, "look-again", SOURCE)
        again = json.load(client.invoke(FunctionName="look-again", Payload=json.dumps(event).encode())["Payload"])
        assert environment_of(client, "look-again")["pid"] in waiting
    assert again["uid"] == 993
    check_confined(again)

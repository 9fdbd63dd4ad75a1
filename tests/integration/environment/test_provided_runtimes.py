"""Any executable that speaks the Runtime API: a compiled program, a shell script, AWS's own client."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import Deploy, is_ci

SOURCE = Path(__file__).parent.parent.parent / "conformance" / "runtime_api" / "bootstrap.c"


def test_a_compiled_bootstrap_answers(deploy: Deploy, tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        assert not is_ci(), "a C compiler is needed: apt-get install gcc"
        pytest.skip("no C compiler")
    program = tmp_path / "bootstrap"
    subprocess.run([compiler, "-static", "-O1", "-o", str(program), str(SOURCE)], check=True)
    function = deploy(
        {"bootstrap": program.read_bytes()}, Runtime="provided.al2023", Handler="any", executable=("bootstrap",)
    )
    for _ in range(3):
        answer = function({"hello": "world"})
        assert not answer.error, answer.payload


def test_the_unmodified_interface_client_of_aws_is_a_bootstrap(deploy: Deploy) -> None:
    import awslambdaric

    folder = Path(awslambdaric.__file__).parent
    files: dict[str, str | bytes] = {
        f"awslambdaric/{path.relative_to(folder)}": path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    site = folder.parent
    for name in ("simplejson", "snapshot_restore_py", "runtime_client"):
        for path in [*site.glob(f"{name}/**/*.py"), *site.glob(f"{name}*.so"), *site.glob(f"{name}.py")]:
            files[str(path.relative_to(site))] = path.read_bytes()
    python = getattr(sys, "_base_executable", sys.executable)
    files["bootstrap"] = f"#!/bin/sh\nexport PYTHONPATH=/var/task\nexec {_visible(python)} -m awslambdaric $_HANDLER\n"
    files["app.py"] = "def handler(event, context):\n    return {'got': event, 'id': context.aws_request_id}\n"
    function = deploy(files, Runtime="provided.al2023", executable=("bootstrap",), Timeout=20)
    assert function({"a": 1}).payload["got"] == {"a": 1}
    assert function({"a": 2}).payload["got"] == {"a": 2}


def _visible(python: str) -> str:
    """An interpreter of the same version below /usr, which is all that a `provided` environment shows."""
    system = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
    if str(Path(python).resolve()).startswith("/usr"):
        return python
    if not system.exists():
        pytest.skip("no interpreter of this version below /usr")
    return str(system)


def test_a_missing_bootstrap_is_named(deploy: Deploy) -> None:
    function = deploy({"readme": "nothing to run"}, Runtime="provided.al2023", Handler="x")
    answer = function()
    assert answer.payload["errorType"] == "Runtime.InvalidEntrypoint"
    assert "/opt/bootstrap" in answer.payload["errorMessage"]

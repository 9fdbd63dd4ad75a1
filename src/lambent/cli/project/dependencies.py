"""Installs what requirements.txt names, for the function's Python, into a folder of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from lambent.cli.failures import Failure
from lambent.cli.project.files import PackageFile

REQUIREMENTS = "requirements.txt"
_PACKAGE = re.compile(r"^(?:Collecting|Installing collected packages:|Downloading) (\S+)")
_LAST_LINES = 15


def has_requirements(folder: Path) -> bool:
    """Whether requirements.txt names anything."""
    try:
        lines = (folder / REQUIREMENTS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.split("#")[0].strip() for line in lines)


def install(folder: Path, target: Path, *, runtime: str, progress: Callable[[str], None]) -> int:
    """Install into `target`; `progress` is told each package. Returns how many there are. Raises Failure."""
    command = _command(folder / REQUIREMENTS, target, version=runtime.removeprefix("python"))
    environ = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PIP_TARGET", "PIP_USER")
    }
    lines: list[str] = []
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environ,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            matched = _PACKAGE.match(line.strip())
            if matched:
                progress(matched[1].split(">")[0].split("=")[0])
    if process.returncode:
        raise _explain(lines, runtime)
    return len(list(target.glob("*.dist-info")))


def installed_files(target: Path) -> list[PackageFile]:
    """Without what only served the installation."""
    return [
        PackageFile(name=str(path.relative_to(target)), path=path)
        for path in sorted(target.rglob("*"))
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.relative_to(target).parts[0] not in ("bin", ".lock")
    ]


def _command(requirements: Path, target: Path, *, version: str) -> list[str]:
    places = ["--target", str(target), "--requirement", str(requirements)]
    if importlib.util.find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip", "install", "--no-compile", "--no-input", "--disable-pip-version-check"]
        if version != f"{sys.version_info[0]}.{sys.version_info[1]}":
            # What is built here would be built for this Python: only ready-made packages for the function's.
            command += ["--python-version", version, "--implementation", "cp", "--only-binary=:all:"]
        return [*command, *places]
    uv = shutil.which("uv")
    if uv is None:
        raise Failure(
            f"{REQUIREMENTS} cannot be installed: this Python has no pip.",
            hint=f"{sys.executable} -m ensurepip, or install uv.",
        )
    return [uv, "pip", "install", "--no-progress", "--python", sys.executable, "--python-version", version, *places]


def _explain(lines: list[str], runtime: str) -> Failure:
    told = [line for line in lines if line.startswith(("ERROR", "error", "  ×"))] or lines[-_LAST_LINES:]
    hint = ""
    if any("No matching distribution" in line for line in told):
        hint = f"Check the names and versions; each needs a wheel for {runtime}."
    return Failure(f"{REQUIREMENTS} could not be installed:\n  " + "\n  ".join(told), hint=hint)

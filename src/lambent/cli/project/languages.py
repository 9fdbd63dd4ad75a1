"""From code to its runtime."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from lambent.cli.failures import USAGE, Failure
from lambent.cli.project.files import PackageFile
from lambent.cli.project.handlers import SERVER_SCRIPT, find_handlers
from lambent.client.shapes import RuntimeStatus

_CLAUSE = re.compile(r"\s*(>=|<=|==|!=|~=|\^|>|<)?\s*3(?:\.(\d+))?[\w.*]*\s*")


def find_family(files: Sequence[PackageFile]) -> str:
    """`python`, `nodejs` or `provided`. Raises Failure when the code does not say."""
    by_name = {file.name: file for file in files}
    bootstrap = by_name.get("bootstrap")
    if bootstrap is not None:
        if not bootstrap.is_executable:
            raise Failure("bootstrap is not executable.", code=USAGE, hint=f"chmod +x {bootstrap.path}")
        return "provided"
    has_python = any(name.endswith(".py") and "node_modules/" not in name for name in by_name)
    has_node = "package.json" in by_name or any(
        name.endswith((".js", ".mjs", ".cjs")) and "/" not in name for name in by_name
    )
    if has_python and has_node and SERVER_SCRIPT in by_name:
        return "nodejs" if "package.json" in by_name else "python"
    if has_python and has_node:
        return _choose_by_handler(files)
    if has_python:
        return "python"
    if has_node:
        return "nodejs"
    if SERVER_SCRIPT in by_name:
        return "provided"
    raise Failure(
        "There is no code here that Lambent can run: no .py, .js or .mjs file and no executable named bootstrap.",
        code=USAGE,
        hint="Name the file or the folder that has it, or say --runtime and --handler.",
    )


def family_of(runtime: str) -> str:
    return next((family for family in ("python", "nodejs", "provided") if runtime.startswith(family)), runtime)


def choose_runtime(family: str, folder: Path, available: Sequence[RuntimeStatus]) -> str:
    """What the project asks for, else the newest that the node has. Raises Failure with how to get it."""
    if family == "provided":
        return "provided.al2023"
    wanted, source = find_pin(family, folder)
    fitting = [
        runtime for runtime in available if family_of(runtime["name"]) == family and wanted(_number(runtime["name"]))
    ]
    ready = [runtime["name"] for runtime in fitting if runtime["available"]]
    if ready:
        return max(ready, key=_number)
    if fitting:
        newest = max(fitting, key=lambda runtime: _number(runtime["name"]))
        reason = f"{source} asks for one that the node has not" if source else f"the node has no {family} runtime"
        raise Failure(f"No runtime: {reason}.", hint=newest["hint"])
    names = ", ".join(runtime["name"] for runtime in available if family_of(runtime["name"]) == family)
    raise Failure(f"No runtime: {source} asks for none of {names}.", hint="Choose one yourself: --runtime NAME")


def check_available(name: str, runtimes: Sequence[RuntimeStatus]) -> None:
    """Raises Failure for a runtime that the node knows and has no interpreter for: every invocation would fail."""
    for runtime in runtimes:
        if runtime["name"] == name and not runtime["available"]:
            raise Failure(f"The node has no {name}.", hint=runtime["hint"])


Wanted = Callable[[int], bool]
"""Whether a minor release of Python, or a major one of Node, will do."""


def find_pin(family: str, folder: Path) -> tuple[Wanted, str]:
    """What the project says about its runtime, and in which file; everything will do when it says nothing."""
    found = _pin_python(folder) if family == "python" else _pin_node(folder)
    return found if found is not None else (lambda _: True, "")


def _pin_python(folder: Path) -> tuple[Wanted, str] | None:
    first = _first_line(folder / ".python-version")
    matched = re.match(r"(?:cpython-)?3\.(\d+)", first)
    if matched:
        return int(matched[1]).__eq__, ".python-version"
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
        requires = project.get("requires-python", "")
    except (OSError, ValueError, AttributeError):
        return None
    return ((lambda number: fits(requires, number)), "requires-python of pyproject.toml") if requires else None


def fits(requires: str, minor: int) -> bool:
    """Whether some patch release of Python 3.MINOR satisfies a version specifier."""
    return all(_fits_clause(clause, minor) for clause in requires.split(",") if clause.strip())


def _fits_clause(clause: str, minor: int) -> bool:
    matched = _CLAUSE.fullmatch(clause)
    if matched is None:
        return True
    if matched[2] is None:
        # >=3, <4 and the like say nothing about the minor release.
        return True
    bound = int(matched[2])
    # `~=3.11` allows every later 3.x, `~=3.11.2` only 3.11.
    patch = clause.count(".") > 1 and "*" not in clause
    return {
        ">=": minor >= bound,
        "<=": minor <= bound,
        ">": minor >= bound if patch else minor > bound,
        "<": minor <= bound if patch else minor < bound,
        "!=": patch or minor != bound,
        "~=": minor == bound if patch else minor >= bound,
        "^": minor >= bound,
    }.get(matched[1] or "==", minor == bound)


def _pin_node(folder: Path) -> tuple[Wanted, str] | None:
    for name in (".nvmrc", ".node-version"):
        matched = re.match(r"v?(\d+)", _first_line(folder / name))
        if matched:
            return int(matched[1]).__eq__, name
    return None


def missing_modules(folder: Path) -> list[str]:
    """The dependencies that package.json names while there is no node_modules."""
    if (folder / "node_modules").is_dir():
        return []
    try:
        package = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        return sorted(package.get("dependencies", {}))
    except (OSError, ValueError, AttributeError):
        return []


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip().split("\n")[0]
    except (OSError, UnicodeDecodeError):
        return ""


def _number(runtime: str) -> int:
    """12 of python3.12, 22 of nodejs22.x."""
    digits = runtime.removeprefix("python3.").removeprefix("nodejs").removesuffix(".x")
    return int(digits) if digits.isdigit() else 0


def _choose_by_handler(files: Sequence[PackageFile]) -> str:
    python, nodejs = (len(find_handlers(family, files)) for family in ("python", "nodejs"))
    if bool(python) == bool(nodejs):
        raise Failure(
            "There is Python and JavaScript here.",
            code=USAGE,
            hint="Say which it is: --runtime python3.12 or nodejs22.x",
        )
    return "python" if python else "nodejs"

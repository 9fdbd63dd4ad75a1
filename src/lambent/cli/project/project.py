"""What is at a path: the code of one function, and what it is called."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from lambent.cli.failures import NOT_FOUND, USAGE, Failure
from lambent.cli.project.files import PackageFile, collect_files

_CODE_SUFFIXES = (".py", ".js", ".mjs", ".cjs")
_PLAIN_NAMES = frozenset({"lambda_function", "app", "handler", "main", "index", "bootstrap"})
_MAX_NAME = 64


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    folder: Path
    """Where requirements.txt and pins lie."""
    files: list[PackageFile]
    name: str


def read_project(path: Path, *, name: str | None) -> Project:
    """A code file or a folder. The name comes from the folder, or from a file whose name says something.

    Raises Failure.
    """
    if not path.exists():
        raise Failure(f"There is no {path}.", code=NOT_FOUND, hint="Name a .py, .js or .mjs file or a folder.")
    whole = path.resolve()
    if path.is_dir():
        files = collect_files(path)
        if not files:
            raise Failure(f"{path} has no files to deploy.", code=USAGE)
        return Project(folder=whole, files=files, name=name or make_name(whole.name))
    if path.suffix not in _CODE_SUFFIXES and path.name != "bootstrap":
        raise Failure(
            f"{path} is neither a .py, .js or .mjs file nor a folder.",
            code=USAGE,
            hint="To deploy a finished zip use an AWS tool, or unpack it and name the folder.",
        )
    stem = whole.parent.name if whole.stem in _PLAIN_NAMES else whole.stem
    file = PackageFile(name=whole.name, path=whole)
    return Project(folder=whole.parent, files=[file], name=name or make_name(stem))


def make_name(text: str) -> str:
    """A function's name made of a file's: letters, digits, - and _."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:_MAX_NAME]
    if not name:
        raise Failure("The folder's name does not make a function's name.", code=USAGE, hint="Choose one: --name NAME")
    return name

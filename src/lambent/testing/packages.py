"""Installed distributions as the files of a deployment package, as `lambent deploy` would install them."""

from __future__ import annotations

import importlib.metadata

from packaging.requirements import Requirement


def collect_package(*names: str) -> dict[str, str | bytes]:
    """The files of these distributions and of all that they need, by their names below site-packages."""
    files: dict[str, str | bytes] = {}
    waiting, known = list(names), set[str]()
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        known.add(name)
        for file in importlib.metadata.files(name) or ():
            if not str(file).startswith("..") and "__pycache__" not in str(file):
                files[str(file)] = file.read_binary()
        needed = (Requirement(text) for text in importlib.metadata.requires(name) or ())
        waiting += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return files

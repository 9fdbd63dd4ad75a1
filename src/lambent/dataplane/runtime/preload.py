"""What every handler touches is imported once in the zygote, so that each environment finds it in shared memory.

Nothing here may start a thread, open a descriptor or drag in megabytes (`http.client` and `ssl` stay out: what needs
them imports them itself).
"""

from __future__ import annotations

import importlib

STANDARD = (
    "base64",
    "collections",
    "contextlib",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "functools",
    "hashlib",
    "importlib.util",
    "json",
    "logging",
    "random",
    "re",
    "string",
    "time",
    "traceback",
    "typing",
    "uuid",
)


def load() -> None:
    for name in STANDARD:
        importlib.import_module(name)
    importlib.import_module("lambent.dataplane.runtime.bootstrap")
    importlib.import_module("lambent.dataplane.runtime.template")

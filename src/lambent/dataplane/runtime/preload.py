"""What every handler touches is imported once in the zygote, so that each environment finds it in shared memory.

Nothing here may start a thread, open a descriptor or drag in megabytes (`http.client` and `ssl` stay out: what needs
them imports them itself).
"""

from __future__ import annotations

import importlib
import sys

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


def load_server() -> None:
    """What starts HTTP servers and speaks to them, for the zygotes of other languages: their environments see nothing
    of this Python. Without `ssl`, which the loopback has no use for and which would be a third of its memory."""
    missing = object()
    before = sys.modules.get("ssl", missing)
    sys.modules["ssl"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("http.client")
    finally:
        if before is missing:
            del sys.modules["ssl"]
    importlib.import_module("lambent.dataplane.runtime.bootstrap")


def load() -> None:
    for name in STANDARD:
        importlib.import_module(name)
    importlib.import_module("lambent.dataplane.runtime.bootstrap")
    importlib.import_module("lambent.dataplane.runtime.template")

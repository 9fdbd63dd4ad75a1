"""One zygote per runtime, started when the first function needs it and again if it dies."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lambent.dataplane.sandbox.zygote_link import ZygoteFailed, ZygoteLink, ZygotePlan
from lambent.model.errors import CallerError

log = logging.getLogger(__name__)

NODE_RUNTIME = Path(__file__).parent.parent / "runtime" / "node"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """An interpreter of this machine. `prefixes` are the trees that it needs to see to run."""

    executable: str
    prefixes: Sequence[str]


class Programs(Protocol):
    async def find(self, runtime: str) -> Program | None: ...

    def hint(self, runtime: str) -> str:
        """How to install it."""
        ...


SDK = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")


class Zygotes:
    def __init__(self, programs: Programs, *, confine: str, base: Path, trees: Path) -> None:
        """`base` is an empty folder for the zygotes' private mounts, `trees` the code store's unpacked trees."""
        self._programs = programs
        self._confine = confine
        self._base = base
        self._trees = trees
        self._links: dict[str, asyncio.Task[ZygoteLink]] = {}
        self._found: dict[str, Program] = {}
        self._shared_mb: dict[str, int] = {}
        self._stopped = False

    async def get(self, runtime: str) -> ZygoteLink:
        """The living zygote of a runtime; concurrent callers share one start.

        Raises CallerError `InvalidRuntimeException` when the machine has no such interpreter.
        """
        task = self._links.get(runtime)
        if task is not None and task.done() and not _is_alive(task):
            task = None
        if task is None:
            if self._stopped:
                raise ZygoteFailed("the node is stopping")
            task = self._links[runtime] = asyncio.create_task(self._start(runtime), name=f"start zygote of {runtime}")
        return await asyncio.shield(task)

    def argv(self, runtime: str, task_root: str, tree: Path) -> list[str] | None:
        """The program that an environment executes; None for the Python handler, which runs in the fork."""
        if runtime.startswith("python"):
            return None
        if runtime.startswith("nodejs"):
            folder = NODE_RUNTIME if self._confine == "process" else Path("/var/runtime")
            return [self._found[runtime].executable, str(folder / "index.mjs")]
        folder = Path(task_root) if (tree / "bootstrap").exists() else Path("/opt")
        return [str(folder / "bootstrap")]

    def server(self, runtime: str, handler: str, task_root: str, tree: Path) -> str:
        """The program of a function that is an HTTP server: the handler names it, `bootstrap` needs no name."""
        if runtime.startswith("provided") and not (tree / handler).is_file():
            return str((Path(task_root) if (tree / "bootstrap").exists() else Path("/opt")) / "bootstrap")
        return str(Path(task_root) / handler)

    def program_folder(self, runtime: str) -> str:
        """Where the interpreter of the runtime lies, for scripts that start `node` or `python3`; may be empty."""
        executable = self._found[runtime].executable
        return str(Path(executable).parent) if executable else ""

    def shared_mb(self, runtime: str) -> int:
        """What an environment shares with its zygote and its own cgroup therefore does not count."""
        return self._shared_mb.get(runtime, 0)

    def statistics(self) -> dict[str, int]:
        """Pid of each living zygote by runtime."""
        return {name: task.result().pid for name, task in self._links.items() if _is_alive(task)}

    async def stop(self) -> None:
        self._stopped = True
        links = await asyncio.gather(*self._links.values(), return_exceptions=True)
        await asyncio.gather(*(link.stop() for link in links if isinstance(link, ZygoteLink)))

    def kill(self) -> None:
        for task in self._links.values():
            if _is_alive(task):
                task.result().kill()

    async def _start(self, runtime: str) -> ZygoteLink:
        program = Program(executable="", prefixes=())
        if not runtime.startswith("provided"):
            found = await self._programs.find(runtime)
            if found is None:
                raise CallerError("InvalidRuntimeException", self._programs.hint(runtime), status=502)
            program = found
        self._found[runtime] = program
        is_python = runtime.startswith("python")
        link = await ZygoteLink.start(
            ZygotePlan(
                executable=program.executable if is_python else _own_executable(),
                confine=self._confine,
                python=is_python,
                base=str(self._base),
                prefixes=[prefix for prefix in program.prefixes if not prefix.startswith("/usr/") and prefix != "/usr"],
                store=str(self._trees),
                runtime=[str(NODE_RUNTIME)] if runtime.startswith("nodejs") else find_sdk() if is_python else [],
            )
        )
        self._shared_mb[runtime] = link.resident_mb() if is_python else 0
        log.info("zygote started", extra={"action": "zygote_started", "runtime": runtime, "pid": link.pid})
        return link


def find_sdk() -> list[str]:
    """Where boto3 and what it needs lie: Lambda's own Python runtimes have them, and functions count on it."""
    found = []
    for name in SDK:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            file = Path(spec.origin)
            found.append(str(file.parent if file.name == "__init__.py" else file))
    return found


def _is_alive(task: asyncio.Task[ZygoteLink]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None and task.result().alive


def _own_executable() -> str:
    # The interpreter behind a virtual environment: the launcher needs nothing that was installed there.
    return str(getattr(sys, "_base_executable", sys.executable))

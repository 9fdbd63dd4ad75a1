"""The interpreters of this machine: where they are looked for, and which one serves a runtime.

Nothing is looked for at start. A search runs in a thread, starts every candidate once to see what it is, and
remembers that until the file changes; so one that is installed while the node runs is found without a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lambent.dataplane.sandbox.zygotes import Program
from lambent.node.config import NODES, PROVIDED, PYTHONS, RUNTIME_NAMES

FOLDERS = tuple(Path(name) for name in ("/usr/bin", "/usr/local/bin", "/opt/bin", "/home/linuxbrew/.linuxbrew/bin"))
"""Where interpreters are when nothing else says so; PATH may be shorter in a service."""
OPT = Path("/opt")

_PROBE_TIMEOUT_S = 10
_PROBES_AT_ONCE = 4
_ASK_PYTHON = (
    "import json,os,sys;print(json.dumps({'implementation':sys.implementation.name,"
    "'version':'%d.%d.%d'%sys.version_info[:3],'final':sys.version_info[3]=='final',"
    "'executable':os.path.realpath(getattr(sys,'_base_executable',None) or sys.executable),"
    "'prefixes':sorted({sys.base_prefix,sys.base_exec_prefix})}))"
)
_NODE_VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)\s*")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter(Program):
    """`prefixes` are the directories (or the one file) that a sandbox must show for it to run."""

    runtime: str
    version: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Probed:
    """What a candidate said of itself."""

    executable: str
    prefixes: tuple[str, ...]
    version: str
    family: str
    """`python3.12`, `nodejs22.x`."""

    def rank(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split("."))


class Runtimes:
    """Implements the zygotes' `Programs`. `overrides` are the paths that the configuration names, by runtime."""

    def __init__(self, overrides: Mapping[str, str] | None = None, *, environ: Mapping[str, str] | None = None) -> None:
        self._overrides = dict(overrides or {})
        self._environ = os.environ if environ is None else environ
        self._probed: dict[tuple[str, int, bool], _Probed | None] = {}
        self._lock = threading.Lock()
        self._searches: dict[str, asyncio.Task[Interpreter | None]] = {}

    async def find(self, runtime: str) -> Interpreter | None:
        """The newest patch release of a runtime on this machine. Concurrent callers share one search."""
        search = self._searches.get(runtime)
        if search is None:
            search = asyncio.create_task(asyncio.to_thread(self.find_now, runtime), name=f"find {runtime}")
            self._searches[runtime] = search
            search.add_done_callback(lambda _: self._searches.pop(runtime, None))
        return await asyncio.shield(search)

    def find_now(self, runtime: str) -> Interpreter | None:
        """As `find`, in the caller's thread."""
        if runtime in self._overrides:
            return self._find_override(runtime)
        candidates = list(dict.fromkeys(self._candidates(runtime)))
        with ThreadPoolExecutor(max_workers=_PROBES_AT_ONCE) as executor:
            probed = list(executor.map(lambda path: self._probe(path, runtime), candidates))
        fitting = [found for found in probed if found is not None and found.family == runtime]
        if not fitting:
            return None
        return _as_interpreter(runtime, max(fitting, key=_Probed.rank))

    def hint(self, runtime: str) -> str:
        """One line: what is missing and how to get it."""
        if runtime in self._overrides:
            return (
                f"{self._overrides[runtime]}, which lambent.toml names for {runtime}, {self._fault(runtime)}: "
                f"correct [runtimes] or remove its line, then restart the node."
            )
        if runtime.startswith("python"):
            number = runtime.removeprefix("python")
            how = f"`uv python install {number}` or `pyenv install {number}`"
        elif runtime.startswith("nodejs"):
            major = runtime.removeprefix("nodejs").removesuffix(".x")
            how = f"Node {major} from nodejs.org, `nvm install {major}` or `fnm install {major}`"
        else:
            return f"{runtime} is not a runtime that Lambent runs. There are: {', '.join(RUNTIME_NAMES)}."
        return (
            f"{runtime} is not installed on this machine: {how}; or name one in lambent.toml and restart the node: "
            f'[runtimes] "{runtime}" = "/path/to/{_program_name(runtime)}"'
        )

    async def describe(self) -> list[Mapping[str, Any]]:
        """Every runtime of the contract: name, available, executable, version, hint."""
        found = await asyncio.gather(*(self._look(name) for name in RUNTIME_NAMES))
        return [self._show(name, interpreter) for name, interpreter in zip(RUNTIME_NAMES, found, strict=True)]

    async def _look(self, name: str) -> Interpreter | None:
        return None if name in PROVIDED else await self.find(name)

    def _show(self, name: str, interpreter: Interpreter | None) -> Mapping[str, Any]:
        available = name in PROVIDED or interpreter is not None
        return {
            "name": name,
            "available": available,
            "executable": interpreter.executable if interpreter else "",
            "version": interpreter.version if interpreter else "",
            "hint": "" if available else self.hint(name),
        }

    def _find_override(self, runtime: str) -> Interpreter | None:
        probed = self._probe(Path(self._overrides[runtime]).expanduser(), runtime)
        if probed is None:
            return None
        # Which Node serves is the operator's choice; a Python of another version cannot load what was built for this.
        if probed.family != runtime and not (runtime in NODES and probed.family.startswith("nodejs")):
            return None
        return _as_interpreter(runtime, probed)

    def _fault(self, runtime: str) -> str:
        path = Path(self._overrides[runtime]).expanduser()
        if not os.access(path, os.F_OK):
            return "does not exist, or not for this user"
        probed = self._probe(path, runtime)
        return "does not run" if probed is None else f"is {probed.family} ({probed.version})"

    def _probe(self, path: Path, runtime: str) -> _Probed | None:
        is_node = runtime in NODES
        real = Path(os.path.realpath(path))
        try:
            key = (str(real), real.stat().st_mtime_ns, is_node)
        except OSError:
            return None
        with self._lock:
            if key in self._probed:
                return self._probed[key]
        probed = _probe_node(real) if is_node else _probe_python(real)
        with self._lock:
            self._probed[key] = probed
        return probed

    def _candidates(self, runtime: str) -> Iterator[Path]:
        if runtime in PYTHONS:
            yield from self._pythons(runtime)
        elif runtime in NODES:
            yield from self._nodes(runtime.removeprefix("nodejs").removesuffix(".x"))

    def _pythons(self, runtime: str) -> Iterator[Path]:
        number = runtime.removeprefix("python")
        if number == f"{sys.version_info[0]}.{sys.version_info[1]}":
            yield Path(getattr(sys, "_base_executable", None) or sys.executable)
        yield from self._on_path(runtime)
        yield from self._on_path("python3")
        pyenv = self._folder("PYENV_ROOT", ".pyenv")
        uv = self._folder("UV_PYTHON_INSTALL_DIR", ".local/share/uv/python")
        asdf = self._folder("ASDF_DATA_DIR", ".asdf")
        mise = self._folder("MISE_DATA_DIR", ".local/share/mise")
        yield from _glob(pyenv, f"versions/{number}.*/bin/{runtime}")
        yield from _glob(uv, f"cpython-{number}.*/bin/{runtime}")
        yield from _glob(asdf, f"installs/python/{number}.*/bin/{runtime}")
        yield from _glob(mise, f"installs/python/{number}.*/bin/{runtime}")
        for folder in FOLDERS:
            yield folder / runtime
        yield from _glob(OPT, f"*/bin/{runtime}")
        yield from _glob(OPT, f"python/*/bin/{runtime}")

    def _nodes(self, major: str) -> Iterator[Path]:
        yield from self._on_path("node")
        yield from self._on_path(f"node{major}")
        nvm = self._folder("NVM_DIR", ".nvm")
        fnm = self._folder("FNM_DIR", ".local/share/fnm")
        volta = self._folder("VOLTA_HOME", ".volta")
        asdf = self._folder("ASDF_DATA_DIR", ".asdf")
        mise = self._folder("MISE_DATA_DIR", ".local/share/mise")
        n = self._folder("N_PREFIX", "n")
        yield from _glob(nvm, f"versions/node/v{major}.*/bin/node")
        yield from _glob(fnm, f"node-versions/v{major}.*/installation/bin/node")
        yield from _glob(volta, f"tools/image/node/{major}.*/bin/node")
        yield from _glob(asdf, f"installs/nodejs/{major}.*/bin/node")
        yield from _glob(mise, f"installs/node/{major}.*/bin/node")
        yield from _glob(n, f"n/versions/node/{major}.*/bin/node")
        for folder in FOLDERS:
            yield folder / "node"
            yield folder / f"node{major}"
        yield from _glob(OPT, "*/bin/node")

    def _on_path(self, name: str) -> Iterator[Path]:
        for folder in self._environ.get("PATH", os.defpath).split(os.pathsep):
            # The shims of pyenv and its kin are scripts that answer for whatever folder they run in;
            # what they stand for is found in the tool's own folder.
            if folder and Path(folder).name != "shims" and (found := shutil.which(name, path=folder)):
                yield Path(found)

    def _folder(self, variable: str, under_home: str) -> Path:
        home = self._environ.get("HOME") or str(Path.home())
        return Path(self._environ.get(variable) or f"{home}/{under_home}")


def _glob(folder: Path, pattern: str) -> list[Path]:
    # Variables such as PYENV_ROOT may lead to another user's folder.
    with contextlib.suppress(OSError):
        return list(folder.glob(pattern))
    return []


def _as_interpreter(runtime: str, probed: _Probed) -> Interpreter:
    return Interpreter(
        executable=probed.executable, prefixes=list(probed.prefixes), runtime=runtime, version=probed.version
    )


def _program_name(runtime: str) -> str:
    return "node" if runtime.startswith("nodejs") else runtime


def _probe_python(path: Path) -> _Probed | None:
    text = _run([str(path), "-I", "-S", "-c", _ASK_PYTHON])
    try:
        told = json.loads(text)
    except ValueError:
        return None
    if told["implementation"] != "cpython" or not told["final"]:
        return None
    executable: str = told["executable"]
    major, minor, _ = told["version"].split(".")
    return _Probed(
        executable=executable,
        prefixes=_cover(executable, told["prefixes"]),
        version=told["version"],
        family=f"python{major}.{minor}",
    )


def _probe_node(path: Path) -> _Probed | None:
    matched = _NODE_VERSION.fullmatch(_run([str(path), "--version"]))
    if matched is None:
        return None
    home = path.parent.parent
    is_tree = path.parent.name == "bin" and (home / "lib").is_dir() and home != Path("/")
    return _Probed(
        executable=str(path),
        prefixes=_cover(str(path), [str(home)] if is_tree else []),
        version=".".join(matched.groups()),
        family=f"nodejs{matched[1]}.x",
    )


def _cover(executable: str, prefixes: list[str]) -> tuple[str, ...]:
    """The trees to show, as they are named and as they really lie; the executable alone where no tree holds it."""
    trees = {tree for prefix in prefixes for tree in (prefix, os.path.realpath(prefix)) if tree != "/"}
    # A program straight in someone's home must not open the home.
    if not any(executable.startswith(tree + "/") for tree in trees):
        trees.add(executable)
    return tuple(sorted(trees))


def _run(command: list[str]) -> str:
    """What it prints; empty when it does not run, fails or takes too long."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return done.stdout

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from lambent.node.runtimes import Runtimes

OWN = f"python3.{sys.version_info[1]}"


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def write_python(path: Path, version: str, *, prefix: Path | None = None, implementation: str = "cpython") -> Path:
    """A program that says it is such a Python, and counts how often it is asked."""
    told = (
        f'{{"implementation": "{implementation}", "version": "{version}", "final": true, '
        f'"executable": "{path}", "prefixes": ["{prefix or path.parent.parent}"]}}'
    )
    return write_program(path, f"echo asked >> {path}.count\necho '{told}'\n")


def write_node(path: Path, version: str) -> Path:
    return write_program(path, f"echo v{version}\n")


def asked(path: Path) -> int:
    return len(Path(f"{path}.count").read_text().splitlines())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without interpreters, and nothing of this machine's."""
    monkeypatch.setattr("lambent.node.runtimes.FOLDERS", ())
    monkeypatch.setattr("lambent.node.runtimes.OPT", tmp_path / "opt")
    return tmp_path / "home"


def make(home: Path, overrides: dict[str, str] | None = None, **environ: str) -> Runtimes:
    return Runtimes(overrides, environ={"HOME": str(home), "PATH": "", **environ})


async def test_the_interpreter_that_runs_us_is_found_with_what_it_needs_to_see() -> None:
    found = await Runtimes().find(OWN)
    assert found is not None
    assert found.version.startswith(OWN.removeprefix("python"))
    assert any(found.executable.startswith(prefix + "/") for prefix in found.prefixes)
    assert os.path.realpath(found.executable) == found.executable
    assert str(Path(sys.prefix)) not in found.prefixes or sys.prefix == sys.base_prefix


async def test_of_several_patch_releases_the_newest_is_taken(home: Path) -> None:
    for number in ("3.13.2", "3.13.10", "3.13.9"):
        write_python(home / f".pyenv/versions/{number}/bin/python3.13", number)
    found = await make(home).find("python3.13")
    assert found is not None
    assert (found.version, found.executable) == ("3.13.10", str(home / ".pyenv/versions/3.13.10/bin/python3.13"))
    assert found.prefixes == [str(home / ".pyenv/versions/3.13.10")]


@pytest.mark.parametrize(
    "place",
    [
        ".local/share/uv/python/cpython-3.14.0-linux-x86_64-gnu/bin/python3.14",
        ".asdf/installs/python/3.14.0/bin/python3.14",
        ".local/share/mise/installs/python/3.14.0/bin/python3.14",
        "../opt/python/cp314/bin/python3.14",
        "../opt/python3.14/bin/python3.14",
    ],
)
async def test_the_places_of_version_tools_are_searched(home: Path, place: str) -> None:
    home.mkdir()
    path = Path(os.path.normpath(home / place))
    write_python(path, "3.14.0")
    found = await make(home).find("python3.14")
    assert found is not None
    assert found.executable == str(path)


async def test_the_path_is_searched_but_shims_on_it_are_never_started(home: Path) -> None:
    shim = write_python(home / ".pyenv/shims/python3.13", "3.13.99")
    write_python(home / "bin/python3.13", "3.13.1")
    found = await make(home, PATH=f"{shim.parent}:{home}/bin").find("python3.13")
    assert found is not None
    assert found.version == "3.13.1"
    assert not Path(f"{shim}.count").exists()


async def test_a_link_is_followed_to_the_real_program(home: Path) -> None:
    real = write_python(home / "real/bin/python3.13", "3.13.1")
    (home / "bin").mkdir()
    (home / "bin/python3.13").symlink_to(real)
    found = await make(home, PATH=f"{home}/bin").find("python3.13")
    assert found is not None
    assert found.executable == str(real)


async def test_what_does_not_run_or_is_not_what_it_is_called_is_passed_over(home: Path) -> None:
    write_program(home / "a/python3.13", "exit 1\n")
    write_program(home / "b/python3.13", "echo '{broken'\n")
    write_python(home / "c/python3.13", "3.12.4")
    write_python(home / "d/python3.13", "3.13.7", implementation="pypy")
    path = ":".join(str(home / name) for name in "abcd")
    assert await make(home, PATH=path).find("python3.13") is None


async def test_concurrent_callers_share_one_search_and_a_later_one_asks_nobody(home: Path) -> None:
    path = write_python(home / "bin/python3.13", "3.13.1")
    runtimes = make(home, PATH=str(path.parent))
    found = await asyncio.gather(*(runtimes.find("python3.13") for _ in range(5)))
    assert len({entry.executable for entry in found if entry is not None}) == 1
    await runtimes.find("python3.13")
    assert asked(path) == 1


async def test_a_program_that_was_replaced_is_asked_again(home: Path) -> None:
    path = write_python(home / "bin/python3.13", "3.13.1")
    runtimes = make(home, PATH=str(path.parent))
    await runtimes.find("python3.13")
    write_python(path, "3.13.2")
    os.utime(path, ns=(1, 1))
    found = await runtimes.find("python3.13")
    assert found is not None
    assert found.version == "3.13.2"


async def test_what_is_installed_while_the_node_runs_is_found(home: Path) -> None:
    runtimes = make(home)
    assert await runtimes.find("python3.13") is None
    write_python(home / ".pyenv/versions/3.13.0/bin/python3.13", "3.13.0")
    assert await runtimes.find("python3.13") is not None


async def test_looking_for_interpreters_does_not_block_the_event_loop(home: Path) -> None:
    gate = home / "gate"
    home.mkdir()
    os.mkfifo(gate)
    write_program(home / "bin/python3.13", f"read line < {gate}\necho '{{broken'\n")
    search = asyncio.create_task(make(home, PATH=f"{home}/bin").find("python3.13"))
    # Only a loop that still turns comes to open the gate.
    await asyncio.to_thread(gate.write_text, "go\n")
    assert await search is None


async def test_a_folder_that_may_not_be_read_is_passed_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, pattern: str) -> list[Path]:
        raise PermissionError(13, "Permission denied", str(self))

    write_python(home / "bin/python3.13", "3.13.1")
    monkeypatch.setattr(Path, "glob", refuse)
    assert await make(home, PATH=f"{home}/bin").find("python3.13") is not None


async def test_node_is_told_by_its_major_release(home: Path) -> None:
    write_node(home / ".nvm/versions/node/v22.3.0/bin/node", "22.3.0")
    (home / ".nvm/versions/node/v22.3.0/lib").mkdir()
    write_node(home / "bin/node", "20.1.0")
    runtimes = make(home, PATH=f"{home}/bin")
    newer, older = await runtimes.find("nodejs22.x"), await runtimes.find("nodejs20.x")
    assert newer is not None
    assert older is not None
    assert (newer.version, older.version) == ("22.3.0", "20.1.0")
    assert newer.prefixes == [str(home / ".nvm/versions/node/v22.3.0")]
    assert await runtimes.find("nodejs24.x") is None


async def test_a_program_that_lies_straight_in_a_home_does_not_open_the_home(home: Path) -> None:
    path = write_node(home / "node", "20.1.0")
    found = await make(home, PATH=str(home)).find("nodejs20.x")
    assert found is not None
    assert found.prefixes == [str(path)]


async def test_the_configuration_wins_and_may_let_another_node_serve(home: Path) -> None:
    write_python(home / "bin/python3.13", "3.13.9")
    chosen = write_python(home / "mine/bin/py", "3.13.1")
    node = write_node(home / "mine/bin/node", "20.1.0")
    runtimes = make(home, {"python3.13": str(chosen), "nodejs22.x": str(node)}, PATH=f"{home}/bin")
    python, other = await runtimes.find("python3.13"), await runtimes.find("nodejs22.x")
    assert python is not None
    assert other is not None
    assert (python.executable, other.version) == (str(chosen), "20.1.0")


@pytest.mark.parametrize(
    "version, says", [(None, "does not exist"), ("broken", "does not run"), ("3.12.1", r"is python3\.12 \(3\.12\.1\)")]
)
async def test_a_wrong_path_in_the_configuration_is_not_replaced_by_another(
    home: Path, version: str | None, says: str
) -> None:
    write_python(home / ".pyenv/versions/3.13.0/bin/python3.13", "3.13.0")
    path = home / "mine/python"
    if version == "broken":
        write_program(path, "exit 3\n")
    elif version:
        write_python(path, version)
    runtimes = make(home, {"python3.13": str(path)})
    assert await runtimes.find("python3.13") is None
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(runtimes.hint("python3.13"))


async def test_every_runtime_is_described_with_what_to_do_about_the_missing(home: Path) -> None:
    write_python(home / ".pyenv/versions/3.13.0/bin/python3.13", "3.13.0")
    described = {entry["name"]: entry for entry in await make(home).describe()}
    assert described["python3.13"]["available"]
    assert described["provided.al2023"]["available"]
    assert "uv python install 3.14" in described["python3.14"]["hint"]
    assert '[runtimes] "python3.14" = "/path/to/python3.14"' in described["python3.14"]["hint"]
    assert "nvm install 24" in described["nodejs24.x"]["hint"]

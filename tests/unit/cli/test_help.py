from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tests.unit.cli.conftest import Lambent
from tests.unit.client.fake_node import FakeNode

from lambent.cli.main import SECTIONS

LAMBENT = Path(sys.executable).with_name("lambent")
COMMANDS = {name: text for section in SECTIONS.values() for name, text in section.items()}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_exists_and_explains_itself(name: str) -> None:
    command = importlib.import_module(f"lambent.cli.{name}").command
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.help
    undocumented = [option.name for option in command.params if isinstance(option, click.Option) and not option.help]
    assert not undocumented


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command_in_its_group(lambent: Lambent, arguments: list[str]) -> None:
    ran = lambent(*arguments)
    assert ran.code == 0
    for section, commands in SECTIONS.items():
        assert f"{section}:" in ran.out
        assert all(text in ran.out for text in commands.values())


def test_help_imports_neither_commands_nor_what_they_need() -> None:
    code = (
        "import sys; from lambent.cli.main import run; run(['--help']);"
        "print([name for name in sys.modules if name.split('.')[0] in ('rich', 'msgspec', 'botocore', 'uvicorn', 'ssl')"
        " or name.startswith(('lambent.node', 'lambent.client', 'lambent.dataplane'))], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("typed, meant", [("deply", "deploy"), ("tail", "logs"), ("list", "ls"), ("delete", "rm")])
def test_a_slip_of_the_keys_is_answered_with_what_was_meant(lambent: Lambent, typed: str, meant: str) -> None:
    ran = lambent(typed, "x")
    assert ran.code == 2
    assert f"Did you mean `lambent {meant}`?" in ran.err


def test_wrong_usage_has_an_exit_code_of_its_own(lambent: Lambent) -> None:
    assert lambent("ls", "--bogus").code == 2
    assert lambent("invoke").code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(lambent: Lambent, shell: str) -> None:
    ran = lambent("completion", shell)
    assert ran.code == 0
    assert f"_LAMBENT_COMPLETE={shell}_complete" in ran.out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("inv", "plain,invoke"),
        ("invoke he", "plain,hello"),
        ("deploy ", "file,"),
        ("deploy --mem", "plain,--memory"),
        ("deploy --runtime python3.12", "plain,python3.12"),
        ("up --config ", "file,"),
        ("ls --data-dir ", "file,"),
    ],
)
def test_a_shell_completes_commands_options_functions_and_files(
    lambent: Lambent, fake_node: FakeNode, monkeypatch: pytest.MonkeyPatch, typed: str, offered: str
) -> None:
    fake_node.add_function("hello")
    words = f"lambent {typed}"
    environ = {"_LAMBENT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([LAMBENT], capture_output=True, text=True, check=False)
    assert offered in done.stdout.splitlines()
    assert done.stderr == ""


def test_the_version_is_printed(lambent: Lambent) -> None:
    assert lambent("version").out.startswith("lambent ")
    assert lambent("--version").out == lambent("version").out
    assert lambent("version", "--json").json["version"]

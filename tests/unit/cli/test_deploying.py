from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Lambent
from tests.unit.client.fake_node import ACCOUNT, FakeNode

HANDLER = "def handler(event, context):\n    return event\n"


def write(folder: Path, **files: str) -> Path:
    """`app__py` becomes app.py."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def names(package: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(package)).namelist()


def test_a_folder_becomes_a_function_without_any_configuration(
    lambent: Lambent, fake_node: FakeNode, alone: Path
) -> None:
    write(alone / "shop", app__py=HANDLER, helper__py="")
    ran = lambent("deploy", "shop")
    assert ran.code == 0, ran.err
    function = fake_node.functions["shop"]
    assert (function["Runtime"], function["Handler"], function["State"]) == ("python3.12", "app.handler", "Active")
    assert function["Role"] == f"arn:aws:iam::{ACCOUNT}:role/lambent"
    assert names(fake_node.packages["shop"]) == ["app.py", "helper.py"]
    assert "lambent invoke shop" in ran.out
    assert "Created shop" in ran.err


def test_a_folder_of_files_becomes_a_site(lambent: Lambent, fake_node: FakeNode, alone: Path) -> None:
    write(alone / "site", index__html="<h1>home</h1>", requirements__txt="none-such==1")
    ran = lambent("deploy", "site", "--static")
    assert ran.code == 0, ran.err
    function = fake_node.functions["site"]
    assert (function["Runtime"], function["Handler"]) == ("python3.12", "lambent_static:.")
    assert names(fake_node.packages["site"]) == ["index.html", "requirements.txt"]
    assert "lambent url site" in ran.out
    # What it is stays, as all settings do.
    assert lambent("deploy", "site", "--json").json["action"] == "unchanged"
    assert lambent("deploy", "site", "--static", "--handler", "app.handler").code == 2


def test_a_file_is_named_by_itself_or_by_its_folder(lambent: Lambent, fake_node: FakeNode, alone: Path) -> None:
    write(alone / "shop", app__py=HANDLER, orders__py=HANDLER)
    assert lambent("deploy", "shop/app.py").code == 0
    assert lambent("deploy", "shop/orders.py").code == 0
    assert sorted(fake_node.functions) == ["orders", "shop"]
    assert names(fake_node.packages["orders"]) == ["orders.py"]
    assert fake_node.functions["orders"]["Handler"] == "orders.handler"


def test_deploying_the_same_again_changes_nothing(lambent: Lambent, fake_node: FakeNode, alone: Path) -> None:
    write(alone / "shop", app__py=HANDLER)
    lambent("deploy", "shop")
    fake_node.calls.clear()
    ran = lambent("deploy", "shop", "--json")
    assert (ran.code, ran.json["action"], ran.json["changes"]) == (0, "unchanged", {})
    assert not [call for call in fake_node.calls if not call.startswith("GET")]


def test_settings_that_are_not_named_stay_as_they_are(lambent: Lambent, fake_node: FakeNode, alone: Path) -> None:
    write(alone / "shop", app__py=HANDLER)
    lambent("deploy", "shop", "--memory", "512", "--env", "AA=1", "--env", "BB=x=y")
    (alone / "shop" / "app.py").write_text(HANDLER + "# new\n")
    ran = lambent("deploy", "shop", "--timeout", "30", "--env", "CC=3", "--unset-env", "AA", "--json")
    assert ran.json["action"] == "updated"
    assert sorted(ran.json["changes"]) == ["Code", "Environment", "Timeout"]
    function = fake_node.functions["shop"]
    assert (function["MemorySize"], function["Timeout"]) == (512, 30)
    assert function["Environment"] == {"Variables": {"BB": "x=y", "CC": "3"}}


def test_several_requests_at_a_time_are_a_variable(lambent: Lambent, fake_node: FakeNode, alone: Path) -> None:
    write(alone / "shop", app__py=HANDLER)
    lambent("deploy", "shop", "--env", "AA=1", "--concurrency", "16")
    assert fake_node.functions["shop"]["Environment"] == {"Variables": {"AA": "1", "LAMBENT_CONCURRENCY": "16"}}
    ran = lambent("deploy", "shop", "--concurrency", "0")
    assert ran.code == 2
    assert "1<=x<=1000" in ran.err


def test_what_changed_is_told_without_the_values_of_variables(
    lambent: Lambent, fake_node: FakeNode, alone: Path
) -> None:
    write(alone / "shop", app__py=HANDLER)
    lambent("deploy", "shop", "--env", "OLD=1")
    ran = lambent("deploy", "shop", "--env", "SECRET=hidden", "--unset-env", "OLD", "--memory", "256")
    assert "MemorySize: 128 -> 256" in ran.out
    assert "Environment: -OLD +SECRET" in ran.out
    assert "hidden" not in ran.out + ran.err


def test_a_newer_interpreter_is_no_reason_to_move_a_function(
    lambent: Lambent, fake_node: FakeNode, alone: Path
) -> None:
    write(alone / "shop", app__py=HANDLER)
    lambent("deploy", "shop")
    fake_node.available = {"python3.13"}
    assert lambent("deploy", "shop").code == 0
    assert fake_node.functions["shop"]["Runtime"] == "python3.12"


def test_a_project_that_asks_for_what_the_node_lacks_is_told_how_to_get_it(lambent: Lambent, alone: Path) -> None:
    write(alone / "shop", app__py=HANDLER)
    (alone / "shop" / ".python-version").write_text("3.13.0\n")
    ran = lambent("deploy", "shop")
    assert ran.code == 1
    assert ".python-version asks for one that the node has not" in ran.err
    assert "python3.13 is not installed: install it" in ran.err


def test_node_and_bootstraps_are_told_by_their_files(lambent: Lambent, fake_node: FakeNode, alone: Path) -> None:
    write(alone / "web", index__mjs="export const handler = async (event) => event\n", package__json="{}")
    write(alone / "go", bootstrap="#!/bin/sh\n")
    (alone / "go" / "bootstrap").chmod(0o755)
    assert lambent("deploy", "web").code == 0
    assert lambent("deploy", "go").code == 0
    assert (fake_node.functions["web"]["Runtime"], fake_node.functions["web"]["Handler"]) == (
        "nodejs20.x",
        "index.handler",
    )
    assert fake_node.functions["go"]["Runtime"] == "provided.al2023"
    info = zipfile.ZipFile(io.BytesIO(fake_node.packages["go"])).getinfo("bootstrap")
    assert info.external_attr >> 16 & 0o777 == 0o755


def test_a_version_is_published_and_tags_are_set(lambent: Lambent, fake_node: FakeNode, alone: Path) -> None:
    write(alone / "shop", app__py=HANDLER)
    assert lambent("deploy", "shop", "--publish", "--tag", "team=a", "--json").json["published"] == "1"
    assert fake_node.functions["shop"]["Tags"] == {"team": "a"}
    assert lambent("deploy", "shop", "--tag", "team=b").code == 0
    assert fake_node.tags == {fake_node.functions["shop"]["FunctionArn"]: {"team": "b"}}


def test_missing_node_modules_are_mentioned(lambent: Lambent, alone: Path) -> None:
    write(
        alone / "web",
        index__js="exports.handler = async () => 1\n",
        package__json='{"dependencies": {"left-pad": "1"}}',
    )
    ran = lambent("deploy", "web")
    assert ran.code == 0
    assert "package.json needs left-pad" in ran.err
    assert "npm install" in ran.err


@pytest.mark.parametrize(
    "files, arguments, code, says",
    [
        ({"a__py": "def one(event, context): ...\ndef two(event, context): ..."}, [], 2, "a.one, a.two"),
        ({"a__py": "x = 1"}, [], 2, "no module has a function that takes (event, context)"),
        ({"app__py": "def handler(event context)"}, [], 2, "app.py line 1 cannot be read"),
        ({"app__py": HANDLER}, ["--handler", "app.nope"], 2, "app.py has no function nope"),
        ({"app__py": HANDLER}, ["--handler", "nope.handler"], 2, "needs a file nope.py"),
        ({"app__py": HANDLER}, ["--handler", "handler"], 2, "MODULE.FUNCTION"),
        ({"app__py": HANDLER}, ["--env", "A"], 2, "KEY=VALUE"),
        ({"index__js": "exports.x = 1"}, [], 2, "exports a `handler`"),
        ({"bootstrap": ""}, [], 2, "bootstrap is not executable"),
        ({"readme__md": ""}, [], 2, "no code here that Lambent can run"),
        ({}, [], 2, "no files to deploy"),
    ],
)
def test_what_cannot_be_deployed_says_why(
    lambent: Lambent, alone: Path, *, files: dict[str, str], arguments: list[str], code: int, says: str
) -> None:
    write(alone / "shop", **files)
    ran = lambent("deploy", "shop", *arguments)
    assert ran.code == code
    assert says in ran.err
    assert "Traceback" not in ran.err


def test_a_path_that_is_not_there_is_not_found(lambent: Lambent) -> None:
    assert lambent("deploy", "nope").code == 3


def test_requirements_are_installed_into_the_package(lambent: Lambent, fake_node: FakeNode, alone: Path) -> None:
    library = write(alone / "library", greet__py="WORD = 'hi'\n")
    (library / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (library / "backend.py").write_text(BACKEND)
    fake_node.available = {f"python3.{sys.version_info[1]}"}
    write(alone / "shop", app__py=HANDLER, requirements__txt=f"# ours\n{library}\n")
    ran = lambent("deploy", "shop")
    assert ran.code == 0, ran.err
    assert "Installed requirements.txt: 1 package" in ran.err
    assert "greet.py" in names(fake_node.packages["shop"])
    first = fake_node.packages["shop"]
    assert lambent("deploy", "shop").code == 0
    assert fake_node.packages["shop"] == first


def test_requirements_that_cannot_be_had_say_what_the_installer_said(lambent: Lambent, alone: Path) -> None:
    write(alone / "shop", app__py=HANDLER, requirements__txt="./no-such-folder\n")
    ran = lambent("deploy", "shop")
    assert ran.code == 1
    assert "requirements.txt could not be installed" in ran.err
    assert "no-such-folder" in ran.err


# The smallest build backend: a test must not need the network.
BACKEND = """
import zipfile


def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "greet-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        info = "greet-1.0.dist-info"
        wheel.writestr("greet.py", "WORD = 'hi'")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: greet\\nVersion: 1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--memory", "5"], "5 is not in the range 128<=x<=10240"),
        (["--timeout", "901"], "901 is not in the range 1<=x<=900"),
        (["--env", "1A=2"], "'1A' cannot be the name of a variable"),
        (["--env", "A=2"], "two or more letters"),
    ],
)
def test_a_setting_that_cannot_be_is_wrong_usage_and_nothing_is_sent(
    lambent: Lambent, fake_node: FakeNode, alone: Path, arguments: list[str], says: str
) -> None:
    write(alone / "shop", app__py=HANDLER)
    ran = lambent("deploy", "shop", *arguments)
    assert ran.code == 2
    assert says in ran.err
    assert fake_node.calls == []


def test_a_runtime_that_the_node_has_not_is_refused_with_how_to_get_it(
    lambent: Lambent, fake_node: FakeNode, alone: Path
) -> None:
    write(alone / "shop", app__py=HANDLER)
    assert lambent("deploy", "shop").code == 0
    ran = lambent("deploy", "shop", "--runtime", "python3.13")
    assert ran.code == 1
    assert "The node has no python3.13.\n  python3.13 is not installed: install it" in ran.err
    assert fake_node.functions["shop"]["Runtime"] == "python3.12"


def test_code_that_cannot_be_read_is_named_with_its_line_once(lambent: Lambent, alone: Path) -> None:
    write(alone / "shop", app__py="x = 1\ndef handler(:\n")
    ran = lambent("deploy", "shop")
    assert ran.code == 2
    assert "app.py line 2 cannot be read: invalid syntax.\n" in ran.err

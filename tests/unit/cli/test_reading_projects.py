from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from lambent.cli.failures import Failure
from lambent.cli.project.archive import write_zip
from lambent.cli.project.files import PackageFile, collect_files
from lambent.cli.project.handlers import check_handler, find_handler, find_handlers
from lambent.cli.project.ignores import Ignores
from lambent.cli.project.languages import find_family, find_pin, fits
from lambent.cli.project.project import make_name
from lambent.model import limits

TAKES = "def {}(event, context): ...\n"


def write(folder: Path, files: dict[str, str]) -> list[PackageFile]:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return collect_files(folder)


def names(files: list[PackageFile]) -> list[str]:
    return [file.name for file in files]


@pytest.mark.parametrize(
    "pattern, path, left_out",
    [
        ("*.log", "a/b/x.log", True),
        ("*.log", "x.logs", False),
        ("/top.txt", "top.txt", True),
        ("/top.txt", "a/top.txt", False),
        ("docs/*.md", "docs/a.md", True),
        ("docs/*.md", "docs/a/b.md", False),
        ("docs/**", "docs/a/b.md", True),
        ("**/secret", "a/b/secret", True),
        ("**/secret", "secret", True),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("file?.[ab]", "file1.a", True),
        ("file?.[!ab]", "file1.a", False),
        (r"\#odd", "#odd", True),
        ("# comment", "# comment", False),
        ("folder/", "folder", False),
        ("", "anything", False),
    ],
)
def test_patterns_mean_what_they_mean_in_gitignore(pattern: str, path: str, left_out: bool) -> None:
    assert Ignores(pattern).leave_out(path, is_folder=False) is left_out


def test_a_later_pattern_takes_in_what_an_earlier_one_left_out() -> None:
    ignores = Ignores("*.txt\n!keep.txt\nfolder/\n!.env")
    assert ignores.leave_out("a.txt", is_folder=False)
    assert not ignores.leave_out("keep.txt", is_folder=False)
    assert ignores.leave_out("folder", is_folder=True)
    assert not ignores.leave_out(".env", is_folder=False)


def test_what_nobody_wants_to_deploy_is_left_out(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        {
            "app.py": "",
            ".git/config": "",
            "pkg/__pycache__/a.pyc": "",
            ".venv/lib/x.py": "",
            "my-env/pyvenv.cfg": "",
            "my-env/lib/x.py": "",
            "node_modules/left-pad/index.js": "",
            ".env": "SECRET=1",
            ".lambentignore": "notes/\n",
            "notes/a.md": "",
        },
    )
    assert names(files) == ["app.py", "node_modules/left-pad/index.js"]


def test_a_link_inside_stays_a_link_and_one_that_leads_outside_is_packed(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "lib.py").write_text("x = 1")
    project = tmp_path / "project"
    write(project, {"real.py": ""})
    (project / "alias.py").symlink_to("real.py")
    (project / "shared").symlink_to(tmp_path / "shared")
    files = {file.name: file for file in collect_files(project)}
    assert files["alias.py"].link == "real.py"
    assert files["shared/lib.py"].path == tmp_path / "shared" / "lib.py"


@pytest.mark.parametrize("target, says", [("nowhere", "link to nothing"), ("..", "leads back")])
def test_a_link_that_cannot_be_packed_is_refused(tmp_path: Path, target: str, says: str) -> None:
    project = tmp_path / "project"
    write(project, {"app.py": ""})
    (project / "link").symlink_to(target)
    with pytest.raises(Failure, match=says):
        collect_files(project)


def test_the_same_files_make_the_same_bytes(tmp_path: Path) -> None:
    first = write_zip(write(tmp_path / "a", {"b.py": "1", "a.py": "2"}))
    second = write_zip(reversed(write(tmp_path / "b", {"a.py": "2", "b.py": "1"})))
    assert first == second


def test_a_package_beyond_the_limits_names_its_largest_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(tmp_path, {"big/data.bin": "x" * 5_000, "app.py": "1"})
    monkeypatch.setattr(limits, "UNZIPPED_CODE_BYTES", 4_000)
    with pytest.raises(Failure, match=r"4\.9 KB unzipped; a function may have 3\.9 KB") as caught:
        write_zip(files)
    assert "big 4.9 KB" in caught.value.hint
    monkeypatch.setattr(limits, "UNZIPPED_CODE_BYTES", 40_000)
    monkeypatch.setattr(limits, "ZIPPED_CODE_BYTES", 100)
    with pytest.raises(Failure, match="zipped"):
        write_zip(files)


def test_a_package_can_be_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "package.zip"
    path.write_bytes(write_zip(write(tmp_path / "a", {"pkg/app.py": "x = 1"})))
    with zipfile.ZipFile(path) as package:
        assert package.read("pkg/app.py") == b"x = 1"
        assert package.getinfo("pkg/app.py").external_attr >> 16 & 0o777 == 0o644


@pytest.mark.parametrize(
    "files, handler",
    [
        ({"lambda_function.py": TAKES.format("lambda_handler"), "app.py": TAKES.format("handler")},
         "lambda_function.lambda_handler"),
        ({"app.py": TAKES.format("handler") + TAKES.format("other")}, "app.handler"),
        ({"orders.py": TAKES.format("on_order")}, "orders.on_order"),
        ({"orders.py": "def helper(a, b): ...\n" + TAKES.format("handler")}, "orders.handler"),
        ({"orders.py": "def on_order(_event, _context): ..."}, "orders.on_order"),
        ({"orders.py": TAKES.format("run"), "test_orders.py": TAKES.format("test"), "tests/x.py": TAKES.format("y")},
         "orders.run"),
        ({"orders.py": TAKES.format("_hidden") + TAKES.format("run")}, "orders.run"),
        ({"src/app.py": TAKES.format("handler")}, "src/app.handler"),
        ({"a.py": TAKES.format("handler"), "broken.py": "def ("}, "a.handler"),
        ({"app.py": "def handler(e, c):\n    pass\n"}, "app.handler"),
        ({"main.py": "app = 1\nhandler = make(app)\n"}, "main.handler"),
    ],
)  # fmt: skip
def test_the_handler_of_python_code_is_found(tmp_path: Path, files: dict[str, str], handler: str) -> None:
    assert find_handler("python", write(tmp_path, files)) == handler


@pytest.mark.parametrize(
    "name, text",
    [
        ("index.mjs", "export const handler = async () => 1"),
        ("index.mjs", "export async function handler(event) {}"),
        ("index.mjs", "const h = 1;\nexport { h as handler }"),
        ("index.js", "exports.handler = async () => 1"),
        ("index.cjs", "module.exports.handler = () => 1"),
        ("index.js", "module.exports = { handler, other }"),
    ],
)
def test_the_handler_of_node_code_is_found(tmp_path: Path, name: str, text: str) -> None:
    assert find_handler("nodejs", write(tmp_path, {name: text, "node_modules/x/index.js": text})) == "index.handler"


@pytest.mark.parametrize(
    ("text", "handler"),
    [
        ("from fastapi import FastAPI\napp = FastAPI()", "main:app"),
        ("import functions_framework\n@functions_framework.http\ndef hello(request): ...", "main:hello"),
        ("import functions_framework\n@functions_framework.typed(Order)\ndef buy(order): ...", "main:buy"),
        ("import azure.functions as func\napp = func.FunctionApp()", "main:app"),
    ],
)
def test_an_application_is_found_where_there_is_no_handler(tmp_path: Path, text: str, handler: str) -> None:
    assert find_handler("python", write(tmp_path, {"main.py": text})) == handler


def test_a_folder_with_a_script_that_runs_a_server_is_that_server(tmp_path: Path) -> None:
    files = write(tmp_path, {"run.sh": "#!/bin/sh", "app.py": "def handler(event, context): ..."})
    with pytest.raises(Failure, match="is not executable"):
        find_handler("python", files)
    (tmp_path / "run.sh").chmod(0o755)
    files = list(collect_files(tmp_path))
    assert (find_family(files), find_handler("python", files)) == ("python", "run.sh")
    assert find_family([file for file in files if file.name == "run.sh"]) == "provided"
    check_handler("python", "run.sh", files)
    with pytest.raises(Failure, match="needs a file of that name"):
        check_handler("python", "start.sh", files)


def test_several_handlers_are_listed(tmp_path: Path) -> None:
    files = write(tmp_path, {"a.py": TAKES.format("one"), "b.py": TAKES.format("two")})
    assert find_handlers("python", files) == ["a.one", "b.two"]
    with pytest.raises(Failure, match=r"a\.one, b\.two"):
        find_handler("python", files)


def test_of_python_and_javascript_the_one_with_a_handler_counts(tmp_path: Path) -> None:
    files = write(tmp_path, {"app.py": TAKES.format("handler"), "package.json": "{}"})
    assert find_family(files) == "python"
    both = write(tmp_path, {"index.js": "exports.handler = 1"})
    with pytest.raises(Failure, match="Python and JavaScript"):
        find_family(both)


@pytest.mark.parametrize(
    "requires, minors",
    [
        (">=3.11", [11, 12, 13, 14]),
        (">=3.11,<3.13", [11, 12]),
        (">=3.11.4, <4", [11, 12, 13, 14]),
        ("~=3.12", [12, 13, 14]),
        ("~=3.12.1", [12]),
        ("==3.12.*", [12]),
        ("!=3.13,>3.11", [12, 14]),
        ("<=3.10", [9, 10]),
        ("^3.13", [13, 14]),
        ("3.9", [9]),
        (">=3", [9, 10, 11, 12, 13, 14]),
    ],
)
def test_version_specifiers_are_understood(requires: str, minors: list[int]) -> None:
    assert [minor for minor in range(9, 15) if fits(requires, minor)] == minors


def test_the_project_may_pin_its_runtime(tmp_path: Path) -> None:
    assert find_pin("python", tmp_path)[1] == ""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nrequires-python = ">=3.12"\n')
    wanted, source = find_pin("python", tmp_path)
    assert (wanted(11), wanted(12), source) == (False, True, "requires-python of pyproject.toml")
    (tmp_path / ".python-version").write_text("3.10.4\n")
    wanted, source = find_pin("python", tmp_path)
    assert (wanted(10), wanted(12), source) == (True, False, ".python-version")
    (tmp_path / ".nvmrc").write_text("v22\n")
    wanted, source = find_pin("nodejs", tmp_path)
    assert (wanted(20), wanted(22), source) == (False, True, ".nvmrc")


@pytest.mark.parametrize("text, name", [("shop", "shop"), ("my shop.v2", "my-shop-v2"), ("x" * 80, "x" * 64)])
def test_a_folders_name_becomes_a_functions(text: str, name: str) -> None:
    assert make_name(text) == name


def test_a_name_that_says_nothing_is_asked_for() -> None:
    with pytest.raises(Failure, match="does not make"):
        make_name("…")

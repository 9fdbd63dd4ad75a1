"""The examples, run as their READMEs say, on real components."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.conftest import is_ci

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / name / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        assert not is_ci(), f"apt-get install {' '.join(missing)}"
        pytest.skip(f"needs {', '.join(missing)}")


def test_a_commit_starts_a_build_and_its_outcome_is_posted_and_mailed() -> None:
    need("git", "curl", "openssl")
    good, bad = load("ci").main()
    assert (good["state"], bad["state"]) == ("success", "failure")
    assert (good["repository"], good["branch"]) == ("shop", "main")
    assert "test_it_adds" in good["output"]
    assert "AssertionError: 2 != 3" in bad["output"]


def test_a_row_of_who_signed_up_becomes_a_letter_that_a_mail_server_receives(tmp_path: Path) -> None:
    letters = load("sign_up").main(tmp_path)
    assert [(letter["to"], letter["subject"]) for letter in sorted(letters, key=lambda letter: letter["to"])] == [
        ("ada@example.org", "Welcome, Ada"),
        ("aegir@example.org", "Welcome, Ægir"),
        ("grace@example.org", "Welcome, Grace"),
    ]
    assert all("It is good to have you." in letter.get_content() for letter in letters)


def test_a_video_that_is_uploaded_becomes_a_small_one_and_who_waits_is_told() -> None:
    shown = load("transcoding").main()
    assert shown["sizes"] == ["640x360", "160x90"]
    assert (shown["record"]["eventSource"], shown["record"]["eventName"]) == ("aws:s3", "ObjectCreated:Put")
    assert shown["made_of"] == "uploads/holiday.mp4"


def test_a_container_that_starts_is_scanned_and_who_is_on_duty_hears_of_it() -> None:
    need("curl")
    shown = load("security_check").main()
    assert "ALERT miner: It runs privileged" in shown["alert"]
    assert {finding["container"] for finding in shown["findings"]} == {"miner"}
    assert sorted(finding["severity"] for finding in shown["findings"]) == ["HIGH", "HIGH", "LOW", "LOW", "MEDIUM"]
    assert shown["status"] == 401


def test_orders_are_worked_once_and_dead_letters_are_mended_and_taken_back() -> None:
    shown = load("orders").main()
    assert shown["totals"] == {number: 20 * number for number in range(1, 13)}
    assert shown["letter"]["id"] == 13
    assert shown["after"] == {13: 10}


def test_a_second_factor_is_verified_once_and_in_time() -> None:
    answers: dict[str, Any] = load("second_factor").main()
    assert answers["right"] == {"verified": True, "step": 37037036}
    assert answers["again"] == {"verified": False, "step": None}
    assert answers["late"] == {"verified": False, "step": None}
    assert len(answers["enrolled"]["secret"]) == 32


def test_tokens_arrive_one_after_the_other_as_they_are_written() -> None:
    tokens = load("tokens").main()
    assert [token["token"] for token in tokens][:3] == ["What", "a", "function"]
    # Half of the answer is there before the other half is written.
    assert tokens[0]["arrived_at"] < tokens[len(tokens) // 2]["at"]


def test_everybody_in_a_chat_reads_what_is_said_and_who_left() -> None:
    read = load("chat").main()
    said = [{"from": name, "text": f"Hello, I am {name}."} for name in ("Ada", "Grace", "Linus")]
    assert read == {"Ada": [*said, {"left": "Linus"}], "Grace": [*said, {"left": "Linus"}], "Linus": said}


def test_a_rest_api_keeps_its_notes_in_a_database_over_a_restart_of_it(tmp_path: Path) -> None:
    answers = load("notes").main(tmp_path)
    assert [(asked, status) for asked, status, _ in answers] == [
        ("POST /notes", 201),
        ("POST /notes", 201),
        ("PUT /notes/2", 200),
        ("GET /notes", 200),
        ("GET /notes?done=true", 200),
        ("DELETE /notes/1", 200),
        ("GET /notes/1", 404),
        ("POST /notes", 400),
        ("PATCH /notes/2", 404),
    ]
    listed = [(note["id"], note["text"], note["done"]) for note in answers[3][2]]
    assert listed == [(1, "Ægir's ale; DROP TABLE notes", False), (2, "bread", True)]
    assert [note["id"] for note in answers[4][2]] == [2]


def test_a_site_of_a_web_framework_is_served_as_it_is() -> None:
    shown = load("site").main()
    assert "<ul></ul>" in shown["before"]
    assert "<li>Ada &lt;3</li>" in shown["after"]
    assert "system-ui" in shown["style"]
    assert (shown["signed"], shown["refused"]) == ("303", "422")


@pytest.mark.parametrize("readme", sorted(EXAMPLES.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_the_command_of_a_readme_is_the_one_that_is_tested(readme: Path) -> None:
    assert f".venv/bin/python examples/{readme.parent.name}/run.py" in readme.read_text()
    for source in readme.parent.rglob("*.py"):
        compile(source.read_text(), str(source), "exec")

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Lambent
from tests.unit.client.fake_node import ACCESS_KEY, SECRET, FakeNode

from lambent.cli.env import guess_shell
from lambent.cli.failures import Failure, report
from lambent.cli.logs import parse_since, unfold
from lambent.cli.output import show_bytes, show_duration
from lambent.client.errors import ApiError


def test_what_a_function_returns_goes_to_stdout_and_everything_else_to_stderr(
    lambent: Lambent, fake_node: FakeNode
) -> None:
    fake_node.add_function("hello")
    ran = lambent("invoke", "hello", "-d", '{"a": 1}', "--tail")
    assert (ran.code, ran.out, ran.err) == (0, '{"a": 1}\n', "START\nhello\nEND\n")


def test_raw_prints_the_payload_byte_for_byte(lambent: Lambent, fake_node: FakeNode) -> None:
    fake_node.add_function("hello")
    assert lambent("invoke", "hello", "--raw").out == "{}"


def test_an_event_is_read_from_a_file(lambent: Lambent, fake_node: FakeNode, alone: Path) -> None:
    fake_node.add_function("hello")
    (alone / "event.json").write_text('{"from": "file"}')
    assert lambent("invoke", "hello", "-d", "@event.json").code == 0
    assert fake_node.events == [("hello", b'{"from": "file"}')]


def test_a_failed_function_is_explained_and_has_an_exit_code_of_its_own(lambent: Lambent, fake_node: FakeNode) -> None:
    fake_node.add_function("hello")
    payload = b'{"errorMessage": "no such order", "errorType": "ValueError"}'
    fake_node.answers["hello"] = (payload, "Unhandled")
    ran = lambent("invoke", "hello")
    assert (ran.code, ran.out) == (5, payload.decode() + "\n")
    assert "hello failed: ValueError: no such order" in ran.err
    described = lambent("invoke", "hello", "--json")
    assert described.code == 5
    assert described.json["function_error"] == "Unhandled"
    assert described.json["payload"]["errorType"] == "ValueError"


def test_an_asynchronous_event_prints_nothing_on_stdout(lambent: Lambent, fake_node: FakeNode) -> None:
    fake_node.add_function("hello")
    ran = lambent("invoke", "hello", "--async")
    assert (ran.code, ran.out) == (0, "")
    assert "Accepted as request r-1" in ran.err


@pytest.mark.parametrize("data, says", [("{a}", "-d is not JSON"), ("@nofile", "nofile cannot be read")])
def test_an_event_that_cannot_be_is_refused_before_it_is_sent(
    lambent: Lambent, fake_node: FakeNode, data: str, says: str
) -> None:
    ran = lambent("invoke", "hello", "-d", data)
    assert ran.code == 2
    assert says in ran.err
    assert fake_node.calls == []


def test_what_does_not_exist_has_an_exit_code_of_its_own(lambent: Lambent) -> None:
    for arguments in (["invoke", "nope"], ["show", "nope"], ["rm", "nope", "--yes"], ["logs", "nope"]):
        ran = lambent(*arguments)
        assert ran.code == 3
        assert ran.out == ""
        assert "Function not found" in ran.err


def test_a_wrong_key_has_an_exit_code_of_its_own(lambent: Lambent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    ran = lambent("ls")
    assert ran.code == 4
    assert "unset AWS_ACCESS_KEY_ID" in ran.err


@pytest.mark.parametrize(
    ("code", "status", "message", "exit_code", "told"),
    [
        (
            "ValidationException",
            400,
            "1 validation error detected: Value 'a b' at 'functionName' failed to satisfy constraint: Member must "
            "satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?",
            2,
            "Error: 'a b' cannot be the name of a function: letters, digits, - and _, at most 64.\n",
        ),
        (
            "ValidationException",
            400,
            "1 validation error detected: Value '[x]' at 'layers' failed to satisfy constraint: Member must satisfy "
            "constraint: [Member must satisfy regular expression pattern: (arn:)]",
            2,
            "Error: layers: '[x]' does not have the form that it must have.\n",
        ),
        (
            "ValidationException",
            400,
            "1 validation error detected: Value 'xx' at 'description' failed to satisfy constraint: Member must have "
            "length less than or equal to 1",
            2,
            "Error: description: 'xx' must have length less than or equal to 1.\n",
        ),
        ("AccessDeniedException", 403, "Not yours.", 4, "Error: Not yours. (AccessDeniedException, request r)\n"),
        (
            "InvalidSignatureException",
            403,
            "Credential should be scoped to a valid region: this node is 'a', not 'b'.",
            4,
            "Leave out --region and unset AWS_REGION, or name the node's.\n",
        ),
        (
            "InvalidSignatureException",
            403,
            "Signature expired: 1 is now earlier than 2",
            4,
            "Error: Signature expired: 1 is now earlier than 2 (InvalidSignatureException, request r)\n",
        ),
    ],
)
def test_a_refusal_is_told_in_few_words_with_the_hint_that_fits(
    capfd: pytest.CaptureFixture[str], code: str, status: int, message: str, exit_code: int, told: str
) -> None:
    assert report(ApiError(code, message, status=status, request_id="r")) == exit_code
    assert capfd.readouterr().err.endswith(told)


def test_no_node_has_an_exit_code_of_its_own(lambent: Lambent) -> None:
    ran = lambent("ls", "--endpoint", "http://127.0.0.1:1")
    assert ran.code == 6
    assert "Start a node with `lambent up`" in ran.err


def test_no_error_is_a_traceback_unless_asked_for(lambent: Lambent, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" not in lambent("show", "nope").err
    monkeypatch.setenv("LAMBENT_DEBUG", "1")
    assert "Traceback" in lambent("show", "nope").err


def test_functions_are_listed_in_aligned_columns(lambent: Lambent, fake_node: FakeNode) -> None:
    fake_node.add_function("b", MemorySize=1024)
    fake_node.add_function("a-much-longer-name")
    lines = lambent("ls").out.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "a-much-longer-name", "b"]
    assert len({line.index("python3.12") for line in lines[1:]}) == 1
    assert [function["FunctionName"] for function in lambent("ls", "--json").json] == ["a-much-longer-name", "b"]


def test_an_empty_list_says_how_to_fill_it(lambent: Lambent) -> None:
    ran = lambent("ls")
    assert (ran.code, ran.out) == (0, "")
    assert "lambent deploy PATH" in ran.err
    assert lambent("ls", "--json").json == []


def test_a_function_is_shown_with_its_settings(lambent: Lambent, fake_node: FakeNode) -> None:
    fake_node.add_function("hello", Environment={"Variables": {"A": "1", "B": "2"}})
    ran = lambent("show", "hello")
    assert "Memory       128 MB" in ran.out
    assert "Variables    A=1\n             B=2" in ran.out
    assert lambent("show", "hello", "--json").json["Configuration"]["FunctionName"] == "hello"


def test_versions_are_shown_with_what_became_of_their_snapshot(lambent: Lambent, fake_node: FakeNode) -> None:
    snapstart = {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    fake_node.add_function("hello", Version="1", SnapStart=snapstart, StateReason="init left 1 thread")
    assert "off: init left 1 thread" in lambent("show", "hello").out
    fake_node.add_function("plain", Version="1")
    assert "SNAPSTART" not in lambent("show", "plain").out


def test_nothing_is_deleted_without_a_terminal_or_a_yes(lambent: Lambent, fake_node: FakeNode) -> None:
    fake_node.add_function("hello")
    ran = lambent("rm", "hello")
    assert ran.code == 2
    assert "add --yes" in ran.err
    assert "hello" in fake_node.functions
    assert lambent("rm", "hello", "--yes").code == 0
    assert "hello" not in fake_node.functions


def test_when_one_of_several_does_not_exist_none_is_deleted(lambent: Lambent, fake_node: FakeNode) -> None:
    fake_node.add_function("hello")
    assert lambent("rm", "hello", "nope", "--yes").code == 3
    assert "hello" in fake_node.functions


def test_logs_come_with_their_time_and_as_json_lines(lambent: Lambent, fake_node: FakeNode) -> None:
    line = {"sequence": 1, "timestamp_ms": 1_000, "request_id": "r", "kind": "function", "message": "hellö"}
    fake_node.add_function("hello")
    fake_node.log_lines["hello"] = [line]
    assert lambent("logs", "hello").out == "1970-01-01T00:00:01.000Z  hellö\n"
    assert json.loads(lambent("logs", "hello", "--json").out) == line
    quiet = lambent("logs", "hello", "--since", "10m")
    assert (quiet.code, quiet.out) == (0, "")
    assert "hello has written nothing in the last 10m." in quiet.err


@pytest.mark.parametrize("text, ms", [("30s", 970_000), ("10m", 400_000), ("1970-01-01T00:00:05+00:00", 5_000)])
def test_since_takes_ages_and_times(text: str, ms: int) -> None:
    assert parse_since(text, now=1_000) == ms


@pytest.mark.parametrize("text", ["yesterday", "10", "-5m", "99999-01-01"])
def test_since_refuses_what_is_neither(text: str) -> None:
    with pytest.raises(Failure, match="neither an age"):
        parse_since(text, now=time.time())


def test_the_lines_of_one_message_do_not_overwrite_each_other() -> None:
    assert unfold("one\rtwo\r\nthree", indent=2) == "one\n  two\n  three"


def test_status_tells_the_node_and_its_environments(lambent: Lambent) -> None:
    ran = lambent("status")
    assert "up 1 min 15 s" in ran.out
    assert "3 invocations, 2 cold starts (1 first, 1 new code), 1 error" in " ".join(ran.out.split())
    assert "hello" in ran.out
    assert lambent("status", "--json").json["account"] == "123456789012"


def test_runtimes_tell_how_to_get_what_is_missing(lambent: Lambent) -> None:
    ran = lambent("runtimes")
    assert ran.code == 0
    assert "python3.13 is not installed: install it" in ran.out
    assert len(lambent("runtimes", "--json").json["runtimes"]) == 6


def test_env_prints_what_aws_tools_need(lambent: Lambent, fake_node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    in_the_way = ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_ENDPOINT_URL_S3")
    for name in in_the_way:
        monkeypatch.setenv(name, "left-over")
    variables = lambent("env", "--json").json
    assert variables == {
        "AWS_ENDPOINT_URL": fake_node.endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_REGION": "eu-central-1",
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        "SAM_CLI_TELEMETRY": "0",
    }
    script = lambent("env", "--shell", "bash").out + "env"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert {name: seen[name] for name in variables} == variables
    assert not [name for name in in_the_way if name in seen]


def test_env_speaks_the_words_of_each_shell(lambent: Lambent) -> None:
    assert "set -gx AWS_REGION 'eu-central-1'" in lambent("env", "--shell", "fish").out
    assert "$env:AWS_REGION = 'eu-central-1'" in lambent("env", "--shell", "powershell").out
    assert guess_shell({"SHELL": "/usr/bin/fish"}) == "fish"
    assert guess_shell({"SHELL": "/usr/bin/pwsh"}) == "powershell"
    assert guess_shell({}) == "bash"


def test_env_without_a_node_says_so_instead_of_printing_half(alone: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from lambent.cli.main import run

    assert run(["env"]) == 4
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "lambent up" in captured.err


def test_a_reader_that_goes_away_is_no_error(fake_node: FakeNode, alone: Path) -> None:
    fake_node.add_function("hello")
    fake_node.log_lines["hello"] = [
        {"sequence": n, "timestamp_ms": n, "request_id": "", "kind": "function", "message": "x" * 1_000}
        for n in range(500)
    ]
    command = f"{sys.executable} -m lambent logs hello -n 500 | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        env=fake_node.environ() | {"PATH": "/usr/bin:/bin", "HOME": str(alone)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")


def test_up_refuses_settings_that_cannot_be(lambent: Lambent, alone: Path) -> None:
    (alone / "lambent.toml").write_text("porrt = 1\n")
    ran = lambent("up")
    assert ran.code == 1
    assert "lambent.toml: there is no setting porrt; did you mean port?" in ran.err


def test_sizes_and_durations_are_for_people() -> None:
    assert [show_bytes(n) for n in (0, 1023, 1024, 5 << 20, 3 << 40)] == ["0 B", "1023 B", "1.0 KB", "5.0 MB", "3.0 TB"]
    assert [show_duration(s) for s in (0.25, 59, 60, 185, 7_800, 86_400, 97_200)] == [
        "0.2 s",
        "59.0 s",
        "1 min",
        "3 min 5 s",
        "2 h 10 min",
        "1 d",
        "1 d 3 h",
    ]

"""Functions for Node.js, in CommonJS and ES modules."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from tests.conftest import Deploy, is_ci


def node_runtime() -> str:
    executable = shutil.which("node")
    if executable is None:
        assert not is_ci(), "node is needed: apt-get install nodejs"
        pytest.skip("node is not installed")
    major = (
        subprocess.run([executable, "--version"], capture_output=True, text=True, check=True).stdout[1:].split(".")[0]
    )
    if major not in ("20", "22", "24"):
        pytest.skip(f"node {major} runs none of the contract's runtimes")
    return f"nodejs{major}.x"


RUNTIME = node_runtime()


@pytest.mark.parametrize(
    "files",
    [
        {"index.js": "exports.handler = async (event) => ({ got: event.a });"},
        {"index.mjs": "export const handler = async (event) => ({ got: event.a });"},
        {
            "index.js": "export const handler = async (event) => ({ got: event.a });",
            "package.json": '{"type": "module"}',
        },
        {"index.cjs": "module.exports.handler = async (event) => ({ got: event.a });"},
        {"index.js": "exports.handler = (event, context, callback) => callback(null, { got: event.a });"},
        {"index.js": "exports.handler = (event, context) => context.succeed({ got: event.a });"},
    ],
)
def test_a_handler_of_every_kind_answers(deploy: Deploy, files: dict[str, str | bytes]) -> None:
    if "callback" in str(files) + str(files) and RUNTIME == "nodejs24.x":
        pytest.skip("Node.js 24 has no callbacks")
    function = deploy(files, Runtime=RUNTIME, Handler="index.handler")
    assert [function({"a": n}).payload for n in range(3)] == [{"got": n} for n in range(3)]


def test_the_context_and_the_log_are_the_contracts(deploy: Deploy) -> None:
    function = deploy(
        {
            "index.mjs": "export const handler = async (e, c) => { console.log('hello', {a: 1}); console.error('bad');"
            " return { id: c.awsRequestId, name: c.functionName, left: c.getRemainingTimeInMillis() }; }"
        },
        Runtime=RUNTIME,
        Handler="index.handler",
        Timeout=5,
    )
    answer = function()
    assert answer.payload["name"] == function.name
    assert 3000 < answer.payload["left"] <= 5000
    assert f"\t{answer.payload['id']}\tINFO\thello {{ a: 1 }}" in answer.log
    assert f"\t{answer.payload['id']}\tERROR\tbad" in answer.log
    assert "Init Duration" in answer.log


@pytest.mark.parametrize(
    ("source", "error_type", "message"),
    [
        ("exports.handler = async () => { throw new TypeError('bad'); };", "TypeError", "bad"),
        ("exports.other = 1;", "Runtime.HandlerNotFound", "index.handler is undefined or not exported"),
        ("require('nothing-here');", "Runtime.ImportModuleError", "Cannot find module 'nothing-here'"),
        ("exports.handler = (", "Runtime.UserCodeSyntaxError", "SyntaxError"),
        ("throw new RangeError('early');", "RangeError", "early"),
        (
            "exports.handler = async () => { Promise.reject(new Error('lost')); await new Promise(() => {}); };",
            "Runtime.UnhandledPromiseRejection",
            "lost",
        ),
        ("exports.handler = async () => { process.exit(3); };", "Runtime.ExitError", "exit status 3"),
    ],
)
def test_failures_have_the_contracts_types(deploy: Deploy, source: str, error_type: str, message: str) -> None:
    function = deploy({"index.js": source}, Runtime=RUNTIME, Handler="index.handler")
    answer = function()
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == error_type
    assert message in answer.payload["errorMessage"]


def test_module_state_is_kept_and_a_timeout_replaces_the_environment(deploy: Deploy) -> None:
    function = deploy(
        {
            "index.js": "let n = 0; exports.handler = async (e) => {"
            " n += 1; if (e.hang) await new Promise((r) => setTimeout(r, 60000)); return n; };"
        },
        Runtime=RUNTIME,
        Handler="index.handler",
        Timeout=1,
    )
    assert [function().payload, function().payload] == [1, 2]
    assert function({"hang": True}).payload["errorType"] == "Sandbox.Timedout"
    assert function().payload == 1


def test_an_exception_nobody_caught_ends_the_environment_and_not_the_next_invocation(deploy: Deploy) -> None:
    function = deploy(
        {
            "index.js": "exports.handler = async (e) => { if (!e.lose) return 'well';"
            " Promise.reject(new Error('lost')); await new Promise((r) => setTimeout(r, 50)); return 1; };"
        },
        Runtime=RUNTIME,
        Handler="index.handler",
    )
    for _ in range(3):
        assert function({"lose": True}).payload["errorType"] == "Runtime.UnhandledPromiseRejection"
        answer = function()
        assert answer.payload == "well"
        assert answer.log.count("START RequestId") == 1
        assert "Init Duration" in answer.log


@pytest.mark.skipif(RUNTIME == "nodejs24.x", reason="Node.js 24 has no callbacks")
@pytest.mark.parametrize(
    ("body", "answer"),
    [
        # A callback waits until nothing is left to do, unless it is told not to; context.done never does.
        ("setTimeout(() => { global.late = 1; }, 300); callback(null, 'called');", "called"),
        (
            "setTimeout(() => {}, 60000).unref(); setTimeout(() => {}, 60000);"
            " context.callbackWaitsForEmptyEventLoop = false; callback(null, 'at once');",
            "at once",
        ),
        ("setTimeout(() => {}, 60000); context.done(null, 'done');", "done"),
        ("callback(null, 'first'); callback(null, 'second');", "first"),
        # Who calls nothing back has returned nothing.
        ("global.late = 1;", None),
        ("return 5;", None),
        ("setTimeout(() => callback(null, 'later'), 100);", "later"),
    ],
)
def test_a_handler_with_a_callback_is_done_when_it_says_so_or_has_nothing_left_to_do(
    deploy: Deploy, body: str, answer: str | None
) -> None:
    source = f"exports.handler = (event, context, callback) => {{ {body} }};"
    function = deploy({"index.js": source}, Runtime=RUNTIME, Handler="index.handler", Timeout=10)
    for _ in range(3):
        given = function()
        assert (given.error, given.payload) == ("", answer)
    assert "Init Duration" not in given.log


def test_a_promise_that_nothing_can_settle_is_an_error_and_not_the_end_of_the_environment(deploy: Deploy) -> None:
    function = deploy(
        {"index.js": "exports.handler = async (e) => { if (e.lose) await new Promise(() => {}); return 1; };"},
        Runtime=RUNTIME,
        Handler="index.handler",
    )
    assert function({"lose": True}).payload["errorType"] == "Runtime.NodeJsExit"
    after = function()
    assert after.payload == 1
    assert "Init Duration" not in after.log

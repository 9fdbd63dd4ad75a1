from __future__ import annotations

import json
from typing import Any

import awslambdaric.bootstrap as ric
import pytest
from awslambdaric.lambda_context import LambdaContext as Oracle

from lambent.dataplane.runtime import context
from lambent.dataplane.runtime.context import LambdaContext, NotUnderstood
from lambent.dataplane.wire.frames import Call

W3C = {"traceparent": "00-1-2-01", "baggage": 3, "other": "x"}


def make(client_context: str = "", identity: str = "") -> LambdaContext:
    return LambdaContext(Call("r1", b"{}", 5_000_000_000_000, "arn", "Root=1", client_context, identity))


@pytest.mark.parametrize("w3c", [W3C, "text", None, {}])
def test_the_trace_context_is_taken_out_of_the_client_context(w3c: Any) -> None:
    fields = {"custom": {"a": 1}, "env": {"locale": "de"}, "client": {"app_title": "t"}, "w3c": w3c}
    oracle = Oracle("r1", json.loads(json.dumps(fields)), None, 5_000_000_000_000)
    ours = make(json.dumps(fields))
    assert ours.w3c() == oracle.w3c()
    assert ours.client_context is not None
    assert ours.client_context.custom == oracle.client_context.custom
    assert ours.client_context.env == oracle.client_context.env
    client: Any = ours.client_context.client
    assert client.app_title == oracle.client_context.client.app_title
    assert client.installation_id == oracle.client_context.client.installation_id


def test_without_a_client_context_there_is_none_and_an_identity_is_always_there() -> None:
    made = make()
    assert (made.client_context, made.w3c()) == (None, {})
    assert made.identity.cognito_identity_id is None
    assert make(identity='{"cognitoIdentityId": "id"}').identity.cognito_identity_id == "id"


def test_the_time_that_is_left_is_never_less_than_none() -> None:
    assert make().get_remaining_time_in_millis() > 0
    over = LambdaContext(Call("r1", b"{}", 1, "arn", "", "", ""))
    assert over.get_remaining_time_in_millis() == 0


VARIABLES = {
    "AWS_LAMBDA_FUNCTION_NAME": "fn",
    "AWS_LAMBDA_FUNCTION_VERSION": "7",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/fn",
    "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[7]abc",
}
FIELDS = '{"custom": {"a": 1}, "env": {"locale": "de"}, "client": {"app_title": "t"}}'
IDENTITY = '{"cognitoIdentityId": "id", "cognitoIdentityPoolId": "pool"}'


@pytest.mark.parametrize(("client_context", "identity"), [("", ""), (FIELDS, IDENTITY), ("{}", "{}"), ("null", "null")])
def test_a_context_shows_itself_as_the_contracts_own(
    monkeypatch: pytest.MonkeyPatch, client_context: str, identity: str
) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    for name in ("function_name", "function_version", "memory_limit_in_mb", "log_group_name", "log_stream_name"):
        monkeypatch.setattr(LambdaContext, name, None)
    context.describe_function()
    oracle = ric.create_lambda_context(client_context, identity, 5_000_000_000_000, "r1", "arn", None)
    ours = make(client_context, identity)
    assert repr(ours) == repr(oracle)
    assert {name for name in dir(oracle) if not name.startswith("_")} == {
        # All that is ours: where a handler writes an answer that it streams.
        name
        for name in dir(ours)
        if not name.startswith("_") and name not in ("response_stream", "streams_response")
    }
    if oracle.client_context is not None:
        assert repr(ours.client_context) == repr(oracle.client_context)


@pytest.mark.parametrize(("client_context", "identity"), [("{", ""), ("", "x"), ("x", "x")])
def test_what_came_with_the_event_and_is_no_json_is_refused_as_by_the_contracts_own(
    client_context: str, identity: str
) -> None:
    with pytest.raises(ric.FaultException) as expected:
        ric.create_lambda_context(client_context, identity, 0, "r1", "arn", None)
    with pytest.raises(NotUnderstood) as refused:
        make(client_context, identity)
    assert (str(refused.value), refused.value.error_type) == (expected.value.msg, expected.value.exception_type)


@pytest.mark.parametrize("client_context", ["[1]", "5", '{"client": "text"}'])
def test_what_came_with_the_event_and_is_no_object_fails_as_with_the_contracts_own(client_context: str) -> None:
    with pytest.raises(AttributeError) as expected:
        ric.create_lambda_context(client_context, "", 0, "r1", "arn", None)
    with pytest.raises(AttributeError) as failed:
        make(client_context)
    assert str(failed.value) == str(expected.value)


def test_a_message_of_a_context_is_one_event_of_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    make().log("one")
    make().log("two\nlines\n")
    make().log(3)
    assert capfd.readouterr().out == "one\ntwo\rlines\n3\n"

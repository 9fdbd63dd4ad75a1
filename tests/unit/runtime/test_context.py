from __future__ import annotations

import json
from typing import Any

import pytest
from awslambdaric.lambda_context import LambdaContext as Oracle

from lambent.dataplane.runtime.context import LambdaContext
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
    context = make()
    assert (context.client_context, context.w3c()) == (None, {})
    assert context.identity.cognito_identity_id is None
    assert make(identity='{"cognitoIdentityId": "id"}').identity.cognito_identity_id == "id"


def test_the_time_that_is_left_is_never_less_than_none() -> None:
    assert make().get_remaining_time_in_millis() > 0
    over = LambdaContext(Call("r1", b"{}", 1, "arn", "", "", ""))
    assert over.get_remaining_time_in_millis() == 0

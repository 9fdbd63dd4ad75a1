from __future__ import annotations

import json
from typing import Any

import pytest

from lambent.events.patterns import compile_filters, compile_policy
from lambent.model.errors import CallerError

JSON_BODY = json.dumps({"RecordNumber": 1, "Location": "Riga"}).encode()


@pytest.mark.parametrize(
    ("patterns", "data", "expected"),
    [
        ([], b"anything", True),
        ([{"body": {"RecordNumber": [{"numeric": [">=", 1]}]}}], JSON_BODY, True),
        ([{"body": {"RecordNumber": [2]}}], JSON_BODY, False),
        ([{"body": {"Missing": [{"exists": False}]}}], JSON_BODY, True),
        ([{"body": {"Missing": [{"exists": False}]}}], b"plain", False),
        ([{"body": ["plain"]}], b"plain", True),
        ([{"body": [{"prefix": "pl"}]}], b"plain", True),
        ([{"body": [{"exists": True}]}], JSON_BODY, False),
        ([{"eventSource": ["aws:sqs"]}], b"\xff\x00", True),
        ([{"body": {"a": [1]}}, {"body": ["plain"]}], b"plain", True),
        ([{"$or": [{"body": {"Location": ["Oslo"]}}, {"eventSource": ["aws:sqs"]}]}], b"plain", True),
    ],
)
def test_filters_see_the_data_as_json_or_as_text(patterns: list[Any], data: bytes, expected: bool) -> None:
    record = {"eventSource": "aws:sqs", "body": data.decode("latin-1")}
    assert compile_filters([json.dumps(pattern) for pattern in patterns], "body").passes(record, data) is expected


@pytest.mark.parametrize(
    ("policy", "attributes", "expected"),
    [
        ({"store": ["example_corp"]}, {"store": ("String", "example_corp")}, True),
        ({"store": ["example_corp"]}, {}, False),
        ({"price": [{"numeric": [">=", 100]}]}, {"price": ("Number", "210.75")}, True),
        ({"price": [100]}, {"price": ("Number", "100.0")}, True),
        ({"price": [100]}, {"price": ("String", "100")}, False),
        ({"interests": ["rugby"]}, {"interests": ("String.Array", '["soccer", "rugby"]')}, True),
        (
            {"interests": [{"anything-but": ["rugby"]}]},
            {"interests": ("String.Array", '["rugby", "baseball"]')},
            True,
        ),
        ({"interests": [{"anything-but": ["rugby"]}]}, {"interests": ("String.Array", '["rugby"]')}, False),
        ({"raw": [{"exists": True}]}, {"raw": ("Binary", b"x")}, False),
        ({"$or": [{"a": ["1"]}, {"b": ["2"]}]}, {"b": ("String", "2")}, True),
    ],
)
def test_a_policy_looks_at_attributes(policy: Any, attributes: Any, expected: bool) -> None:
    assert compile_policy(json.dumps(policy)).matches(attributes, "") is expected


def test_a_policy_on_the_body_takes_json_objects_only() -> None:
    policy = compile_policy('{"order": {"state": ["paid"]}}', "MessageBody")
    assert policy.matches({}, '{"order": {"state": "paid"}}')
    assert not policy.matches({}, "paid")
    assert not policy.matches({}, '["paid"]')


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"a": {"b": ["c"]}}, "does not support nested"),
        ({name: ["x"] for name in "abcdef"}, "more than 5 keys"),
        ({"a": list("abcdefghijklm"), "b": list("abcdefghijklm")}, "too complex"),
        ({"a": "b"}, '"a" must be an object or an array'),
    ],
)
def test_a_policy_beyond_the_limits_is_refused(policy: Any, reason: str) -> None:
    with pytest.raises(CallerError) as refused:
        compile_policy(json.dumps(policy))
    assert refused.value.code == "InvalidParameter"
    assert reason in refused.value.message

"""The tables of the EventBridge user guide ("Comparison operators for use in event patterns") and what is around."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambent.events.patterns import MAPPING, TOPIC, PatternRefused, compile_pattern
from lambent.model.errors import CallerError

EVENT: dict[str, Any] = {
    "version": "0",
    "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "account": "111122223333",
    "time": "2017-12-22T18:43:48Z",
    "region": "us-west-1",
    "resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0"],
    "detail": {
        "instance-id": "i-1234567890abcdef0",
        "state": "terminated",
        "responseElements": None,
        "EventVersion": "",
        "c-count": 5,
        "d-count": 3,
        "x-limit": 3.018e2,
        "source-ip": "10.0.0.123",
        "source-ip6": "2001:db8::7",
        "FileName": "Dir/Photo.PNG",
        "path": "a*b\\c",
        "flag": True,
        "one": 1,
        "empty": [],
        "nested": {"tags": [{"k": "env", "v": "prod"}, {"k": "team", "v": "red"}]},
        "numbers": [1, [2, 3]],
    },
}

CASES: list[tuple[dict[str, Any], bool]] = [
    ({"source": ["aws.ec2"]}, True),
    ({"source": ["aws.s3", "aws.ec2"], "region": ["us-west-1"]}, True),
    ({"source": ["aws.ec2"], "region": ["eu-west-1"]}, False),
    ({"source": ["AWS.EC2"]}, False),
    ({"resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0"]}, True),
    ({"detail": {"responseElements": [None]}}, True),
    ({"detail": {"nothing": [None]}}, False),
    ({"detail": {"EventVersion": [""]}}, True),
    ({"detail": {"state": [""]}}, False),
    ({"detail": {"flag": [True]}}, True),
    ({"detail": {"flag": [1]}}, False),
    ({"detail": {"one": [True]}}, False),
    ({"detail": {"one": [1.0]}}, True),
    ({"detail": {"one": ["1"]}}, False),
    ({"time": [{"prefix": "2017-12-22"}]}, True),
    ({"time": [{"prefix": "2018"}]}, False),
    ({"detail": {"FileName": [{"prefix": {"equals-ignore-case": "dIR/"}}]}}, True),
    ({"detail": {"FileName": [{"suffix": ".png"}]}}, False),
    ({"detail": {"FileName": [{"suffix": ".PNG"}]}}, True),
    ({"detail": {"FileName": [{"suffix": {"equals-ignore-case": ".png"}}]}}, True),
    ({"detail-type": [{"equals-ignore-case": "ec2 instance state-change notification"}]}, True),
    ({"detail": {"state": [{"anything-but": "initializing"}]}}, True),
    ({"detail": {"state": [{"anything-but": "terminated"}]}}, False),
    ({"detail": {"x-limit": [{"anything-but": 123}]}}, True),
    ({"detail": {"x-limit": [{"anything-but": [100, 301.8]}]}}, False),
    ({"detail": {"state": [{"anything-but": ["stopped", "overloaded"]}]}}, True),
    ({"detail": {"state": [{"anything-but": {"prefix": "init"}}]}}, True),
    ({"detail": {"state": [{"anything-but": {"prefix": ["term", "x"]}}]}}, False),
    ({"detail": {"FileName": [{"anything-but": {"suffix": ".txt"}}]}}, True),
    ({"detail": {"FileName": [{"anything-but": {"suffix": [".txt", ".PNG"]}}]}}, False),
    ({"detail": {"state": [{"anything-but": {"equals-ignore-case": "TERMINATED"}}]}}, False),
    ({"detail": {"state": [{"anything-but": {"equals-ignore-case": ["init", "stopped"]}}]}}, True),
    ({"detail": {"FileName": [{"anything-but": {"wildcard": "*/Photo.*"}}]}}, False),
    ({"detail": {"FileName": [{"anything-but": {"wildcard": ["*/lib/*", "*.txt"]}}]}}, True),
    ({"detail": {"nothing": [{"anything-but": "x"}]}}, False),
    ({"detail": {"responseElements": [{"anything-but": "x"}]}}, True),
    ({"detail": {"c-count": [{"numeric": [">", 0, "<=", 5]}]}}, True),
    ({"detail": {"c-count": [{"numeric": [">", 0, "<", 5]}]}}, False),
    ({"detail": {"d-count": [{"numeric": ["<", 10]}]}}, True),
    ({"detail": {"x-limit": [{"numeric": ["=", 301.8]}]}}, True),
    ({"detail": {"flag": [{"numeric": ["=", 1]}]}}, False),
    ({"account": [{"numeric": [">", 0]}]}, False),
    ({"detail": {"source-ip": [{"cidr": "10.0.0.0/24"}]}}, True),
    ({"detail": {"source-ip": [{"cidr": "10.0.1.0/24"}]}}, False),
    ({"detail": {"source-ip6": [{"cidr": "2001:db8::/32"}]}}, True),
    ({"detail": {"source-ip": [{"cidr": "::/0"}]}}, False),
    ({"detail": {"state": [{"cidr": "0.0.0.0/0"}]}}, False),
    ({"detail": {"state": [{"exists": True}]}}, True),
    ({"detail": {"state": [{"exists": False}]}}, False),
    ({"detail": {"nothing": [{"exists": False}]}}, True),
    ({"detail": {"responseElements": [{"exists": True}]}}, True),
    ({"detail": {"nested": [{"exists": True}]}}, False),
    ({"detail": {"empty": [{"exists": True}]}}, False),
    ({"absent": {"below": [{"exists": False}]}}, True),
    ({"detail": {"state": [{"exists": False}, "terminated"]}}, True),
    ({"detail": {"FileName": [{"wildcard": "Dir/*.PNG"}]}}, True),
    ({"detail": {"FileName": [{"wildcard": "*"}]}}, True),
    ({"detail": {"FileName": [{"wildcard": "Dir/*.png"}]}}, False),
    ({"detail": {"path": [{"wildcard": "a\\*b\\\\*"}]}}, True),
    ({"detail": {"path": [{"wildcard": "a\\*c"}]}}, False),
    ({"$or": [{"source": ["aws.s3"]}, {"detail": {"d-count": [{"numeric": ["<", 10]}]}}]}, True),
    ({"source": ["aws.s3"], "$or": [{"region": ["us-west-1"]}, {"account": ["1"]}]}, False),
    ({"detail": {"$or": [{"state": ["running"]}, {"one": [2]}]}}, False),
    ({"detail": {"nested": {"tags": {"k": ["env"], "v": ["prod"]}}}}, True),
    ({"detail": {"nested": {"tags": {"k": ["env"], "v": ["red"]}}}}, False),
    ({"detail": {"numbers": [3]}}, True),
]


@pytest.mark.parametrize(("pattern", "expected"), CASES, ids=[json.dumps(pattern) for pattern, _ in CASES])
def test_an_event_matches_as_the_tables_say(pattern: dict[str, Any], expected: bool) -> None:
    assert compile_pattern(json.dumps(pattern)).matches(EVENT) is expected


REFUSED: list[tuple[str, str]] = [
    ("", "Filter is not an object"),
    ("[]", "Filter is not an object"),
    ("{", "Invalid JSON"),
    ('{"a": NaN}', "Invalid JSON"),
    ("{}", "Empty objects are not allowed"),
    ('{"a": {}}', "Empty objects are not allowed"),
    ('{"a": "b"}', '"a" must be an object or an array'),
    ('{"a": []}', "Empty arrays are not allowed"),
    ('{"a": [["b"]]}', "Match value must be String, number, true, false, or null"),
    ('{"a": [{"foo": 1}]}', "Unrecognized match type foo"),
    ('{"a": [{"prefix": "a", "suffix": "b"}]}', "Only one key allowed in match expression"),
    ('{"a": [{"prefix": 1}]}', "prefix match pattern must be a string"),
    ('{"a": [{"exists": "yes"}]}', "exists match pattern must be either true or false."),
    ('{"a": [{"numeric": 5}]}', "Value of numeric must be an array."),
    ('{"a": [{"numeric": ["~", 5]}]}', "Unrecognized numeric range operator: ~"),
    ('{"a": [{"numeric": [">", "5"]}]}', "Value of > must be numeric"),
    ('{"a": [{"numeric": [">"]}]}', "Value of > must be numeric"),
    ('{"a": [{"numeric": [">", 5, "<", 5]}]}', "Bottom must be less than top"),
    ('{"a": [{"numeric": ["<", 5, ">", 1]}]}', "Too many terms in numeric range expression"),
    ('{"a": [{"numeric": [">", 1, "=", 5]}]}', "Bad numeric range operator: ="),
    ('{"a": [{"numeric": ["=", 6000000000]}]}', "Value must be between"),
    ('{"a": [{"anything-but": []}]}', "Empty arrays are not allowed"),
    ('{"a": [{"anything-but": ["a", 1]}]}', "mixed type is not supported"),
    ('{"a": [{"anything-but": null}]}', "must be an array or single string/number value"),
    ('{"a": [{"anything-but": {"numeric": ["=", 1]}}]}', "Unsupported anything-but pattern: numeric"),
    ('{"a": [{"anything-but": {"prefix": ""}}]}', "Null prefix not allowed"),
    ('{"a": [{"cidr": "10.0.0.1"}]}', "Malformed CIDR, one '/' required"),
    ('{"a": [{"cidr": "10.0.0.1/99"}]}', "Malformed CIDR"),
    ('{"a": [{"wildcard": "a**b"}]}', "Consecutive wildcard characters at pos 1"),
    ('{"a": [{"wildcard": "a\\\\b"}]}', "Invalid escape character at pos 1"),
    ('{"$or": [{"a": [1]}]}', "There must have at least 2 Objects"),
    ('{"$or": [{"a": [1]}, 2]}', "There must have at least 2 Objects"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_a_bad_pattern_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(PatternRefused) as refused:
        compile_pattern(text)
    assert reason in refused.value.reason
    assert refused.value.code == "InvalidEventPatternException"
    assert refused.value.message.startswith("Event pattern is not valid. Reason: ")


def test_each_dialect_refuses_in_its_own_words() -> None:
    codes = []
    for dialect in (MAPPING, TOPIC):
        with pytest.raises(CallerError) as refused:
            compile_pattern("[]", dialect)
        codes.append(refused.value.code)
    assert codes == ["InvalidParameterValueException", "InvalidParameter"]


def test_a_deeply_nested_pattern_is_refused_and_not_a_crash() -> None:
    with pytest.raises(PatternRefused):
        compile_pattern('{"a":' * 50_000 + "1" + "}" * 50_000)


def test_a_wildcard_with_many_stars_is_linear_in_the_value() -> None:
    pattern = compile_pattern(json.dumps({"a": [{"wildcard": "*".join("a" * 30) + "*b"}]}))
    assert pattern.matches({"a": "a" * 100_000}) is False

"""What functions as authorizers answer, and how long that is kept; token buckets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from lambent.frontdoor.authorizers.decision import Forbidden, Unauthorized
from lambent.frontdoor.authorizers.functions import AuthorizerFailed, Verdicts, allows, flatten_context, read_verdict
from lambent.frontdoor.throttling import Throttle

ARN = "arn:aws:execute-api:us-east-1:123456789012:abc/dev/GET/pets/dog"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def statement(effect: str, resource: Any, action: Any = "execute-api:Invoke", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Resource": resource, "Action": action, **more}


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([], False),
        ([statement("Allow", ARN)], True),
        ([statement("Allow", "*")], True),
        ([statement("Allow", ARN.replace("GET/pets/dog", "*"))], True),
        ([statement("Allow", ARN.replace("dog", "do?"))], True),
        ([statement("Allow", [ARN.replace("dog", "cat"), ARN])], True),
        ([statement("Allow", ARN.replace("dog", "cat"))], False),
        ([statement("Allow", ARN, "execute-api:*")], True),
        ([statement("Allow", ARN, ["lambda:Invoke", "EXECUTE-API:invoke"])], True),
        ([statement("Allow", ARN, "lambda:*")], False),
        ([statement("Allow", "*"), statement("Deny", ARN)], False),
        ([statement("Allow", ARN, Condition={"IpAddress": {}})], False),
        ([statement("Allow", ARN.replace(".", "x").replace("-", "."))], False),
    ],
)
def test_a_policy_allows_what_it_names_unless_it_denies_it(statements: list[dict[str, Any]], expected: bool) -> None:
    assert allows(statements, ARN) is expected


@pytest.mark.parametrize("answer", [b"", b"[]", b"7", b'{"isAuthorized": 1}', b"{}", b'{"context": []}'])
def test_what_is_no_answer_of_an_authorizer_is_a_failure(answer: bytes) -> None:
    for simple in (True, False):
        with pytest.raises(AuthorizerFailed):
            read_verdict(answer, simple=simple)


def test_an_authorizer_may_say_that_it_knows_nobody() -> None:
    with pytest.raises(Unauthorized):
        read_verdict(b'"Unauthorized"', simple=False)


def test_only_texts_numbers_and_truth_values_are_a_flat_context() -> None:
    assert flatten_context({"a": "b", "n": 7, "t": True, "x": None}) == {"a": "b", "n": "7", "t": "true", "x": None}
    with pytest.raises(AuthorizerFailed):
        flatten_context({"a": {"b": 1}})


async def test_a_question_is_asked_once_at_a_time_and_its_answer_kept_for_as_long_as_it_says() -> None:
    clock, asked = Clock(), 0
    verdicts = Verdicts(clock)

    async def ask() -> bytes:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return json.dumps({"isAuthorized": True, "context": {"asked": asked}}).encode()

    answers = await asyncio.gather(*(verdicts.find("token", 60, ask, simple=True) for _ in range(5)))
    assert {answer.context["asked"] for answer in answers} == {1}
    clock.now = 59
    assert (await verdicts.find("token", 60, ask, simple=True)).context == {"asked": 1}
    clock.now = 61
    assert (await verdicts.find("token", 60, ask, simple=True)).context == {"asked": 2}
    assert (await verdicts.find("token", 0, ask, simple=True)).context == {"asked": 3}


async def test_a_failure_is_not_kept_and_a_denial_is_held_against_each_request() -> None:
    verdicts = Verdicts(Clock())

    async def fail() -> bytes:
        raise AuthorizerFailed("no")

    async def answer() -> bytes:
        return json.dumps({"policyDocument": {"Statement": [statement("Allow", ARN)]}}).encode()

    with pytest.raises(AuthorizerFailed):
        await verdicts.find("token", 60, fail, simple=False)
    verdict = await verdicts.find("token", 60, answer, simple=False)
    verdict.check(ARN)
    with pytest.raises(Forbidden):
        verdict.check(ARN.replace("dog", "cat"))


def test_a_bucket_lets_its_burst_through_at_once_and_then_its_rate() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    assert [throttle.take("a", rate=2, burst=3) for _ in range(4)] == [True, True, True, False]
    assert throttle.take("b", rate=2, burst=3)
    clock.now = 0.5
    assert [throttle.take("a", rate=2, burst=3) for _ in range(2)] == [True, False]
    clock.now = 100
    assert [throttle.take("a", rate=2, burst=3) for _ in range(4)] == [True, True, True, False]
    assert throttle.take("a", rate=2, burst=5)
    assert not throttle.take("c", rate=0, burst=0)

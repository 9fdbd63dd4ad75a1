"""Resource policies of REST APIs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambent.frontdoor.rest_apis.policies import check_policy, judge, read_statements
from lambent.model.errors import CallerError

ARN = "arn:aws:execute-api:us-east-1:111122223333:abc123/test/GET/pets/1"


def allows(*statements: dict[str, Any], ip: str = "10.1.2.3", account: str = "") -> bool:
    full = [{"Principal": "*", "Action": "execute-api:Invoke", **statement} for statement in statements]
    policy = json.dumps({"Version": "2012-10-17", "Statement": full})
    check_policy(policy)
    return judge(read_statements(policy), arn=ARN, source_ip=ip, account=account)


ALL = {"Effect": "Allow", "Resource": "*"}


def test_what_no_statement_names_is_denied_and_a_denial_wins() -> None:
    assert allows(ALL)
    assert not allows()
    assert not allows(ALL, {"Effect": "Deny", "Resource": "execute-api:/test/GET/pets/*"})
    assert allows(ALL, {"Effect": "Deny", "Resource": "execute-api:/test/POST/*"})
    assert allows({"Effect": "Allow", "Resource": ARN})
    assert not allows({"Effect": "Allow", "Resource": ARN.replace("abc123", "other1")})


def test_addresses_and_accounts_are_held_against_the_caller() -> None:
    near = {"Condition": {"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "192.168.0.1"]}}}
    assert allows({**ALL, **near})
    assert not allows({**ALL, **near}, ip="11.0.0.1")
    assert not allows({**ALL, **near}, ip="")
    far = {"Condition": {"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}
    assert not allows(ALL, {**ALL, **far, "Effect": "Deny"}, ip="11.0.0.1")
    own = {**ALL, "Principal": {"AWS": "arn:aws:iam::111122223333:root"}}
    assert allows(own, account="111122223333")
    assert not allows(own, account="999999999999")
    assert not allows(own)


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Maybe", "Resource": "*"},
        {"Effect": "Allow"},
        {**ALL, "Action": "s3:GetObject"},
        {**ALL, "Principal": {"Service": "x"}},
        {**ALL, "Condition": {"IpAddress": {"aws:SourceIp": "no address"}}},
        {**ALL, "Condition": {"StringEquals": {"aws:SourceVpc": "vpc-1"}}},
        {**ALL, "Condition": {"IpAddress": {"aws:VpcSourceIp": "10.0.0.0/8"}}},
    ],
)
def test_what_is_not_understood_is_refused_when_it_is_given(statement: dict[str, Any]) -> None:
    with pytest.raises(CallerError, match="Invalid policy document"):
        allows(statement)

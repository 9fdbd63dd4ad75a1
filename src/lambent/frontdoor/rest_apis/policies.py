"""Resource policies of REST APIs: who may call, by principal, path and address (developer guide, "Control access to a
REST API with API Gateway resource policies").

What is not understood is refused when the policy is given: a condition that is not looked at must allow nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

import msgspec

from lambent.frontdoor.answers import bad_request
from lambent.frontdoor.authorizers.functions import names_resource
from lambent.model.errors import CallerError

_ACTIONS = ("execute-api:Invoke", "execute-api:*", "*")
_OPERATORS = ("IpAddress", "NotIpAddress")
_KEY = "aws:sourceip"


def check_policy(text: str) -> None:
    """Raises CallerError `BadRequestException`."""
    for statement in read_statements(text):
        if statement.get("Effect") not in ("Allow", "Deny"):
            raise _bad("Effect must be Allow or Deny")
        if not _list(statement.get("Resource")):
            raise _bad("each statement needs a Resource")
        for action in _list(statement.get("Action")):
            if action not in _ACTIONS:
                raise _bad(f"the Action '{action}' is not execute-api:Invoke")
        _check_principal(statement.get("Principal"))
        for operator, keys in (statement.get("Condition") or {}).items():
            if operator not in _OPERATORS or not isinstance(keys, dict) or any(key.lower() != _KEY for key in keys):
                raise _bad("conditions are IpAddress and NotIpAddress of aws:SourceIp; Lambent knows no others here")
            for network in _list(next(iter(keys.values()), [])):
                try:
                    ipaddress.ip_network(network, strict=False)
                except ValueError:
                    raise _bad(f"'{network}' is no address and no network") from None


def read_statements(text: str) -> list[dict[str, Any]]:
    """Raises CallerError."""
    try:
        policy = msgspec.json.decode(text)
    except ValueError:
        raise _bad("it is no JSON") from None
    statements = policy.get("Statement") if isinstance(policy, dict) else None
    statements = [statements] if isinstance(statements, dict) else statements
    if not isinstance(statements, list) or not all(isinstance(entry, dict) for entry in statements):
        raise _bad("it has no Statement")
    return statements


def judge(statements: list[dict[str, Any]], *, arn: str, source_ip: str, account: str) -> bool:
    """Whether a request from that address, signed by that account (empty for nobody), may go to `arn`.

    A denial wins; what no statement names is denied.
    """
    allowed = False
    for statement in statements:
        if not _is_for(statement, account) or not _names(statement, arn) or not _holds(statement, source_ip):
            continue
        if statement["Effect"] == "Deny":
            return False
        allowed = True
    return allowed


def _names(statement: Mapping[str, Any], arn: str) -> bool:
    """`execute-api:/STAGE/METHOD/PATH` stands for the API that the policy belongs to."""
    short = arn.split(":", 5)[5].partition("/")[2]
    return any(
        names_resource(pattern.removeprefix("execute-api:/"), short)
        if pattern.startswith("execute-api:/")
        else names_resource(pattern, arn)
        for pattern in _list(statement.get("Resource"))
    )


def _is_for(statement: Mapping[str, Any], account: str) -> bool:
    principal = statement.get("Principal")
    if principal == "*":
        return True
    named = _list(principal.get("AWS")) if isinstance(principal, dict) else []
    return "*" in named or (bool(account) and any(name in (account, f"arn:aws:iam::{account}:root") for name in named))


def _check_principal(principal: Any) -> None:
    if principal != "*" and not (isinstance(principal, dict) and set(principal) == {"AWS"}):
        raise _bad("Principal must be * or name accounts, like {'AWS': '*'}")


def _holds(statement: Mapping[str, Any], source_ip: str) -> bool:
    for operator, keys in (statement.get("Condition") or {}).items():
        networks = [ipaddress.ip_network(text, strict=False) for text in _list(next(iter(keys.values()), []))]
        try:
            is_within = any(ipaddress.ip_address(source_ip) in network for network in networks)
        except ValueError:
            is_within = False
        if is_within != (operator == "IpAddress"):
            return False
    return True


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [item for item in value or [] if isinstance(item, str)]


def _bad(reason: str) -> CallerError:
    return bad_request(f"Invalid policy document: {reason}.")

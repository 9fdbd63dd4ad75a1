"""Functions as authorizers: what they are asked is known to the caller; how their answer is read is told here.

Source: API Gateway developer guide, "Control access with AWS Lambda authorizers" of HTTP APIs and of REST APIs.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any

import msgspec

from lambent.frontdoor.authorizers.decision import Forbidden, Unauthorized

MOST_KEPT = 10_000

Ask = Callable[[], Awaitable[bytes]]
"""Invokes the function. Returns its result; raises AuthorizerFailed."""


class AuthorizerFailed(Exception):
    """It failed, or its answer is none: 500."""


class Verdict(msgspec.Struct, kw_only=True):
    """What the function said, as it is kept: policies are held against each request anew."""

    context: dict[str, Any]
    principal_id: str = ""
    is_authorized: bool | None = None
    """Of a simple response."""
    statements: list[dict[str, Any]] = []
    usage_key: str = ""

    def check(self, arn: str) -> None:
        """Raises Forbidden unless the request to `arn` is allowed."""
        allowed = self.is_authorized if self.is_authorized is not None else allows(self.statements, arn)
        if not allowed:
            raise Forbidden


class Verdicts:
    """Asks each question once, and keeps the answer for as long as the authorizer says."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[float, Verdict]] = OrderedDict()
        self._asking: dict[Hashable, asyncio.Task[Verdict]] = {}

    async def find(self, key: Hashable, ttl_s: float, ask: Ask, *, simple: bool) -> Verdict:
        """Raises AuthorizerFailed, Unauthorized."""
        if ttl_s <= 0:
            return read_verdict(await ask(), simple=simple)
        kept = self._kept.get(key)
        if kept is not None and self._clock() < kept[0]:
            return kept[1]
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(key, ttl_s, ask, simple=simple), name="ask an authorizer")
            self._asking[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task)

    async def _ask(self, key: Hashable, ttl_s: float, ask: Ask, *, simple: bool) -> Verdict:
        verdict = read_verdict(await ask(), simple=simple)
        self._kept[key] = (self._clock() + ttl_s, verdict)
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return verdict

    def _forget(self, key: Hashable, done: asyncio.Task[Verdict]) -> None:
        self._asking.pop(key, None)
        if not done.cancelled():
            # Told to whoever waits; whoever left need not hear of it.
            done.exception()

    def clear(self) -> None:
        self._kept.clear()


def read_verdict(payload: bytes, *, simple: bool) -> Verdict:
    """Raises AuthorizerFailed, Unauthorized."""
    try:
        answer = msgspec.json.decode(payload)
    except (ValueError, RecursionError) as exc:
        raise AuthorizerFailed("the authorizer's answer is no JSON") from exc
    if answer == "Unauthorized":
        raise Unauthorized
    if not isinstance(answer, dict):
        raise AuthorizerFailed("the authorizer's answer is no object")
    context = answer.get("context") or {}
    if not isinstance(context, dict):
        raise AuthorizerFailed("the authorizer's context is no object")
    if simple:
        if not isinstance(answer.get("isAuthorized"), bool):
            raise AuthorizerFailed("the authorizer's answer has no isAuthorized")
        return Verdict(context=context, is_authorized=answer["isAuthorized"])
    statements = (answer.get("policyDocument") or {}).get("Statement")
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not all(isinstance(entry, dict) for entry in statements):
        raise AuthorizerFailed("the authorizer's answer has no policyDocument with statements")
    return Verdict(
        context=context,
        principal_id=str(answer.get("principalId", "")),
        statements=statements,
        usage_key=str(answer.get("usageIdentifierKey") or ""),
    )


def allows(statements: list[dict[str, Any]], arn: str, action: str = "execute-api:Invoke") -> bool:
    """A denial wins; what no statement names is denied. A statement with a condition allows nothing here."""
    allowed = False
    for statement in statements:
        if not _names(_lower(statement.get("Action")), action.lower()) or not _names(statement.get("Resource"), arn):
            continue
        if statement.get("Effect") == "Deny":
            return False
        if statement.get("Effect") == "Allow" and not statement.get("Condition"):
            allowed = True
    return allowed


def flatten_context(context: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and truth values as texts, as REST APIs and payload 1.0 have them. Raises AuthorizerFailed for others."""
    flat: dict[str, Any] = {}
    for name, value in context.items():
        if isinstance(value, dict | list):
            raise AuthorizerFailed(f"the authorizer's context.{name} is no text, number or truth value")
        flat[name] = value if isinstance(value, str) or value is None else msgspec.json.encode(value).decode()
    return flat


def _lower(patterns: Any) -> list[str]:
    listed = patterns if isinstance(patterns, list) else [patterns]
    return [pattern.lower() for pattern in listed if isinstance(pattern, str)]


def _names(patterns: Any, value: str) -> bool:
    listed = patterns if isinstance(patterns, list) else [patterns]
    return any(isinstance(pattern, str) and names_resource(pattern, value) for pattern in listed)


def names_resource(pattern: str, value: str) -> bool:
    """Whether a policy's pattern, with `*` and `?`, names the ARN."""
    expression = "".join(".*" if part == "*" else "." if part == "?" else re.escape(part) for part in pattern)
    return re.fullmatch(expression, value, re.S) is not None

"""Receipt rules: which addresses are received, and what is done with what arrives (SES guide, "Receipt rules").

A rule's recipients are addresses (`orders@example.com`), domains (`example.com`) or everything below one
(`.example.com`). Rules of the active set are looked at in order, and every one that matches acts, until one says stop.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

ADDRESS = re.compile(r"[^\s@<>]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}")
DOMAIN = re.compile(r"\.?(?:[A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}")


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """`kind` is lambda, s3, sns, bounce, stop or add-header; the rest is what that kind needs."""

    kind: str
    target: str = ""
    """ARN of the function or topic; the bucket's name."""
    prefix: str = ""
    """Of the object's key."""
    topic: str = ""
    """ARN of a topic that is told when the action was carried out."""
    smtp_code: str = ""
    text: str = ""
    """Of the bounce; the header's value."""
    header: str = ""
    encoding: str = "UTF-8"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    recipients: tuple[str, ...]
    actions: tuple[Action, ...] = ()
    enabled: bool = False
    tls_required: bool = False


class RuleSet(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    region: str
    name: str
    created_at: float
    """Seconds since 1970."""
    rules: tuple[Rule, ...] = ()
    active: bool = False


def matches(recipient: str, address: str) -> bool:
    """Whether an address is one that a rule's recipient names. Case makes no difference; `+label` belongs to nobody."""
    wanted, given = recipient.lower(), address.lower()
    local, _, domain = given.rpartition("@")
    if "@" in wanted:
        return wanted in (given, f"{local.partition('+')[0]}@{domain}")
    return domain.endswith(wanted) if wanted.startswith(".") else domain == wanted


def choose(rule_set: RuleSet, addresses: Iterable[str], *, encrypted: bool) -> list[tuple[Rule, list[str]]]:
    """The rules that act on a message for some addresses, in order, each with the addresses that it is for."""
    chosen = []
    given = list(addresses)
    for rule in rule_set.rules:
        if not rule.enabled or (rule.tls_required and not encrypted):
            continue
        found = [address for address in given if any(matches(recipient, address) for recipient in rule.recipients)]
        if found:
            chosen.append((rule, found))
            if any(action.kind == "stop" for action in rule.actions):
                break
    return chosen


def overlap(first: Sequence[str], second: Sequence[str]) -> str:
    """A recipient of one list that some address of the other's could match too; empty when there is none."""
    for one in first:
        for other in second:
            if _covers(one, other) or _covers(other, one):
                return one
    return ""


def _covers(wide: str, narrow: str) -> bool:
    wide, narrow = wide.lower(), narrow.lower()
    if wide == narrow:
        return True
    if "@" in wide:
        return False
    domain = narrow.rpartition("@")[2]
    return domain.endswith(wide) if wide.startswith(".") else domain == wide

"""A hook: a URL of an account at which somebody else's system reports what happened, and where that goes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
SETTINGS_PATH = "/_lambent/hook-settings"
INTAKE_PATH = "/_lambent/hooks"


class Custom(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a sender of the kind `hmac` signs the body."""

    header: str = "x-signature"
    algorithm: str = "sha256"
    """sha1, sha256 or sha512."""
    encoding: str = "hex"
    """hex or base64."""
    prefix: str = ""
    """What stands before the signature in its header, such as `sha256=`."""
    id_header: str = ""
    """The header that is the same when a delivery is repeated; without one repeats are told by the body."""


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    region: str
    name: str
    kind: str
    """A key of `schemes.SCHEMES`."""
    target: str
    """ARN of a function, queue, topic or event bus."""
    secret: str
    types: tuple[str, ...] = ()
    """Which types of events are passed on (push, pull_request, tag, ...); all when empty."""
    refs: tuple[str, ...] = ()
    """Branches and tags as globs (`main`, `release/*`); all when empty. Events without a ref pass."""
    custom: Custom | None = None
    created_at: float
    """Seconds since 1970."""

    @property
    def arn(self) -> str:
        return f"arn:lambent:hooks:{self.region}:{self.account}:hook/{self.name}"

    @property
    def path(self) -> str:
        return f"{INTAKE_PATH}/{self.account}/{self.name}"


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a sender reports."""

    id: str
    """The same when the sender repeats it."""
    type: str
    source: str
    detail: Any
    ref: str = ""
    """Branch or tag."""
    time: str = ""
    """RFC 3339, as the sender states it."""
    document: dict[str, Any] | None = None
    """What a function is given, where the sender's format is an event of its own (CloudEvents)."""


def write_event(hook: Hook, incoming: Incoming, now: float) -> dict[str, Any]:
    """What a function or a queue is given: the shape of an event of a bus, so that patterns read both."""
    if incoming.document is not None:
        return incoming.document
    return {
        "version": "0",
        "id": incoming.id,
        "detail-type": incoming.type,
        "source": incoming.source,
        "account": hook.account,
        "time": incoming.time or datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": hook.region,
        "resources": [hook.arn],
        "detail": incoming.detail,
    }

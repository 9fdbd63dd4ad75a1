"""What the operations of both versions of API Gateway have in common: errors, ids, clocks."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from lambent.model.errors import CallerError

Params = dict[str, Any]

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


def new_id(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def bad_request(message: str) -> CallerError:
    return CallerError("BadRequestException", message)


def not_found(kind: str, id_: str) -> CallerError:
    return CallerError("NotFoundException", f"Invalid {kind} identifier specified {id_}", status=404)


def conflict(message: str) -> CallerError:
    return CallerError("ConflictException", message, status=409)


def find(known: Mapping[str, dict[str, Any]], kind: str, id_: str) -> dict[str, Any]:
    """Raises CallerError `NotFoundException`."""
    members = known.get(id_)
    if members is None:
        raise not_found(kind, id_)
    return members


def pick(params: Params, names: Iterable[str]) -> dict[str, Any]:
    """The members that were given."""
    return {name: params[name] for name in names if params.get(name) is not None}

"""What the operations of API Gateway's first version have in common: errors, dates, pages, ids."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from lambent.awsapi.pagination import cut_page
from lambent.frontdoor.record_store import RecordStore
from lambent.frontdoor.rest_apis.model import COLLECTION, Members, RestApi
from lambent.model.errors import CallerError
from lambent.substrate.ports import Documents

Params = dict[str, Any]
Item = TypeVar("Item")

MOST_ITEMS = 500
_ITEMS = 25
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_DATES = ("createdDate", "lastUpdatedDate")

NewId = Callable[[int], str]


def new_id(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def open_store(documents: Documents) -> RecordStore[RestApi]:
    return RecordStore(documents, COLLECTION, RestApi, lambda id_: not_found("API", id_))


def not_found(kind: str, id_: str) -> CallerError:
    return CallerError("NotFoundException", f"Invalid {kind} identifier specified {id_}", status=404)


def conflict(message: str) -> CallerError:
    return CallerError("ConflictException", message, status=409)


def find(known: Mapping[str, Members], kind: str, id_: str) -> Members:
    members = known.get(id_)
    if members is None:
        raise not_found(kind, id_)
    return members


def show(members: Mapping[str, Any]) -> Params:
    """With dates as the codec takes them."""
    return {
        name: datetime.fromisoformat(value) if name in _DATES and isinstance(value, str) else value
        for name, value in members.items()
    }


def pick(params: Params, names: tuple[str, ...]) -> Members:
    return {name: params[name] for name in names if params.get(name) is not None}


def cut(params: Params, items: list[Item], key: Callable[[Item], str]) -> tuple[list[Item], str | None]:
    limit = params.get("limit")
    if limit is not None and limit < 1:
        raise CallerError("BadRequestException", "limit must be a number from 1 to 500.")
    ordered = sorted(items, key=key)
    return cut_page(ordered, marker=params.get("position"), max_items=limit or _ITEMS, key=key, most=MOST_ITEMS)

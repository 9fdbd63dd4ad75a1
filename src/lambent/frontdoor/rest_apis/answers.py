"""Records, dates and pages of API Gateway's first version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from lambent.awsapi.pagination import cut_page
from lambent.frontdoor.answers import Params, not_found
from lambent.frontdoor.record_store import RecordStore
from lambent.frontdoor.rest_apis.model import COLLECTION, RestApi
from lambent.model.errors import CallerError
from lambent.substrate.ports import Documents

Item = TypeVar("Item")

MOST_ITEMS = 500
_ITEMS = 25
_DATES = ("createdDate", "lastUpdatedDate")


def open_store(documents: Documents) -> RecordStore[RestApi]:
    return RecordStore(documents, COLLECTION, RestApi, lambda id_: not_found("API", id_))


def show(members: Mapping[str, Any]) -> Params:
    """With dates as the codec takes them."""
    return {
        name: datetime.fromisoformat(value) if name in _DATES and isinstance(value, str) else value
        for name, value in members.items()
    }


def cut(params: Params, items: list[Item], key: Callable[[Item], str]) -> tuple[list[Item], str | None]:
    limit = params.get("limit")
    if limit is not None and limit < 1:
        raise CallerError("BadRequestException", "limit must be a number from 1 to 500.")
    ordered = sorted(items, key=key)
    return cut_page(ordered, marker=params.get("position"), max_items=limit or _ITEMS, key=key, most=MOST_ITEMS)

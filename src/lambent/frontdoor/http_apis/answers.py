"""Dates and pages of API Gateway's second version."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from lambent.awsapi.pagination import cut_page
from lambent.frontdoor.answers import Params, bad_request
from lambent.frontdoor.http_apis.model import Members


def show_dates(members: Members) -> Params:
    dates: Params = {
        name: datetime.fromisoformat(members[name]) for name in ("CreatedDate", "LastUpdatedDate") if name in members
    }
    return {**members, **dates}


def cut(params: Params, items: list[Any], key: Callable[[Any], str]) -> tuple[list[Any], str | None]:
    given = params.get("MaxResults")
    if given is not None and not (given.isdigit() and int(given) >= 1):
        raise bad_request("MaxResults must be a number from 1.")
    most = int(given) if given is not None else None
    return cut_page(sorted(items, key=key), marker=params.get("NextToken"), max_items=most, key=key, most=500)

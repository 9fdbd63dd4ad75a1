"""API keys, the plans that say how much they may use, and what they have used.

Collections `api_keys` and `usage_plans`, key ACCOUNT/ID; `api_usage`, key ACCOUNT/PLAN/KEY.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import msgspec

KEYS, PLANS, USAGE = "api_keys", "usage_plans", "api_usage"
KEPT_DAYS = 90

Members = dict[str, Any]


class ApiKey(msgspec.Struct, kw_only=True):
    account: str
    key_id: str
    value: str
    members: Members
    """name, description, enabled, customerId, createdDate, lastUpdatedDate, tags."""


class UsagePlan(msgspec.Struct, kw_only=True):
    account: str
    plan_id: str
    members: Members
    """name, description, apiStages, throttle, quota, productCode, tags."""
    keys: list[str] = []
    """Their ids."""

    @property
    def quota(self) -> Members | None:
        return self.members.get("quota")

    def find_stage(self, api_id: str, stage: str) -> Members | None:
        """What it says of a stage; None for one that it is not for."""
        for entry in self.members.get("apiStages") or ():
            if (entry["apiId"], entry["stage"]) == (api_id, stage):
                return dict(entry)
        return None


class Usage(msgspec.Struct, kw_only=True):
    days: dict[str, int] = {}
    """Requests by the day (UTC), as `2026-01-31`; of today so many as may have been served."""
    granted: dict[str, int] = {}
    """By the first day of a period: requests beyond the quota (UpdateUsage)."""


def period_begins_at(quota: Members, today: date) -> date:
    """The first day of the quota's period that `today` is in: days, weeks from Sunday, months; moved by the offset."""
    period, offset = quota.get("period", "DAY"), quota.get("offset") or 0
    if period == "WEEK":
        since_sunday = (today.weekday() + 1 - offset) % 7
        return today - timedelta(days=since_sunday)
    if period == "MONTH":
        moved = today - timedelta(days=offset)
        return moved.replace(day=1) + timedelta(days=offset)
    return today

"""The operations on API keys, usage plans, and what was used."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from lambent.awsapi.context import Operation, RequestContext
from lambent.frontdoor.answers import Params, bad_request, conflict, new_id, not_found, now_text, pick
from lambent.frontdoor.record_store import RecordStore
from lambent.frontdoor.rest_apis import patches
from lambent.frontdoor.rest_apis.answers import cut, open_store, show
from lambent.frontdoor.rest_apis.model import Members
from lambent.frontdoor.rest_apis.quotas import Asked, Quotas
from lambent.frontdoor.rest_apis.usage_model import KEYS, PLANS, USAGE, ApiKey, UsagePlan, period_begins_at
from lambent.model.errors import CallerError
from lambent.substrate.ports import Documents, Write

_VALUE = re.compile(r"[!-~]{20,128}")
_KEY_RULES = {
    "/name": patches.TEXT,
    "/description": patches.TEXT,
    "/enabled": patches.BOOLEAN,
    "/customerId": patches.TEXT,
}
_PLAN_RULES = {
    "/name": patches.TEXT,
    "/description": patches.TEXT,
    "/productCode": patches.TEXT,
    "/throttle": patches.TEXT,
    "/throttle/rateLimit": patches.NUMBER,
    "/throttle/burstLimit": patches.INTEGER,
    "/quota": patches.TEXT,
    "/quota/limit": patches.INTEGER,
    "/quota/offset": patches.INTEGER,
    "/quota/period": patches.TEXT,
}
_MOST_OFFSET = {"DAY": 0, "WEEK": 6, "MONTH": 27}


class UsageOperations:
    def __init__(self, documents: Documents, quotas: Quotas) -> None:
        self._documents = documents
        self._keys = RecordStore(documents, KEYS, ApiKey, lambda id_: not_found("API Key", id_))
        self._plans = RecordStore(documents, PLANS, UsagePlan, lambda id_: not_found("Usage Plan", id_))
        self._apis = open_store(documents)
        self._quotas = quotas

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateApiKey": self.create_key,
            "GetApiKey": self.get_key,
            "GetApiKeys": self.list_keys,
            "UpdateApiKey": self.update_key,
            "DeleteApiKey": self.delete_key,
            "CreateUsagePlan": self.create_plan,
            "GetUsagePlan": self.get_plan,
            "GetUsagePlans": self.list_plans,
            "UpdateUsagePlan": self.update_plan,
            "DeleteUsagePlan": self.delete_plan,
            "CreateUsagePlanKey": self.add_key,
            "GetUsagePlanKey": self.get_plan_key,
            "GetUsagePlanKeys": self.list_plan_keys,
            "DeleteUsagePlanKey": self.remove_key,
            "GetUsage": self.get_usage,
            "UpdateUsage": self.update_usage,
        }

    # Keys

    async def create_key(self, context: RequestContext, params: Params) -> Params:
        value = params.get("value") or secrets.token_urlsafe(30)
        if _VALUE.fullmatch(value) is None:
            raise bad_request("API Key value should be at least 20 characters: 20 to 128 printable ones, no spaces.")
        if params.get("stageKeys"):
            raise bad_request("stageKeys is deprecated: give the key a usage plan with CreateUsagePlanKey.")
        if any(key.value == value for key in await self._keys.list(context.account)):
            raise conflict("API Key already exists")
        now = now_text()
        members = {"enabled": False, **pick(params, ("name", "description", "enabled", "customerId", "tags"))}
        key = ApiKey(
            account=context.account,
            key_id=new_id(10),
            value=value,
            members={**members, "createdDate": now, "lastUpdatedDate": now},
        )
        await self._keys.add(context.account, key.key_id, key)
        return _show_key(key, with_value=True)

    async def get_key(self, context: RequestContext, params: Params) -> Params:
        key = await self._keys.get(context.account, params["apiKey"])
        return _show_key(key, with_value=bool(params.get("includeValue")))

    async def list_keys(self, context: RequestContext, params: Params) -> Params:
        keys = [
            key
            for key in await self._keys.list(context.account)
            if (key.members.get("name") or "").startswith(params.get("nameQuery") or "")
            and params.get("customerId") in (None, key.members.get("customerId"))
        ]
        page, position = cut(params, keys, lambda key: key.key_id)
        items = [_show_key(key, with_value=bool(params.get("includeValues"))) for key in page]
        return {"items": items, "position": position}

    async def update_key(self, context: RequestContext, params: Params) -> Params:
        def work(key: ApiKey) -> ApiKey:
            key.members = patches.apply(key.members, params.get("patchOperations"), _KEY_RULES)
            key.members["lastUpdatedDate"] = now_text()
            return key

        return _show_key(await self._keys.change(context.account, params["apiKey"], work), with_value=False)

    async def delete_key(self, context: RequestContext, params: Params) -> Params:
        await self._keys.remove(context.account, params["apiKey"])
        for plan in await self._plans.list(context.account):
            if params["apiKey"] in plan.keys:
                await self._drop_key(context, plan.plan_id, params["apiKey"])
        return {}

    # Plans

    async def create_plan(self, context: RequestContext, params: Params) -> Params:
        members = pick(params, ("name", "description", "apiStages", "throttle", "quota", "tags"))
        plan = UsagePlan(account=context.account, plan_id=new_id(6), members={"apiStages": [], **members})
        await self._check_plan(context, plan.members)
        await self._plans.add(context.account, plan.plan_id, plan)
        return _show_plan(plan)

    async def get_plan(self, context: RequestContext, params: Params) -> Params:
        return _show_plan(await self._plans.get(context.account, params["usagePlanId"]))

    async def list_plans(self, context: RequestContext, params: Params) -> Params:
        plans = [
            plan
            for plan in await self._plans.list(context.account)
            if not params.get("keyId") or params["keyId"] in plan.keys
        ]
        page, position = cut(params, plans, lambda plan: plan.plan_id)
        return {"items": [_show_plan(plan) for plan in page], "position": position}

    async def update_plan(self, context: RequestContext, params: Params) -> Params:
        known = await self._plans.get(context.account, params["usagePlanId"])
        await self._check_plan(context, _patch_plan(known.members, params))

        def work(plan: UsagePlan) -> UsagePlan:
            plan.members = _patch_plan(plan.members, params)
            return plan

        return _show_plan(await self._plans.change(context.account, params["usagePlanId"], work))

    async def delete_plan(self, context: RequestContext, params: Params) -> Params:
        def also(plan: UsagePlan) -> list[Write]:
            if plan.members.get("apiStages"):
                raise bad_request(
                    f"Cannot delete Usage Plan {plan.plan_id}. One or more API stages are associated with it."
                )
            places = (f"{context.account}/{plan.plan_id}/{key}" for key in plan.keys)
            return [Write(collection=USAGE, key=place, value=None) for place in places]

        await self._plans.remove(context.account, params["usagePlanId"], also)
        return {}

    async def add_key(self, context: RequestContext, params: Params) -> Params:
        if params["keyType"] != "API_KEY":
            raise bad_request("Invalid key type specified: it must be API_KEY.")
        key = await self._keys.get(context.account, params["keyId"])
        plan = await self._plans.get(context.account, params["usagePlanId"])
        stages = {(entry["apiId"], entry["stage"]) for entry in plan.members["apiStages"]}
        for other in await self._plans.list(context.account):
            shared = stages & {(entry["apiId"], entry["stage"]) for entry in other.members["apiStages"]}
            if other.plan_id != plan.plan_id and key.key_id in other.keys and shared:
                raise conflict(
                    f"The key has the usage plan {other.plan_id} for {':'.join(sorted(shared)[0])} already; a key has "
                    "one plan for a stage."
                )

        def work(changed: UsagePlan) -> None:
            if key.key_id in changed.keys:
                raise conflict("Usage Plan already has this key")
            changed.keys.append(key.key_id)

        await self._plans.change(context.account, params["usagePlanId"], work)
        return _show_plan_key(key)

    async def get_plan_key(self, context: RequestContext, params: Params) -> Params:
        await self._find_plan_key(context, params)
        return _show_plan_key(await self._keys.get(context.account, params["keyId"]))

    async def list_plan_keys(self, context: RequestContext, params: Params) -> Params:
        plan = await self._plans.get(context.account, params["usagePlanId"])
        keys = [key for key in await self._keys.list(context.account) if key.key_id in plan.keys]
        wanted = [key for key in keys if (key.members.get("name") or "").startswith(params.get("nameQuery") or "")]
        page, position = cut(params, wanted, lambda key: key.key_id)
        return {"items": [_show_plan_key(key) for key in page], "position": position}

    async def remove_key(self, context: RequestContext, params: Params) -> Params:
        await self._find_plan_key(context, params)
        await self._drop_key(context, params["usagePlanId"], params["keyId"])
        return {}

    # Usage

    async def get_usage(self, context: RequestContext, params: Params) -> Params:
        plan = await self._plans.get(context.account, params["usagePlanId"])
        if params.get("keyId") and params["keyId"] not in plan.keys:
            raise not_found("API Key", params["keyId"])
        begin, end = _read_day(params["startDate"]), _read_day(params["endDate"])
        if not timedelta(0) <= end - begin <= timedelta(days=90):
            raise bad_request("endDate must not be before startDate, nor more than 90 days after it.")
        days = [begin + timedelta(days=number) for number in range((end - begin).days + 1)]
        keys = [params["keyId"]] if params.get("keyId") else plan.keys
        items = {key: await self._show_usage(plan, key, days) for key in keys}
        return {
            "usagePlanId": plan.plan_id,
            "startDate": params["startDate"],
            "endDate": params["endDate"],
            "items": {key: shown for key, shown in items.items() if params.get("keyId") or any(u for u, _ in shown)},
        }

    async def update_usage(self, context: RequestContext, params: Params) -> Params:
        """`replace /remaining`: what the key may still use in this period."""
        plan = await self._find_plan_key(context, params)
        if plan.quota is None:
            raise bad_request("The usage plan has no quota.")
        changed = patches.apply({}, params.get("patchOperations"), {"/remaining": patches.INTEGER})
        if "remaining" not in changed or changed["remaining"] < 0:
            raise bad_request("Name /remaining with a number from 0.")
        asked = Asked(context.account, plan.plan_id, params["keyId"], plan.quota)
        await self._quotas.grant(asked, changed["remaining"])
        return {"usagePlanId": plan.plan_id, "items": {params["keyId"]: [[0, changed["remaining"]]]}}

    async def _show_usage(self, plan: UsagePlan, key: str, days: list[date]) -> list[list[int]]:
        usage = await self._quotas.read(plan.account, plan.plan_id, key)
        shown = []
        for day in days:
            remaining = 0
            if plan.quota is not None:
                first = period_begins_at(plan.quota, day).isoformat()
                used = sum(n for each, n in usage.days.items() if first <= each <= day.isoformat())
                remaining = plan.quota["limit"] + usage.granted.get(first, 0) - used
            shown.append([usage.days.get(day.isoformat(), 0), max(0, remaining)])
        return shown

    async def _find_plan_key(self, context: RequestContext, params: Params) -> UsagePlan:
        plan = await self._plans.get(context.account, params["usagePlanId"])
        if params["keyId"] not in plan.keys:
            raise not_found("API Key", params["keyId"])
        return plan

    async def _drop_key(self, context: RequestContext, plan_id: str, key_id: str) -> None:
        def work(plan: UsagePlan) -> None:
            plan.keys = [key for key in plan.keys if key != key_id]

        await self._plans.change(context.account, plan_id, work)

    async def _check_plan(self, context: RequestContext, members: Members) -> None:
        """Raises CallerError."""
        quota = members.get("quota")
        if quota is not None:
            if quota.get("period") not in _MOST_OFFSET:
                raise bad_request("Usage Plan quota period must be DAY, WEEK or MONTH.")
            if not quota.get("limit") or quota["limit"] < 1:
                raise bad_request("Usage Plan quota limit must be a number from 1.")
            most = _MOST_OFFSET[quota["period"]]
            if not 0 <= (quota.get("offset") or 0) <= most:
                raise bad_request(f"Usage Plan quota offset must be from 0 to {most} for {quota['period']}.")
        _check_throttle(members.get("throttle"))
        for entry in members.get("apiStages") or ():
            if not entry.get("apiId") or not entry.get("stage"):
                raise bad_request("Invalid API stage specified: it needs apiId and stage.")
            try:
                api = await self._apis.get(context.account, entry["apiId"])
            except CallerError:
                raise not_found("API", entry["apiId"]) from None
            if entry["stage"] not in api.stages:
                raise not_found("API Stage", f"{entry['apiId']}:{entry['stage']}")
            for throttle in (entry.get("throttle") or {}).values():
                _check_throttle(throttle)


def _patch_plan(members: Members, params: Params) -> Members:
    for operation in params.get("patchOperations") or ():
        names = patches.split(operation.get("path") or "/")
        if names[0] == "apiStages":
            members = {**members, "apiStages": _patch_stages(members.get("apiStages") or [], names, operation)}
        else:
            members = patches.apply(members, [operation], _PLAN_RULES)
    return members


def _patch_stages(stages: list[Members], names: list[str], operation: Mapping[str, Any]) -> list[Members]:
    """`add|remove /apiStages` with `API:STAGE`; `/apiStages/API:STAGE/throttle/PATH/METHOD/rateLimit`."""
    given = names[1] if len(names) > 1 else operation.get("value") or ""
    api_id, _, stage = given.partition(":")
    known = [entry for entry in stages if (entry["apiId"], entry["stage"]) == (api_id, stage)]
    if len(names) == 1 and operation["op"] == "add":
        if known:
            raise conflict(f"The usage plan has the stage {given} already.")
        return [*stages, {"apiId": api_id, "stage": stage}]
    if not known:
        raise not_found("API Stage", given)
    others = [entry for entry in stages if entry not in known]
    if len(names) == 1:
        return others
    if len(names) < 3 or names[2] != "throttle":
        raise bad_request(f"Invalid patch path '{operation['path']}' specified.")
    throttle = dict(known[0].get("throttle") or {})
    if len(names) == 3:
        throttle = {}
    else:
        key = "/".join(names[3:5])
        if operation["op"] == "remove":
            throttle.pop(key, None)
        else:
            kinds = {"rateLimit": patches.NUMBER, "burstLimit": patches.INTEGER}
            if len(names) != 6 or names[5] not in kinds:
                raise bad_request(f"Invalid patch path '{operation['path']}' specified: name rateLimit or burstLimit.")
            value = patches.convert(kinds[names[5]], operation.get("value"), operation["path"])
            throttle[key] = {**throttle.get(key, {}), names[5]: value}
    return [*others, {**known[0], "throttle": throttle}]


def _check_throttle(throttle: Mapping[str, Any] | None) -> None:
    for member in ("rateLimit", "burstLimit"):
        if throttle is not None and (throttle.get(member) or 0) < 0:
            raise bad_request(f"Usage Plan throttle {member} must not be below 0.")


def _read_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise bad_request(f"Invalid date '{text}': it must be like 2026-01-31.") from None


def _show_key(key: ApiKey, *, with_value: bool) -> Params:
    value = {"value": key.value} if with_value else {}
    return show({"stageKeys": [], **key.members, "id": key.key_id, **value})


def _show_plan(plan: UsagePlan) -> Params:
    return show({**plan.members, "id": plan.plan_id})


def _show_plan_key(key: ApiKey) -> Params:
    return {"id": key.key_id, "type": "API_KEY", "value": key.value, "name": key.members.get("name")}

"""The REST APIs of all accounts, their deployments, keys and plans, in memory: what the site looks into."""

from __future__ import annotations

from collections.abc import Callable

from lambent.frontdoor.records import Followed
from lambent.frontdoor.rest_apis.model import COLLECTION, DEPLOYMENTS, Configuration, RestApi, Snapshot
from lambent.frontdoor.rest_apis.usage_model import KEYS, PLANS, ApiKey, UsagePlan
from lambent.substrate.ports import Documents


class RestApiDirectory:
    def __init__(self, documents: Documents) -> None:
        self._by_id: dict[str, RestApi] = {}
        self._keys: dict[tuple[str, str], ApiKey] = {}
        self._told: list[Callable[[str], None]] = []
        self._apis = Followed(documents, COLLECTION, RestApi, on_change=self._note_api)
        self._snapshots = Followed(documents, DEPLOYMENTS, Snapshot)
        self._key_records = Followed(documents, KEYS, ApiKey, on_change=self._note_key)
        self._plans = Followed(documents, PLANS, UsagePlan)

    async def start(self) -> None:
        # Deployments before the APIs whose stages name them.
        for followed in (self._snapshots, self._key_records, self._plans, self._apis):
            await followed.start()

    async def stop(self) -> None:
        for followed in (self._apis, self._plans, self._key_records, self._snapshots):
            await followed.stop()

    def find(self, api_id: str) -> RestApi | None:
        return self._by_id.get(api_id)

    def find_deployment(self, api: RestApi, deployment: str) -> Configuration | None:
        snapshot = self._snapshots.get(api.snapshot_key(deployment))
        return snapshot.configuration if snapshot is not None else None

    def find_key(self, account: str, value: str) -> ApiKey | None:
        return self._keys.get((account, value))

    def find_plan(self, key: ApiKey, api_id: str, stage: str) -> UsagePlan | None:
        """The plan that lets a key use a stage."""
        for plan in self._plans.all.values():
            if plan.account == key.account and key.key_id in plan.keys and plan.find_stage(api_id, stage) is not None:
                return plan
        return None

    def tell(self, listener: Callable[[str], None]) -> None:
        """The listener is told the id of each API that has changed or is gone."""
        self._told.append(listener)

    def _note_api(self, _key: str, before: RestApi | None, after: RestApi | None) -> None:
        changed = after or before
        assert changed is not None
        if after is not None:
            self._by_id[after.api_id] = after
        else:
            self._by_id.pop(changed.api_id, None)
        for listener in self._told:
            listener(changed.api_id)

    def _note_key(self, _key: str, before: ApiKey | None, after: ApiKey | None) -> None:
        if before is not None:
            self._keys.pop((before.account, before.value), None)
        if after is not None:
            self._keys[(after.account, after.value)] = after

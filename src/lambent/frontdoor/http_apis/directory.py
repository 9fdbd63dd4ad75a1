"""The APIs of all accounts, in memory: what the sites that serve them look into."""

from __future__ import annotations

from collections.abc import Callable

from lambent.frontdoor.http_apis.model import COLLECTION, Api
from lambent.frontdoor.records import Followed
from lambent.substrate.ports import Documents


class ApiDirectory:
    def __init__(self, documents: Documents) -> None:
        self._by_id: dict[str, Api] = {}
        self._records = Followed(documents, COLLECTION, Api, on_change=self._note)
        self._told: list[Callable[[str], None]] = []

    async def start(self) -> None:
        await self._records.start()

    async def stop(self) -> None:
        await self._records.stop()

    def find(self, api_id: str) -> Api | None:
        return self._by_id.get(api_id)

    def tell(self, listener: Callable[[str], None]) -> None:
        """The listener is told the id of each API that has changed or is gone."""
        self._told.append(listener)

    def _note(self, _key: str, before: Api | None, after: Api | None) -> None:
        changed = after or before
        assert changed is not None
        if after is not None:
            self._by_id[after.api_id] = after
        else:
            self._by_id.pop(changed.api_id, None)
        for listener in self._told:
            listener(changed.api_id)

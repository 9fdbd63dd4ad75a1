"""Reading and changing APIs: each change reads one document and writes it back, if nobody else did meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from lambent.frontdoor.http_apis.model import COLLECTION, Api
from lambent.model.errors import CallerError
from lambent.substrate.ports import Conflict, Documents, Write

Result = TypeVar("Result")
_ATTEMPTS = 8


class ApiStore:
    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def get(self, account: str, api_id: str) -> Api:
        """Raises CallerError `NotFoundException`."""
        document = await self._documents.get(COLLECTION, f"{account}/{api_id}")
        if document is None:
            raise not_found("Api", api_id)
        return msgspec.json.decode(document.value, type=Api)

    async def list(self, account: str) -> list[Api]:
        documents = await self._documents.list(COLLECTION, prefix=f"{account}/")
        return [msgspec.json.decode(document.value, type=Api) for document in documents]

    async def add(self, api: Api) -> None:
        write = Write(collection=COLLECTION, key=api.key, value=msgspec.json.encode(api), expect=0)
        await self._documents.commit([write])

    async def change(self, account: str, api_id: str, work: Callable[[Api], Result]) -> Result:
        """Run `work` on the API and write what it made of it. Raises CallerError, also what `work` raises."""
        for _ in range(_ATTEMPTS):
            document = await self._documents.get(COLLECTION, f"{account}/{api_id}")
            if document is None:
                raise not_found("Api", api_id)
            api = msgspec.json.decode(document.value, type=Api)
            result = work(api)
            write = Write(collection=COLLECTION, key=api.key, value=msgspec.json.encode(api), expect=document.revision)
            try:
                await self._documents.commit([write])
            except Conflict:
                continue
            return result
        raise CallerError("ConflictException", f"The API {api_id} is being changed by others; try again.", status=409)

    async def remove(self, account: str, api_id: str) -> None:
        await self.get(account, api_id)
        await self._documents.commit([Write(collection=COLLECTION, key=f"{account}/{api_id}", value=None)])


def not_found(kind: str, id_: str) -> CallerError:
    return CallerError("NotFoundException", f"Invalid {kind} identifier specified {id_}", status=404)

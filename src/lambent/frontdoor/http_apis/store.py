"""Reading and changing APIs of the second version."""

from __future__ import annotations

from lambent.frontdoor.answers import not_found
from lambent.frontdoor.http_apis.model import COLLECTION, Api
from lambent.frontdoor.record_store import RecordStore
from lambent.substrate.ports import Documents


class ApiStore(RecordStore[Api]):
    def __init__(self, documents: Documents) -> None:
        super().__init__(documents, COLLECTION, Api, lambda id_: not_found("Api", id_))

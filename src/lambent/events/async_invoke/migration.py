"""Events accepted by earlier versions, which kept them as documents of the collection `async_events`."""

from __future__ import annotations

import msgspec

from lambent.events.async_invoke import store
from lambent.events.async_invoke.model import Event
from lambent.substrate.ports import Connection, Documents, Tables, Write

COLLECTION = "async_events"


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    region: str
    function: str
    qualifier: str
    request_id: str
    payload: bytes
    trace_id: str
    client_context: str
    accepted_at: float
    attempts: int = 0
    errors: int = 0
    next_at: float = 0.0


async def migrate(documents: Documents, tables: Tables) -> int:
    """Move them. A node that dies in between moves none twice: what is in the tables already is only forgotten."""
    moved = 0
    for document in await documents.list(COLLECTION):
        old = msgspec.msgpack.decode(document.value, type=_Document)
        fields = {name: getattr(old, name) for name in old.__struct_fields__ if name != "next_at"}
        event = Event(**fields)

        def work(connection: Connection, event: Event = event, due_at: float = old.next_at) -> None:
            query = "SELECT 1 FROM async_events WHERE request_id = ? AND account = ?"
            if connection.execute(query, (event.request_id, event.account)).get is None:
                store.accept(connection, event, due_at or event.accepted_at)

        await tables.write(work)
        await documents.commit([Write(collection=COLLECTION, key=document.key, value=None)])
        moved += 1
    return moved

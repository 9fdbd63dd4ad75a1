"""Object storage, put together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path

from lambent.awsapi.context import RequestContext
from lambent.events.deliveries import Deliveries
from lambent.events.handover import HandOvers
from lambent.events.storage import notifications, refusals, store
from lambent.events.storage.buckets import Buckets
from lambent.events.storage.bulk_store import BulkStore
from lambent.events.storage.calls import Call, Operation
from lambent.events.storage.files import Files
from lambent.events.storage.front import Own, StorageFront
from lambent.events.storage.model import Bucket, Conditions, StoredObject
from lambent.events.storage.notifications import Change, announce
from lambent.events.storage.objects import Objects, check_key
from lambent.events.storage.uploads import Uploads
from lambent.model.errors import CallerError, OperatorError, PlatformError
from lambent.model.identifiers import new_request_id
from lambent.substrate.ports import Connection, Tables

_READ_AGAIN = 3

Also = Callable[[Connection], None]
"""What is written in the same transaction."""


class StorageService:
    """Buckets in the tables, bytes below `root`. Started, it tells what happens to objects."""

    def __init__(
        self,
        tables: Tables,
        deliveries: Deliveries,
        root: Path,
        *,
        bulk: BulkStore | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`bulk` holds the objects of the buckets that are made there."""
        self._tables = tables
        self._now = now
        self.files = Files(root, self._drop_unused)
        self._handovers = HandOvers(notifications.BOX, tables, deliveries, now=now)
        self._objects = Objects(tables, self.files, self._handovers.ring, now=now)
        uploads = Uploads(tables, self.files, self._objects, now=now)
        buckets = Buckets(tables, self.files, deliveries, bulk=bulk, now=now)
        self.front = StorageFront(tables, bulk, self._handovers.ring, now=now) if bulk is not None else None
        self.operations: Mapping[str, Operation] = {
            **buckets.operations(),
            **self._objects.operations(),
            **uploads.operations(),
        }

    async def start(self) -> None:
        """Remove what a killed node left, and go on with what it was about to tell.

        Raises OSError, and OperatorError when the store is not named in which buckets have their objects.
        """
        left = await self._tables.read(store.list_bulk) if self.front is None else []
        if left:
            raise OperatorError(
                f"The bucket {left[0]} has its objects in another store; name it below [storage.s3] in lambent.toml."
            )
        await asyncio.to_thread(self.files.open)
        for prefix in await asyncio.to_thread(self.files.prefixes):
            used = await self._tables.read(partial(store.list_used, prefix=prefix))
            await asyncio.to_thread(self.files.sweep, prefix, used)
        await self._handovers.start()
        if self.front is not None:
            self.front.start()

    async def stop(self) -> None:
        if self.front is not None:
            await self.front.stop()
        await self._handovers.stop()

    async def put_object(self, account: str, bucket: str, key: str, data: bytes) -> None:
        """Of the node's own services, for an account. Returns when it is durable. Raises CallerError."""
        await self.put_stream(account, bucket, key, _once(data), size=len(data))

    async def put_stream(
        self,
        account: str,
        bucket: str,
        key: str,
        data: AsyncIterator[bytes],
        *,
        size: int,
        also: Also = lambda _connection: None,
    ) -> None:
        """As `put_object`. `also` is written with the object; what `data` raises leaves nothing behind."""
        check_key(key)
        call = _own_call(account)
        bulk = await self._find_bulk(account, bucket)
        if bulk is not None:
            front, found = bulk
            await front.put(Own(call, found, key, also), data, size)
            return
        async with self.files.writing(data, []) as written:
            stored = StoredObject(
                size=written.piece.size, etag=written.md5.hex(), modified_at=self._now(), pieces=(written.piece,)
            )

            def work(connection: Connection) -> tuple[list[str], list[str]]:
                found = store.find_bucket(connection, account, bucket)
                freed = store.put_object(connection, bucket, key, stored, Conditions())
                also(connection)
                change = Change("ObjectCreated:Put", found, key, stored, stored.modified_at)
                return freed, announce(connection, call, change)

            await self._objects.settle(*await self._tables.write(work))

    async def delete_object(
        self, account: str, bucket: str, key: str, *, also: Also = lambda _connection: None
    ) -> None:
        """Of the node's own services; one that is not there is no error. Raises CallerError."""
        call = _own_call(account)
        bulk = await self._find_bulk(account, bucket)
        if bulk is not None:
            front, found = bulk
            await front.delete(Own(call, found, key, also))
            return

        def work(connection: Connection) -> tuple[list[str], list[str]]:
            found = store.find_bucket(connection, account, bucket)
            freed = store.delete_object(connection, bucket, key, Conditions())
            also(connection)
            if freed is None:
                return [], []
            return freed, announce(connection, call, Change("ObjectRemoved:Delete", found, key, None, self._now()))

        await self._objects.settle(*await self._tables.write(work))

    async def create_bucket(self, account: str, region: str, bucket: str) -> None:
        """Raises CallerError."""
        await self.operations["CreateBucket"](_own_call(account, region), {"Bucket": bucket})

    async def has_bucket(self, account: str, bucket: str) -> bool:
        def work(connection: Connection) -> bool:
            try:
                store.find_bucket(connection, account, bucket)
            except CallerError:
                return False
            return True

        return await self._tables.read(work)

    async def read_object(self, account: str, bucket: str, key: str, limit_bytes: int) -> bytes:
        """All of an object, of which at most so much is read. Raises CallerError `NoSuchBucket`, `NoSuchKey`."""
        bulk = await self._find_bulk(account, bucket)
        if bulk is not None:
            front, found_bucket = bulk
            return await front.read(found_bucket, key, limit_bytes)

        def find(connection: Connection) -> StoredObject:
            store.find_bucket(connection, account, bucket)
            found = store.find_object(connection, bucket, key)
            if found is None:
                raise refusals.no_key(key)
            return found

        for _ in range(_READ_AGAIN):
            stored = await self._tables.read(find)
            async with self.files.holding(stored.pieces) as whole:
                if whole:
                    read = self.files.read(stored.pieces, 0, min(stored.size, limit_bytes))
                    return b"".join([piece async for piece in read])
        raise PlatformError(f"s3://{bucket}/{key} is being replaced all the time; try again.", retry_safe=True)

    async def _find_bulk(self, account: str, bucket: str) -> tuple[StorageFront, Bucket] | None:
        if self.front is None:
            return None
        found = await self.front.find(account, bucket)
        return (self.front, found) if found is not None else None

    async def _drop_unused(self, digest: str) -> bool:
        return await self._tables.write(lambda connection: store.drop_unused(connection, digest))


def _own_call(account: str, region: str = "") -> Call:
    return Call(RequestContext(account=account, region=region, access_key="", request_id=new_request_id()))


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data

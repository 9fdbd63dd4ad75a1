"""What the writer does when the disk says that it could not sync, made to happen by a file system of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw
import pytest

from lambent.model.errors import PlatformError
from lambent.substrate.sqlite.sql import load_migrations, load_queries
from lambent.substrate.sqlite.writer import Transaction, Writer


class FailingFile(apsw.VFSFile):
    error = 0
    """What the next syncs end with; 0 for success."""

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        if FailingFile.error:
            raise apsw.exception_for(FailingFile.error)
        super().xSync(flags)


class FailingDisk(apsw.VFS):
    def __init__(self) -> None:
        super().__init__("failing", "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return FailingFile("", name, flags)


@pytest.fixture
def disk() -> Iterator[None]:
    vfs = FailingDisk()
    FailingFile.error = 0
    yield
    vfs.unregister()


def open_failing(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), vfs="failing")
    connection.pragma("synchronous", 2)
    for script in load_migrations():
        connection.execute(script).fetchall()
    return connection


class Client:
    """Submits one transaction at a time and waits for what the writer's thread made of it."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._loop = asyncio.get_running_loop()
        self.writer = Writer(connection, self._settle)

    async def commit(self, key: str) -> Exception | None:
        def put(connection: apsw.Connection) -> None:
            document = {"collection": "c", "key": key, "value": b"", "revision": 1}
            connection.execute(load_queries()["put_document"], document)

        transaction = Transaction(work=put, done=self._loop.create_future())
        self.writer.submit(transaction)
        await transaction.done
        return transaction.error

    async def close(self) -> None:
        await asyncio.to_thread(self.writer.close)

    def _settle(self, batch: Sequence[Transaction]) -> None:
        for transaction in batch:
            self._loop.call_soon_threadsafe(transaction.done.set_result, None)


def stored(path: Path) -> list[str]:
    connection = apsw.Connection(str(path))
    keys = [str(key) for (key,) in connection.execute("SELECT key FROM documents ORDER BY key")]
    connection.close()
    return keys


async def test_after_a_failed_sync_nothing_more_is_written_until_a_restart(tmp_path: Path, disk: None) -> None:
    path = tmp_path / "documents.sqlite"
    client = Client(open_failing(path))
    assert await client.commit("before") is None
    FailingFile.error = apsw.SQLITE_IOERR_FSYNC
    refused = await client.commit("during")
    FailingFile.error = 0
    still_refused = await client.commit("after")
    await client.close()
    for error in (refused, still_refused):
        assert isinstance(error, PlatformError)
        assert "failed to sync; check the disk and restart the node" in str(error)
    assert stored(path) == ["before"]


async def test_a_passing_error_fails_its_commit_and_the_next_one_succeeds(tmp_path: Path, disk: None) -> None:
    path = tmp_path / "documents.sqlite"
    client = Client(open_failing(path))
    FailingFile.error = apsw.SQLITE_FULL
    assert str(await client.commit("during")) == "The store's disk is full; nothing was written."
    FailingFile.error = 0
    assert await client.commit("after") is None
    await client.close()
    assert stored(path) == ["after"]

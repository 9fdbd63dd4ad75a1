"""A bucket follows a real folder; objects and notes are on both kinds of tables."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from lambent.events import outbox
from lambent.events.deliveries import Deliveries
from lambent.events.folders import mirror as mirrors
from lambent.events.folders import store, tree
from lambent.events.folders.mirror import FolderMirror, WatchedFolder
from lambent.events.storage import store as storage_store
from lambent.events.storage.storage import StorageService
from lambent.model.errors import CallerError, OperatorError, PlatformError
from lambent.substrate.memory.tables import MemoryTables
from lambent.substrate.ports import Connection, Tables
from lambent.substrate.sqlite.tables import open_tables

SCHEMAS = (outbox.SCHEMA, storage_store.SCHEMA, store.SCHEMA)
ADAPTERS: dict[str, Callable[[Path], Tables]] = {
    "memory": lambda _folder: MemoryTables(SCHEMAS),
    "sqlite": lambda folder: open_tables(folder / "events.db", SCHEMAS),
}
ME = "111111111111"
LONG_AGO = 1_000_000.0


class Watched(StorageService):
    """Tells what was put and removed, and may refuse."""

    def __init__(self, tables: Tables, root: Path) -> None:
        super().__init__(tables, Deliveries(), root)
        self.told: list[tuple[str, str]] = []
        self.refuse: Exception | None = None
        self.before_end: Callable[[], None] = lambda: None

    async def put_stream(
        self,
        account: str,
        bucket: str,
        key: str,
        data: AsyncIterator[bytes],
        *,
        size: int,
        also: mirrors.Also = lambda _connection: None,
    ) -> None:
        if self.refuse is not None:
            raise self.refuse

        async def pass_on() -> AsyncIterator[bytes]:
            async for piece in data:
                yield piece
                self.before_end()

        def note(connection: Connection) -> None:
            also(connection)

        await super().put_stream(account, bucket, key, pass_on(), size=size, also=note)
        self.told.append(("put", key))

    async def delete_object(
        self, account: str, bucket: str, key: str, *, also: mirrors.Also = lambda _connection: None
    ) -> None:
        await super().delete_object(account, bucket, key, also=also)
        self.told.append(("removed", key))


class World:
    def __init__(self, folder: Path, tables: Tables) -> None:
        self.root = folder / "watched"
        self.tables = tables
        self.storage = Watched(tables, folder / "storage")
        self.mirror = self.another()

    def another(self) -> FolderMirror:
        watched = WatchedFolder(name="in", path=str(self.root), bucket="own", prefix="from/", account=ME)
        return FolderMirror(watched, self.tables, self.storage)

    async def start(self) -> None:
        """Until the first look is over: what comes later is only told."""
        self.write("ready")
        await self.mirror.start()
        await self.told(("put", "from/ready"))

    async def restart(self) -> None:
        await self.mirror.stop()
        self.mirror = self.another()
        await self.mirror.start()

    def write(self, path: str, data: bytes = b"data", *, modified_at: float | None = LONG_AGO) -> Path:
        """As if it had been there for long, unless told otherwise."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        if modified_at is not None:
            os.utime(file, (modified_at, modified_at))
        return file

    async def told(self, *expected: tuple[str, str]) -> None:
        """Waits until that was told, in any order, and nothing else."""
        async with asyncio.timeout(20):
            while len(self.storage.told) < len(expected):
                await asyncio.sleep(0.01)
        assert sorted(self.storage.told) == sorted(expected)
        self.storage.told.clear()

    async def read(self, key: str) -> bytes:
        return await self.storage.read_object(ME, "own", key, 1 << 24)


@pytest.fixture(params=ADAPTERS)
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    monkeypatch.setattr(mirrors, "ALONE_S", 0.3)
    tables = ADAPTERS[request.param](tmp_path)
    world = World(tmp_path, tables)
    world.root.mkdir()
    await world.storage.start()
    await world.storage.create_bucket(ME, "us-east-1", "own")
    yield world
    await world.mirror.stop()
    await world.storage.stop()
    await tables.close()


async def test_what_is_there_at_the_start_is_taken_with_its_folders(world: World) -> None:
    world.write("a.csv", b"one")
    world.write("deep/er/b.csv", b"two")
    await world.mirror.start()
    await world.told(("put", "from/a.csv"), ("put", "from/deep/er/b.csv"))
    assert await world.read("from/deep/er/b.csv") == b"two"


async def test_a_file_is_taken_when_it_is_closed_and_not_before(world: World) -> None:
    await world.start()
    with (world.root / "slow.csv").open("wb") as file:
        file.write(b"half")
        file.flush()
        world.write("other.csv", modified_at=None)
        await world.told(("put", "from/other.csv"))
        file.write(b" and half")
    await world.told(("put", "from/slow.csv"))
    assert await world.read("from/slow.csv") == b"half and half"


async def test_files_that_are_moved_in_replaced_and_removed_are_followed(world: World) -> None:
    outside = world.write("../outside.csv", b"first")
    await world.start()
    outside.rename(world.root / "in.csv")
    await world.told(("put", "from/in.csv"))
    # The same size and time: only the move tells that it is another.
    world.write("../outside.csv", b"other").rename(world.root / "in.csv")
    await world.told(("put", "from/in.csv"))
    assert await world.read("from/in.csv") == b"other"
    (world.root / "in.csv").unlink()
    await world.told(("removed", "from/in.csv"))
    with pytest.raises(CallerError):
        await world.read("from/in.csv")


async def test_folders_that_come_and_go_bring_and_take_their_files(world: World) -> None:
    await world.start()
    world.write("../made/sub/a.csv")
    world.write("../made/b.csv")
    (world.root / "../made").rename(world.root / "made")
    await world.told(("put", "from/made/sub/a.csv"), ("put", "from/made/b.csv"))
    world.write("made/sub/c.csv", modified_at=None)
    await world.told(("put", "from/made/sub/c.csv"))
    (world.root / "made").rename(world.root / "renamed")
    gone = [("removed", f"from/made/{name}") for name in ("sub/a.csv", "sub/c.csv", "b.csv")]
    await world.told(*gone, *(("put", f"from/renamed/{name}") for name in ("sub/a.csv", "b.csv", "sub/c.csv")))
    shutil.rmtree(world.root / "renamed")
    await world.told(*(("removed", f"from/renamed/{name}") for name in ("sub/a.csv", "b.csv", "sub/c.csv")))


async def test_what_changed_while_nobody_looked_is_found_at_the_next_start(world: World) -> None:
    for name in ("kept", "changed", "removed"):
        world.write(name)
    await world.mirror.start()
    await world.told(*(("put", f"from/{name}") for name in ("kept", "changed", "removed")))
    await world.mirror.stop()
    world.write("changed", b"longer than before")
    world.write("added")
    (world.root / "removed").unlink()
    await world.restart()
    await world.told(("put", "from/changed"), ("put", "from/added"), ("removed", "from/removed"))


async def test_hidden_and_unfinished_files_and_links_are_left_alone(world: World, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_bytes(b"secret")
    for name in (".hidden", ".git/config", "upload.part", "draft~", "video.mp4.crdownload"):
        world.write(name)
    (world.root / "link").symlink_to(tmp_path / "secret")
    (world.root / "folder").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(world.root / "pipe")
    world.write("wanted")
    await world.mirror.start()
    await world.told(("put", "from/wanted"))
    (world.root / "upload.part").rename(world.root / "upload")
    await world.told(("put", "from/upload"))


async def test_a_file_is_never_reached_through_a_link_that_was_put_on_its_way(world: World, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/shadow").write_bytes(b"secret")
    world.write("way/shadow", b"mine")
    shutil.rmtree(world.root / "way")
    (world.root / "way").symlink_to(tmp_path / "etc")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        mirrors._open_beneath(world.root, "way/shadow")


async def test_a_file_that_was_found_and_may_still_be_written_is_taken_later(world: World) -> None:
    world.write("young", modified_at=None)
    world.write("old")
    await world.mirror.start()
    await world.told(("put", "from/old"))
    await world.told(("put", "from/young"))


async def test_a_file_that_changes_while_it_is_read_is_read_again(world: World) -> None:
    file = world.write("moving", b"first")
    writes = [b"second"]

    def write_once() -> None:
        if writes:
            file.write_bytes(writes.pop())

    world.storage.before_end = write_once
    await world.mirror.start()
    async with asyncio.timeout(20):
        while not world.storage.told:
            await asyncio.sleep(0.01)
    assert await world.read("from/moving") == b"second"


async def test_what_could_not_be_taken_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "FIRST_PAUSE_S", 0.05)
    world.mirror = world.another()
    world.storage.refuse = PlatformError("the disk is full", retry_safe=True)
    world.write("patient")
    await world.mirror.start()
    await asyncio.sleep(0.2)
    assert world.storage.told == []
    world.storage.refuse = None
    await world.told(("put", "from/patient"))


async def test_hundreds_of_files_at_once_are_all_taken_once(world: World) -> None:
    await world.start()
    for number in range(600):
        world.write(f"{number % 40}/{number}", b"x", modified_at=None)
    await world.told(*(("put", f"from/{number % 40}/{number}") for number in range(600)))


async def test_a_folder_that_is_gone_takes_nothing_away(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.write("precious")
    await world.mirror.start()
    await world.told(("put", "from/precious"))
    world.root.rename(world.root.with_name("away"))
    async with asyncio.timeout(20):
        while "a watched folder is gone" not in caplog.text:
            await asyncio.sleep(0.01)
    assert await world.read("from/precious") == b"data"
    # An empty one in its place, as below the mount point of a disk that is not there.
    world.root.mkdir()
    await world.restart()
    world.write("new", modified_at=None)
    await world.told(("put", "from/new"))
    assert await world.read("from/precious") == b"data"


async def test_a_folder_that_is_not_there_is_the_operators_mistake(world: World) -> None:
    world.root.rmdir()
    with pytest.raises(OperatorError, match=r"folders\.in: .*watched cannot be watched: No such file or directory"):
        await world.mirror.start()


def test_names_that_cannot_be_keys_are_left_out(tmp_path: Path) -> None:
    for name in (b"caf\xc3\xa9", b"broken\xff", b"tab\there"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
    assert list(tree.find(tmp_path, "")) == ["café"]

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from lambent.model.errors import OperatorError, PlatformError
from lambent.substrate.ports import Document, Write
from lambent.substrate.sqlite import open_documents


def write(key: str, value: bytes = b"") -> Write:
    return Write(collection="c", key=key, value=value)


async def test_documents_are_there_after_the_store_was_closed_and_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "data" / "documents.sqlite"
    first = open_documents(path)
    await first.commit([write("k", b"v")])
    await first.close()
    second = open_documents(path)
    assert await second.get("c", "k") == Document("k", b"v", 1)
    await second.close()


async def test_only_the_owner_can_read_the_store(tmp_path: Path) -> None:
    path = tmp_path / "data" / "documents.sqlite"
    documents = open_documents(path)
    await documents.commit([write("k")])
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert "documents.sqlite-wal" in modes
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await documents.close()


async def test_the_store_is_written_ahead_and_synced_in_full(tmp_path: Path) -> None:
    documents = open_documents(tmp_path / "documents.sqlite")
    connection = documents._writer._connection
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 2
    assert connection.pragma("wal_autocheckpoint") == 1000
    await documents.close()


async def test_the_reading_connection_cannot_write(tmp_path: Path) -> None:
    documents = open_documents(tmp_path / "documents.sqlite")
    with pytest.raises(PlatformError, match="could not read"):
        await documents._reader.ask(lambda connection: connection.execute("DELETE FROM documents").fetchall())
    await documents.close()


async def test_a_key_that_is_no_text_fails_only_its_own_commit(tmp_path: Path) -> None:
    documents = open_documents(tmp_path / "documents.sqlite")
    good = documents.commit([write("good")])
    with pytest.raises(PlatformError, match="could not write"):
        await documents.commit([write("before"), write("\ud800")])
    await good
    assert [document.key for document in await documents.list("c")] == ["good"]
    await documents.close()


async def test_a_store_of_a_newer_version_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"
    await open_documents(path).close()
    with apsw.Connection(str(path)) as connection:
        connection.pragma("user_version", 99)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(
        OperatorError, match=r"newer Lambent \(format 99, this one knows 1\): start that version"
    ) as caught:
        open_documents(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


async def test_a_store_with_damaged_pages_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"
    documents = open_documents(path)
    await documents.commit([write(f"k{number:04d}", b"x" * 500) for number in range(200)])
    await documents.close()
    content = bytearray(path.read_bytes())
    content[8192:12288] = b"\xa5" * 4096
    path.write_bytes(content)
    with pytest.raises(OperatorError, match=r"is damaged .*restore it from a backup") as caught:
        open_documents(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_store_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"
    path.write_bytes(b"this is somebody's diary\n" * 100)
    with pytest.raises(OperatorError, match="is damaged"):
        open_documents(path)
    assert path.read_bytes().startswith(b"this is somebody's diary")


def test_a_folder_that_cannot_be_made_is_the_operators_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OperatorError, match="choose another data folder"):
        open_documents(tmp_path / "file" / "documents.sqlite")


async def test_a_second_opening_in_the_same_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"
    documents = open_documents(path)
    with pytest.raises(OperatorError, match="in use"):
        open_documents(path)
    await documents.close()
    await open_documents(path).close()


async def test_a_store_that_was_refused_is_free_again(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"
    path.write_bytes(b"no store" * 1000)
    for _ in range(2):
        with pytest.raises(OperatorError, match="is damaged"):
            open_documents(path)
    path.unlink()
    await open_documents(path).close()


def test_another_process_is_refused_while_the_store_is_open_and_told_by_whom(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"
    script = (
        "import sys, asyncio, pathlib\n"
        "from lambent.substrate.sqlite import open_documents\n"
        "documents = open_documents(pathlib.Path(sys.argv[1]))\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
        "asyncio.run(documents.close())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(OperatorError, match=rf"in use by another node \(process {other.pid}\): stop that one"):
            open_documents(path)
        other.stdin.close()
    assert other.returncode == 0
    asyncio.run(open_documents(path).close())

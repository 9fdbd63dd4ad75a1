# Opening a store, in this order:
#
# 1. the lock, so that a store in use is not even looked at;
# 2. the file, created 0600 before SQLite would create it by the umask (the -wal and -shm files copy its mode);
# 3. the check, before anything is written, so that damage is not made worse;
# 4. the settings durability depends on, believed only when SQLite answers with them;
# 5. the migrations.
from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import apsw

from lambent.model.errors import OperatorError
from lambent.substrate.ports import Schema

_BUSY_TIMEOUT_MS = 5_000
"""For backup tools that read beside us; nobody else writes."""
_CHECKPOINT_PAGES = 1_000
_SYNCHRONOUS_FULL = 2


def lock_store(path: Path) -> int:
    """Claim the store for this process until the returned descriptor is closed. Raises OperatorError."""
    lock = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        raise OperatorError(
            f"{path.parent} cannot be written ({exc.strerror}): correct its permissions or choose another data folder"
        ) from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        named = f" (process {owner})" if owner else ""
        raise OperatorError(
            f"{path} is in use by another node{named}: stop that one or choose another data folder"
        ) from exc
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def open_writing(path: Path, migrations: Sequence[str], schemas: Sequence[Schema] = ()) -> apsw.Connection:
    """The one connection that writes and checkpoints, its schema up to date. Raises OperatorError.

    `migrations` are the store's own, counted by `user_version`; `schemas` those of the modules that share it.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = apsw.Connection(str(path))
    except (OSError, apsw.Error) as exc:
        raise OperatorError(f"{path} cannot be opened ({exc}): correct its permissions") from exc
    try:
        connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
        _check(connection, path)
        _settle(connection, path)
        _migrate(connection, path, migrations)
        for schema in schemas:
            migrate_schema(connection, path, schema)
    except (apsw.CorruptError, apsw.NotADBError) as exc:
        connection.close()
        raise _damaged(path, str(exc)) from exc
    except apsw.Error as exc:
        connection.close()
        raise OperatorError(f"{path} cannot be opened ({exc}): see to the disk it lies on") from exc
    except BaseException:
        connection.close()
        raise
    return connection


def open_reading(path: Path) -> apsw.Connection:
    """A connection that can only read, and so never checkpoints."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
    return connection


def _check(connection: apsw.Connection, path: Path) -> None:
    found = connection.pragma("quick_check", 1)
    if found != "ok":
        raise _damaged(path, str(found))


def _settle(connection: apsw.Connection, path: Path) -> None:
    mode = connection.pragma("journal_mode", "wal")
    if mode != "wal":
        raise OperatorError(
            f"{path} cannot have a write-ahead log (SQLite answered {mode!r}): put the data folder on a local disk"
        )
    connection.pragma("synchronous", _SYNCHRONOUS_FULL)
    synchronous = connection.pragma("synchronous")
    if synchronous != _SYNCHRONOUS_FULL:
        raise OperatorError(f"{path} refuses synchronous=FULL (SQLite answered {synchronous!r}): use another SQLite")
    connection.pragma("wal_autocheckpoint", _CHECKPOINT_PAGES)


def _migrate(connection: apsw.Connection, path: Path, migrations: Sequence[str]) -> None:
    version = connection.pragma("user_version")
    assert isinstance(version, int)
    if version > len(migrations):
        raise OperatorError(
            f"{path} was written by a newer Lambent (format {version}, this one knows {len(migrations)}): "
            "start that version or choose another data folder"
        )
    for number, script in enumerate(migrations[version:], start=version + 1):
        # `with` is one transaction, user_version included: a kill in between leaves the former format whole.
        with connection:
            connection.execute(script).fetchall()
            connection.pragma("user_version", number)


def migrate_schema(connection: apsw.Connection, path: Path, schema: Schema) -> None:
    """Bring one module's tables up to date; each step is one transaction. Raises OperatorError."""
    connection.execute("CREATE TABLE IF NOT EXISTS schemas (name TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT")
    version = connection.execute("SELECT version FROM schemas WHERE name = ?", (schema.name,)).get or 0
    if version > len(schema.versions):
        raise OperatorError(
            f"{path} was written by a newer Lambent ({schema.name}: format {version}, this one knows "
            f"{len(schema.versions)}): start that version or choose another data folder"
        )
    for number, script in enumerate(schema.versions[version:], start=version + 1):
        with connection:
            connection.execute(script).fetchall()
            connection.execute("INSERT OR REPLACE INTO schemas VALUES (?, ?)", (schema.name, number))


def _damaged(path: Path, finding: str) -> OperatorError:
    detail = " ".join(finding.split())
    return OperatorError(f"{path} is damaged ({detail}): restore it from a backup, or move it away to start empty")

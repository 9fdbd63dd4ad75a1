"""What was taken from watched folders, by its paths, in the event plane's tables."""

from __future__ import annotations

from typing import NamedTuple

from lambent.substrate.ports import Connection, Schema

SCHEMA = Schema(
    name="folders",
    versions=(
        """
        CREATE TABLE folders_files (
            folder TEXT NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL, modified_ns INTEGER NOT NULL,
            PRIMARY KEY (folder, path)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE folders_roots (
            folder TEXT PRIMARY KEY, device INTEGER NOT NULL, inode INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        """,
    ),
)


class Stamp(NamedTuple):
    """What tells one content of a file from another."""

    size: int
    modified_ns: int


class Root(NamedTuple):
    device: int
    inode: int


def list_below(connection: Connection, folder: str, path: str) -> dict[str, Stamp]:
    """Of a file, or of all below a folder; the empty path is all."""
    rows = connection.execute(
        "SELECT path, size, modified_ns FROM folders_files WHERE folder = ? AND "
        # '0' is the character after '/'.
        "(?2 = '' OR path = ?2 OR (path > ?2 || '/' AND path < ?2 || '0'))",
        (folder, path),
    )
    return {known: Stamp(size, modified_ns) for known, size, modified_ns in rows}


def put(connection: Connection, folder: str, path: str, stamp: Stamp) -> None:
    connection.execute(
        "INSERT INTO folders_files VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET size = excluded.size, modified_ns = excluded.modified_ns",
        (folder, path, stamp.size, stamp.modified_ns),
    )


def drop(connection: Connection, folder: str, path: str) -> None:
    connection.execute("DELETE FROM folders_files WHERE folder = ? AND path = ?", (folder, path))


def find_root(connection: Connection, folder: str) -> Root | None:
    row = connection.execute("SELECT device, inode FROM folders_roots WHERE folder = ?", (folder,)).get
    return Root(*row) if row is not None else None


def put_root(connection: Connection, folder: str, root: Root) -> None:
    connection.execute(
        "INSERT INTO folders_roots VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET device = excluded.device, inode = excluded.inode",
        (folder, root.device, root.inode),
    )

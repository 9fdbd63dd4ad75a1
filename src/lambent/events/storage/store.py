"""Buckets, objects and uploads in the event plane's tables.

Plain functions within a transaction. `storage_pieces` counts how often the objects and parts use a file; those that
give uses up return the digests whose file may now be one that nothing needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from lambent.events.storage import refusals
from lambent.events.storage.files import Piece
from lambent.events.storage.model import Bucket, Conditions, Intent, Listed, Part, StoredObject, Upload
from lambent.model.errors import CallerError
from lambent.substrate.ports import Connection, Schema

SCHEMA = Schema(
    name="storage",
    versions=(
        """
        CREATE TABLE storage_buckets (
            name TEXT PRIMARY KEY, account TEXT NOT NULL, record BLOB NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE storage_objects (
            bucket TEXT NOT NULL, key TEXT NOT NULL,
            size INTEGER NOT NULL, etag TEXT NOT NULL, modified_at REAL NOT NULL, record BLOB NOT NULL,
            PRIMARY KEY (bucket, key)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE storage_uploads (
            bucket TEXT NOT NULL, key TEXT NOT NULL, id TEXT NOT NULL, record BLOB NOT NULL,
            PRIMARY KEY (bucket, key, id)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE storage_parts (
            upload TEXT NOT NULL, number INTEGER NOT NULL, record BLOB NOT NULL,
            PRIMARY KEY (upload, number)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE storage_pieces (
            digest TEXT PRIMARY KEY, uses INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        """,
        """
        CREATE TABLE storage_intents (id TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
        """,
    ),
)

_pack = msgspec.msgpack.encode


# Changes in the store behind this node.


def put_intents(connection: Connection, intents: Iterable[Intent]) -> None:
    for intent in intents:
        connection.execute("INSERT INTO storage_intents VALUES (?, ?)", (intent.id, _pack(intent)))


def drop_intents(connection: Connection, ids: Iterable[str]) -> None:
    for id_ in ids:
        connection.execute("DELETE FROM storage_intents WHERE id = ?", (id_,))


def list_intents(connection: Connection) -> list[Intent]:
    """The oldest first."""
    rows = connection.execute("SELECT record FROM storage_intents")
    return sorted((msgspec.msgpack.decode(record, type=Intent) for (record,) in rows), key=lambda intent: intent.at)


# Buckets.


def find_bucket(connection: Connection, account: str, name: str) -> Bucket:
    """Raises CallerError `NoSuchBucket`, and `AccessDenied` for another account's."""
    record = connection.execute("SELECT record FROM storage_buckets WHERE name = ?", (name,)).get
    if record is None:
        raise refusals.no_bucket(name)
    bucket = msgspec.msgpack.decode(record, type=Bucket)
    if bucket.account != account:
        raise refusals.access_denied()
    return bucket


def check_free(connection: Connection, account: str, name: str) -> None:
    """Raises CallerError (409) for a name that is taken, whoever has it."""
    owner = connection.execute("SELECT account FROM storage_buckets WHERE name = ?", (name,)).get
    if owner == account:
        raise CallerError(
            "BucketAlreadyOwnedByYou",
            "Your previous request to create the named bucket succeeded and you already own it.",
            status=409,
            members={"BucketName": name},
        )
    if owner is not None:
        raise CallerError(
            "BucketAlreadyExists",
            "The requested bucket name is not available. The bucket namespace is shared by all accounts of the node.",
            status=409,
            members={"BucketName": name},
        )


def create_bucket(connection: Connection, bucket: Bucket) -> None:
    """Raises CallerError (409) for a name that is taken, whoever has it."""
    check_free(connection, bucket.account, bucket.name)
    put_bucket(connection, bucket)


def put_bucket(connection: Connection, bucket: Bucket) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO storage_buckets (name, account, record) VALUES (?, ?, ?)",
        (bucket.name, bucket.account, _pack(bucket)),
    )


def delete_bucket(connection: Connection, account: str, name: str) -> list[str]:
    """Raises CallerError `BucketNotEmpty`. Uploads under way are no objects, and end."""
    find_bucket(connection, account, name)
    if connection.execute("SELECT 1 FROM storage_objects WHERE bucket = ? LIMIT 1", (name,)).get is not None:
        raise CallerError("BucketNotEmpty", "The bucket you tried to delete is not empty", status=409)
    uploads = [
        msgspec.msgpack.decode(record, type=Upload)
        for (record,) in connection.execute("SELECT record FROM storage_uploads WHERE bucket = ?", (name,))
    ]
    freed = [digest for upload in uploads for digest in delete_upload(connection, upload)]
    connection.execute("DELETE FROM storage_buckets WHERE name = ?", (name,))
    return freed


def list_bulk(connection: Connection) -> list[str]:
    """Names of the buckets whose objects lie in the store behind this node."""
    found = [
        msgspec.msgpack.decode(record, type=Bucket)
        for (record,) in connection.execute("SELECT record FROM storage_buckets")
    ]
    return sorted(bucket.name for bucket in found if bucket.bulk)


def list_buckets(connection: Connection, account: str) -> list[Bucket]:
    rows = connection.execute("SELECT record FROM storage_buckets WHERE account = ? ORDER BY name", (account,))
    return [msgspec.msgpack.decode(record, type=Bucket) for (record,) in rows]


# Objects.


def find_object(connection: Connection, bucket: str, key: str) -> StoredObject | None:
    query = "SELECT record FROM storage_objects WHERE bucket = ? AND key = ?"
    record = connection.execute(query, (bucket, key)).get
    return msgspec.msgpack.decode(record, type=StoredObject) if record is not None else None


def put_object(
    connection: Connection, bucket: str, key: str, stored: StoredObject, conditions: Conditions
) -> list[str]:
    """Put it in the place of what was there. Raises CallerError when the conditions do not hold."""
    replaced = find_object(connection, bucket, key)
    _check(conditions, replaced, key)
    use(connection, stored.pieces)
    write_object(connection, bucket, key, stored)
    return drop(connection, replaced.pieces) if replaced is not None else []


def write_object(connection: Connection, bucket: str, key: str, stored: StoredObject) -> None:
    """Its record alone: the bytes are those that were there."""
    connection.execute(
        "INSERT OR REPLACE INTO storage_objects (bucket, key, size, etag, modified_at, record) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (bucket, key, stored.size, stored.etag, stored.modified_at, _pack(stored)),
    )


def delete_object(connection: Connection, bucket: str, key: str, conditions: Conditions) -> list[str] | None:
    """None when there was none."""
    found = find_object(connection, bucket, key)
    if conditions.if_match:
        _check(conditions, found, key)
    if found is None:
        return None
    connection.execute("DELETE FROM storage_objects WHERE bucket = ? AND key = ?", (bucket, key))
    return drop(connection, found.pieces)


def walk_objects(connection: Connection, bucket: str, after: str, *, inclusive: bool) -> Iterator[Listed]:
    """In the order of the keys' bytes, after a key or from one on."""
    query = f"""
        SELECT key, size, etag, modified_at FROM storage_objects
        WHERE bucket = ? AND key {">=" if inclusive else ">"} ? ORDER BY key
    """  # noqa: S608 - of two constants
    for key, size, etag, modified_at in connection.execute(query, (bucket, after)):
        yield Listed(key=key, size=size, etag=etag, modified_at=modified_at)


def _check(conditions: Conditions, found: StoredObject | None, key: str) -> None:
    if conditions.if_none_match and found is not None and conditions.if_none_match in ("*", found.etag):
        raise refusals.precondition_failed("If-None-Match")
    if conditions.if_match:
        if found is None:
            raise refusals.no_key(key)
        if conditions.if_match not in ("*", found.etag):
            raise refusals.precondition_failed("If-Match")


# Uploads.


def find_upload(connection: Connection, bucket: str, key: str, upload_id: str) -> Upload:
    """Raises CallerError `NoSuchUpload`."""
    query = "SELECT record FROM storage_uploads WHERE bucket = ? AND key = ? AND id = ?"
    record = connection.execute(query, (bucket, key, upload_id)).get
    if record is None:
        raise refusals.no_upload(upload_id)
    return msgspec.msgpack.decode(record, type=Upload)


def put_upload(connection: Connection, upload: Upload) -> None:
    connection.execute(
        "INSERT INTO storage_uploads (bucket, key, id, record) VALUES (?, ?, ?, ?)",
        (upload.bucket, upload.key, upload.id, _pack(upload)),
    )


def list_uploads(connection: Connection, bucket: str, prefix: str, after: tuple[str, str], limit: int) -> list[Upload]:
    query = """
        SELECT record FROM storage_uploads WHERE bucket = ? AND (key, id) > (?, ?) AND substr(key, 1, ?) = ?
        ORDER BY key, id LIMIT ?
    """
    rows = connection.execute(query, (bucket, *after, len(prefix), prefix, limit))
    return [msgspec.msgpack.decode(record, type=Upload) for (record,) in rows]


def put_part(connection: Connection, upload: Upload, part: Part) -> list[str]:
    query = "SELECT record FROM storage_parts WHERE upload = ? AND number = ?"
    replaced = connection.execute(query, (upload.id, part.number)).get
    use(connection, [part.piece])
    connection.execute(
        "INSERT OR REPLACE INTO storage_parts (upload, number, record) VALUES (?, ?, ?)",
        (upload.id, part.number, _pack(part)),
    )
    return drop(connection, [msgspec.msgpack.decode(replaced, type=Part).piece]) if replaced is not None else []


def list_parts(connection: Connection, upload: Upload, after: int = 0, limit: int = -1) -> list[Part]:
    query = "SELECT record FROM storage_parts WHERE upload = ? AND number > ? ORDER BY number LIMIT ?"
    rows = connection.execute(query, (upload.id, after, limit))
    return [msgspec.msgpack.decode(record, type=Part) for (record,) in rows]


def delete_upload(connection: Connection, upload: Upload) -> list[str]:
    """And its parts."""
    freed = drop(connection, [part.piece for part in list_parts(connection, upload)])
    connection.execute("DELETE FROM storage_parts WHERE upload = ?", (upload.id,))
    connection.execute(
        "DELETE FROM storage_uploads WHERE bucket = ? AND key = ? AND id = ?", (upload.bucket, upload.key, upload.id)
    )
    return freed


# Pieces.


def use(connection: Connection, pieces: Iterable[Piece]) -> None:
    connection.executemany(
        "INSERT INTO storage_pieces (digest, uses) VALUES (?, 1) ON CONFLICT (digest) DO UPDATE SET uses = uses + 1",
        [(piece.digest,) for piece in pieces],
    )


def drop(connection: Connection, pieces: Iterable[Piece]) -> list[str]:
    digests = [piece.digest for piece in pieces]
    connection.executemany(
        "UPDATE storage_pieces SET uses = uses - 1 WHERE digest = ?", [(digest,) for digest in digests]
    )
    return digests


def drop_unused(connection: Connection, digest: str) -> bool:
    """Forget a file unless it is used. Whether it is not known now."""
    connection.execute("DELETE FROM storage_pieces WHERE digest = ? AND uses <= 0", (digest,))
    return connection.execute("SELECT 1 FROM storage_pieces WHERE digest = ?", (digest,)).get is None


def list_used(connection: Connection, prefix: str) -> set[str]:
    """The digests that begin so."""
    query = "SELECT digest FROM storage_pieces WHERE digest >= ? AND digest < ? AND uses > 0"
    return {digest for (digest,) in connection.execute(query, (prefix, prefix + "g"))}

"""What buckets, objects and uploads are, as they are kept."""

from __future__ import annotations

import msgspec

from lambent.events.storage.files import Piece


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One notification: what it is for, and where it goes."""

    id: str
    target: str
    """The ARN of a function, queue or topic."""
    events: tuple[str, ...]
    """As in the contract: s3:ObjectCreated:*"""
    prefix: str = ""
    suffix: str = ""


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    account: str
    region: str
    created_at: float
    """Seconds since 1970."""
    rules: tuple[Rule, ...] = ()
    to_bus: bool = False
    """Every event also goes to the account's default bus."""
    tags: dict[str, str] = {}
    bulk: bool = False
    """Its objects lie in the store behind this node."""


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A change that the store behind this node is about to be asked for, and that is to be told."""

    id: str
    account: str
    bucket: str
    key: str
    name: str
    """ObjectCreated:Put"""
    at: float


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    size: int
    etag: str
    """Without quotes."""
    modified_at: float
    pieces: tuple[Piece, ...]
    """In order; together they are the object."""
    part_sizes: tuple[int, ...] = ()
    """Of an object that was uploaded in parts."""
    upload: str = ""
    """The id of the upload that made it, so that a repeated completion finds it done."""
    headers: dict[str, str] = {}
    """By the names of the model: ContentType, CacheControl, Expires (as text), ..."""
    metadata: dict[str, str] = {}
    checksums: dict[str, str] = {}
    checksum_type: str = ""
    tags: dict[str, str] = {}


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """Of an object, what a listing shows."""

    key: str
    size: int
    etag: str
    modified_at: float


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """An object that is being uploaded in parts. `draft` is what it will be, without its bytes."""

    id: str
    bucket: str
    key: str
    started_at: float
    draft: StoredObject
    algorithm: str = ""
    """Of the checksum of parts and whole; empty for none."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    etag: str
    modified_at: float
    piece: Piece
    checksums: dict[str, str] = {}


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold of the object that a write replaces. ETags without quotes; `*` is any."""

    if_match: str = ""
    if_none_match: str = ""

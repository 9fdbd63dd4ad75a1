"""Operations on objects (S3 API reference)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from lambent.events.storage import checksums, refusals, store
from lambent.events.storage.calls import Call, Download, Operation, Result
from lambent.events.storage.files import Files
from lambent.events.storage.model import Bucket, Conditions, StoredObject
from lambent.events.storage.notifications import Change, announce
from lambent.model.errors import CallerError
from lambent.substrate.ports import Connection, Tables

LONGEST_KEY_BYTES = 1_024
MOST_METADATA_BYTES = 2_048
MOST_TAGS = 10
MOST_DELETED_AT_ONCE = 1_000
_HEADERS = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType")
_GRANTS = ("GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP", "GrantWrite")
_DEFAULT_TYPE = "binary/octet-stream"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")

Ring = Callable[[str], None]


class Objects:
    def __init__(self, tables: Tables, files: Files, ring: Ring, *, now: Callable[[], float] = time.time) -> None:
        """`ring` is told the lanes of the outbox in which something new is."""
        self._tables = tables
        self._files = files
        self._ring = ring
        self._now = now

    def operations(self) -> Mapping[str, Operation]:
        return {
            "PutObject": self.put,
            "GetObject": self.get,
            "HeadObject": self.head,
            "DeleteObject": self.delete,
            "DeleteObjects": self.delete_many,
            "CopyObject": self.copy,
            "GetObjectAttributes": self.get_attributes,
            "GetObjectTagging": self.get_tags,
            "PutObjectTagging": self.put_tags,
            "DeleteObjectTagging": self.delete_tags,
        }

    async def put(self, call: Call, parameters: dict[str, Any]) -> Result:
        bucket, key, body = parameters["Bucket"], check_key(parameters["Key"]), call.body
        assert body is not None
        draft = read_draft(parameters)
        conditions = read_conditions(parameters)
        # Before a long body is taken for nothing; what counts is looked at again when it is put.
        await self._tables.read(lambda connection: store.find_bucket(connection, call.context.account, bucket))
        if not body.checks:
            body.want("CRC64NVME")
        async with self._files.writing(body, body.checks) as written:
            found = body.verify(written.md5)
            stored = msgspec.structs.replace(
                draft,
                size=written.piece.size,
                etag=written.md5.hex(),
                modified_at=self._now(),
                pieces=(written.piece,),
                checksums=found,
                checksum_type=checksums.FULL if found else "",
            )

            def work(connection: Connection) -> tuple[list[str], list[str]]:
                found = store.find_bucket(connection, call.context.account, bucket)
                freed = store.put_object(connection, bucket, key, stored, conditions)
                change = Change("ObjectCreated:Put", found, key, stored, stored.modified_at)
                return freed, announce(connection, call, change)

            await self.settle(*await self._tables.write(work))
        return Result({"ETag": f'"{stored.etag}"', **show_checksums(stored)})

    async def settle(self, freed: Iterable[str], lanes: Iterable[str]) -> None:
        """After a transaction: tell who is to be told, and remove what nothing needs."""
        for lane in lanes:
            self._ring(lane)
        await self._files.collect(freed)

    async def get(self, call: Call, parameters: dict[str, Any]) -> Result:
        stored = await self._find(call, parameters)
        check_read(parameters, stored)
        start, length, partial = _find_range(parameters, stored)
        values = self._describe(parameters, stored, whole=not partial)
        values |= {"ContentLength": length}
        if partial:
            values["ContentRange"] = f"bytes {start}-{start + length - 1}/{stored.size}"
        for name in (*_HEADERS, "Expires"):
            if (override := parameters.get(f"Response{name}")) is not None:
                values[name] = override
        return Result(values, 206 if partial else 0, Download(stored.pieces, start, length))

    async def head(self, call: Call, parameters: dict[str, Any]) -> Result:
        found = await self.get(call, parameters)
        return Result(found.values, found.status)

    async def delete(self, call: Call, parameters: dict[str, Any]) -> Result:
        conditions = Conditions(if_match=_unquote(parameters.get("IfMatch", "")))
        _refuse_version(parameters.get("VersionId"))
        await self._delete(call, parameters["Bucket"], [parameters["Key"]], conditions)
        return Result({})

    async def delete_many(self, call: Call, parameters: dict[str, Any]) -> Result:
        stated = parameters["Delete"]
        if len(stated["Objects"]) > MOST_DELETED_AT_ONCE:
            raise CallerError("MalformedXML", f"At most {MOST_DELETED_AT_ONCE} objects are deleted at once.")
        keys = []
        for entry in stated["Objects"]:
            _refuse_version(entry.get("VersionId"))
            keys.append(entry["Key"])
        await self._delete(call, parameters["Bucket"], keys, Conditions())
        return Result({} if stated.get("Quiet") else {"Deleted": [{"Key": key} for key in keys]})

    async def copy(self, call: Call, parameters: dict[str, Any]) -> Result:
        bucket, key = parameters["Bucket"], check_key(parameters["Key"])
        source_bucket, source_key = parse_source(parameters["CopySource"])
        replaces = parameters.get("MetadataDirective", "COPY") == "REPLACE"
        if (bucket, key) == (source_bucket, source_key) and not replaces:
            raise CallerError(
                "InvalidRequest",
                "This copy request is illegal because it is trying to copy an object to itself without changing the "
                "object's metadata, storage class, website redirect location or encryption attributes.",
            )
        draft, conditions = read_draft(parameters), read_conditions(parameters)
        new_tags = parameters.get("TaggingDirective") == "REPLACE"
        now = self._now()

        def work(connection: Connection) -> tuple[StoredObject, list[str], list[str]]:
            account = call.context.account
            store.find_bucket(connection, account, source_bucket)
            source = _need(store.find_object(connection, source_bucket, source_key), source_key)
            check_read(parameters, source, prefix="CopySource")
            described = draft if replaces else source
            stored = msgspec.structs.replace(
                source,
                modified_at=now,
                headers=described.headers,
                metadata=described.metadata,
                tags=draft.tags if new_tags else source.tags,
                upload="",
            )
            found = store.find_bucket(connection, account, bucket)
            freed = store.put_object(connection, bucket, key, stored, conditions)
            return stored, freed, announce(connection, call, Change("ObjectCreated:Copy", found, key, stored, now))

        stored, freed, lanes = await self._tables.write(work)
        await self.settle(freed, lanes)
        shown = {"ETag": f'"{stored.etag}"', "LastModified": moment(stored.modified_at), **show_checksums(stored)}
        return Result({"CopyObjectResult": shown})

    async def get_attributes(self, call: Call, parameters: dict[str, Any]) -> Result:
        stored = await self._find(call, parameters)
        found = {
            "ETag": stored.etag,
            "ObjectSize": stored.size,
            "StorageClass": "STANDARD",
            "Checksum": show_checksums(stored) or None,
            "ObjectParts": {"TotalPartsCount": len(stored.part_sizes)} if stored.part_sizes else None,
        }
        wanted = parameters["ObjectAttributes"]
        values = {name: value for name, value in found.items() if name in wanted}
        return Result({"LastModified": moment(stored.modified_at), **values})

    async def get_tags(self, call: Call, parameters: dict[str, Any]) -> Result:
        return Result({"TagSet": show_tags((await self._find(call, parameters)).tags)})

    async def put_tags(self, call: Call, parameters: dict[str, Any]) -> Result:
        await self._change_tags(call, parameters, read_tags(parameters["Tagging"]["TagSet"], MOST_TAGS))
        return Result({})

    async def delete_tags(self, call: Call, parameters: dict[str, Any]) -> Result:
        await self._change_tags(call, parameters, {})
        return Result({})

    async def _change_tags(self, call: Call, parameters: dict[str, Any], tags: dict[str, str]) -> None:
        bucket, key = parameters["Bucket"], parameters["Key"]

        def work(connection: Connection) -> None:
            store.find_bucket(connection, call.context.account, bucket)
            stored = _need(store.find_object(connection, bucket, key), key)
            store.write_object(connection, bucket, key, msgspec.structs.replace(stored, tags=tags))

        await self._tables.write(work)

    async def _find(self, call: Call, parameters: dict[str, Any]) -> StoredObject:
        bucket, key = parameters["Bucket"], parameters["Key"]
        _refuse_version(parameters.get("VersionId"))

        def work(connection: Connection) -> StoredObject:
            store.find_bucket(connection, call.context.account, bucket)
            return _need(store.find_object(connection, bucket, key), key)

        return await self._tables.read(work)

    async def _delete(self, call: Call, bucket: str, keys: list[str], conditions: Conditions) -> None:
        now = self._now()

        def work(connection: Connection) -> tuple[list[str], list[str]]:
            found: Bucket = store.find_bucket(connection, call.context.account, bucket)
            freed: list[str] = []
            lanes: list[str] = []
            for key in keys:
                dropped = store.delete_object(connection, bucket, key, conditions)
                if dropped is not None:
                    freed += dropped
                    lanes += announce(connection, call, Change("ObjectRemoved:Delete", found, key, None, now))
            return freed, lanes

        await self.settle(*await self._tables.write(work))

    @staticmethod
    def _describe(parameters: Mapping[str, Any], stored: StoredObject, *, whole: bool) -> dict[str, Any]:
        values: dict[str, Any] = {
            "AcceptRanges": "bytes",
            "ETag": f'"{stored.etag}"',
            "LastModified": moment(stored.modified_at),
            "Metadata": stored.metadata,
            "ContentType": _DEFAULT_TYPE,
            **{name: value for name, value in stored.headers.items() if name != "Expires"},
        }
        if "Expires" in stored.headers:
            values["Expires"] = datetime.fromisoformat(stored.headers["Expires"])
        if stored.tags:
            values["TagCount"] = len(stored.tags)
        if parameters.get("PartNumber") and stored.part_sizes:
            values["PartsCount"] = len(stored.part_sizes)
        # The checksum is of the whole: beside a part of it, an SDK would compare the two.
        if parameters.get("ChecksumMode") == "ENABLED" and whole:
            values |= show_checksums(stored)
        return values


def check_key(key: str) -> str:
    """Raises CallerError `KeyTooLongError`."""
    if len(key.encode()) > LONGEST_KEY_BYTES:
        raise CallerError("KeyTooLongError", "Your key is too long", members={"MaxSizeAllowed": str(LONGEST_KEY_BYTES)})
    return key


def moment(at: float) -> datetime:
    """As it is shown, in whole seconds."""
    return datetime.fromtimestamp(int(at), UTC)


def read_draft(parameters: Mapping[str, Any]) -> StoredObject:
    """What a request says of an object, without its bytes. Raises CallerError for what is not served."""
    refuse_unserved(parameters)
    headers = {name: parameters[name] for name in _HEADERS if parameters.get(name)}
    encodings = [part.strip() for part in headers.pop("ContentEncoding", "").split(",")]
    kept = ",".join(part for part in encodings if part and part != "aws-chunked")
    if kept:
        headers["ContentEncoding"] = kept
    if parameters.get("Expires") is not None:
        headers["Expires"] = parameters["Expires"].isoformat()
    metadata = parameters.get("Metadata") or {}
    if sum(len(name) + len(value) for name, value in metadata.items()) > MOST_METADATA_BYTES:
        raise CallerError("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size (2 KB).")
    pairs = parse_qsl(parameters.get("Tagging") or "", keep_blank_values=True)
    tags = read_tags([{"Key": key, "Value": value} for key, value in pairs], MOST_TAGS)
    return StoredObject(size=0, etag="", modified_at=0.0, pieces=(), headers=headers, metadata=metadata, tags=tags)


def refuse_unserved(parameters: Mapping[str, Any]) -> None:
    """Raises CallerError rather than to keep an object otherwise than was asked."""
    if parameters.get("SSECustomerAlgorithm") or parameters.get("CopySourceSSECustomerAlgorithm"):
        raise refusals.not_implemented("Encryption with keys of the customer")
    if parameters.get("ServerSideEncryption") not in (None, "AES256"):
        raise refusals.not_implemented("Encryption with keys of a key service")
    if parameters.get("ACL") not in (None, "private", "bucket-owner-full-control") or any(
        parameters.get(name) for name in _GRANTS
    ):
        raise CallerError("AccessControlListNotSupported", "The bucket does not allow ACLs")
    if parameters.get("ObjectLockMode") or parameters.get("ObjectLockLegalHoldStatus"):
        raise refusals.not_implemented("Object lock")
    if parameters.get("WriteOffsetBytes") is not None:
        raise refusals.not_implemented("Appending to objects")
    if parameters.get("WebsiteRedirectLocation"):
        raise refusals.not_implemented("Serving buckets as web sites")


def read_conditions(parameters: Mapping[str, Any]) -> Conditions:
    return Conditions(
        if_match=_unquote(parameters.get("IfMatch", "")), if_none_match=_unquote(parameters.get("IfNoneMatch", ""))
    )


def read_tags(entries: list[dict[str, Any]], most: int) -> dict[str, str]:
    tags = {entry["Key"]: entry.get("Value", "") for entry in entries}
    if len(tags) > most:
        raise CallerError("BadRequest", f"Object tags cannot be greater than {most}")
    if len(tags) < len(entries) or any(not 1 <= len(key) <= 128 or len(value) > 256 for key, value in tags.items()):
        raise CallerError("InvalidTag", "The tag provided was not a valid tag: keys are unique and 1 to 128 long.")
    return tags


def show_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def show_checksums(stored: StoredObject) -> dict[str, str]:
    shown = {checksums.member_of(algorithm): value for algorithm, value in stored.checksums.items()}
    return shown | ({"ChecksumType": stored.checksum_type} if shown else {})


def parse_source(text: str) -> tuple[str, str]:
    """Bucket and key of `x-amz-copy-source`. Raises CallerError."""
    path, _, query = text.partition("?")
    if query:
        _refuse_version(dict(parse_qsl(query)).get("versionId"))
    try:
        decoded = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        decoded = ""
    bucket, _, key = decoded.removeprefix("/").partition("/")
    if not bucket or not key:
        raise refusals.invalid("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
    return bucket, key


def check_read(parameters: Mapping[str, Any], stored: StoredObject, *, prefix: str = "") -> None:
    """Raises CallerError 412, or 304 when the caller has the object already."""
    match, none_match = parameters.get(f"{prefix}IfMatch"), parameters.get(f"{prefix}IfNoneMatch")
    since = parameters.get(f"{prefix}IfModifiedSince")
    unmodified_since = parameters.get(f"{prefix}IfUnmodifiedSince")
    modified_at = moment(stored.modified_at)
    if match is not None:
        if not _names(match, stored.etag):
            raise refusals.precondition_failed("If-Match")
    elif unmodified_since is not None and modified_at > unmodified_since:
        raise refusals.precondition_failed("If-Unmodified-Since")
    unchanged = since is not None and modified_at <= since
    if _names(none_match, stored.etag) if none_match is not None else unchanged:
        if prefix:
            raise refusals.precondition_failed("If-None-Match")
        headers = {"ETag": f'"{stored.etag}"'}
        raise CallerError("NotModified", "Not Modified", status=304, headers=headers)


def _names(condition: str, etag: str) -> bool:
    wanted = [_unquote(part.strip()) for part in condition.split(",")]
    return "*" in wanted or etag in wanted


def _unquote(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _find_range(parameters: Mapping[str, Any], stored: StoredObject) -> tuple[int, int, bool]:
    """Where it begins, how long it is, and whether it is less than all."""
    number = parameters.get("PartNumber")
    if number is not None:
        if parameters.get("Range"):
            raise CallerError("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
        sizes = stored.part_sizes or (stored.size,)
        if not 1 <= number <= len(sizes):
            raise CallerError("InvalidPartNumber", "The requested partnumber is not satisfiable", status=416)
        return sum(sizes[: number - 1]), sizes[number - 1], len(sizes) > 1
    return cut_range(parameters.get("Range") or "", stored.size)


def cut_range(text: str, size: int) -> tuple[int, int, bool]:
    """What is not understood is not a range, as HTTP has it. Raises CallerError `InvalidRange` (416)."""
    matched = _RANGE.fullmatch(text.strip())
    if matched is None or not (matched[1] or matched[2]):
        return 0, size, False
    if not matched[1]:
        length = min(int(matched[2]), size)
        start, end = size - length, size - 1
    else:
        start = int(matched[1])
        end = min(int(matched[2]), size - 1) if matched[2] else size - 1
        if matched[2] and int(matched[2]) < start:
            return 0, size, False
    if start > end:
        raise CallerError(
            "InvalidRange",
            "The requested range is not satisfiable",
            status=416,
            members={"ActualObjectSize": str(size), "RangeRequested": text},
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end - start + 1, True


def _need(stored: StoredObject | None, key: str) -> StoredObject:
    if stored is None:
        raise refusals.no_key(key)
    return stored


def _refuse_version(version: str | None) -> None:
    if version not in (None, "", "null"):
        raise CallerError(
            "NoSuchVersion", "The specified version does not exist: buckets are not versioned.", status=404
        )

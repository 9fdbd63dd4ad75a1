"""Uploads in parts (S3 user guide, "Uploading and copying objects using multipart upload")."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from lambent.events.storage import checksums, refusals, store
from lambent.events.storage.calls import Call, Operation, Result
from lambent.events.storage.files import Files, Piece
from lambent.events.storage.model import Part, StoredObject, Upload
from lambent.events.storage.notifications import Change, announce
from lambent.events.storage.objects import (
    Objects,
    check_key,
    check_read,
    cut_range,
    moment,
    parse_source,
    read_conditions,
    read_draft,
    show_checksums,
)
from lambent.model.errors import CallerError, PlatformError
from lambent.model.identifiers import new_hex
from lambent.substrate.ports import Connection, Tables

MOST_PARTS = 10_000
LEAST_PART_BYTES = 5 * 1024**2
LARGEST_OBJECT = 50 * 1024**4
_PAGE = 1_000


class Uploads:
    def __init__(
        self,
        tables: Tables,
        files: Files,
        objects: Objects,
        *,
        now: Callable[[], float] = time.time,
        new_id: Callable[[], str] = new_hex,
    ) -> None:
        self._tables = tables
        self._files = files
        self._objects = objects
        self._now = now
        self._new_id = new_id

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateMultipartUpload": self.create,
            "UploadPart": self.put_part,
            "UploadPartCopy": self.copy_part,
            "CompleteMultipartUpload": self.complete,
            "AbortMultipartUpload": self.abort,
            "ListParts": self.list_parts,
            "ListMultipartUploads": self.list,
        }

    async def create(self, call: Call, parameters: dict[str, Any]) -> Result:
        bucket, key = parameters["Bucket"], check_key(parameters["Key"])
        algorithm = parameters.get("ChecksumAlgorithm", "")
        kind = parameters.get("ChecksumType", "")
        if algorithm:
            checksums.check_algorithm(algorithm)
            kind = kind or checksums.default_type(algorithm)
            if kind == checksums.FULL and not algorithm.startswith("CRC"):
                raise CallerError("InvalidRequest", f"The {kind} checksum type cannot be used with {algorithm}.")
        draft = msgspec.structs.replace(read_draft(parameters), checksum_type=kind if algorithm else "")
        upload = Upload(
            id=self._new_id(), bucket=bucket, key=key, started_at=self._now(), draft=draft, algorithm=algorithm
        )

        def work(connection: Connection) -> None:
            store.find_bucket(connection, call.context.account, bucket)
            store.put_upload(connection, upload)

        await self._tables.write(work)
        values = {"Bucket": bucket, "Key": key, "UploadId": upload.id}
        if algorithm:
            values |= {"ChecksumAlgorithm": algorithm, "ChecksumType": kind}
        return Result(values)

    async def put_part(self, call: Call, parameters: dict[str, Any]) -> Result:
        number = _check_number(parameters["PartNumber"])
        upload = await self._find(call, parameters)
        assert call.body is not None
        if upload.algorithm:
            call.body.want(upload.algorithm)
        async with self._files.writing(call.body, call.body.checks) as written:
            found = call.body.verify(written.md5)
            part = Part(
                number=number, etag=written.md5.hex(), modified_at=self._now(), piece=written.piece, checksums=found
            )
            await self._commit_part(call, upload, part)
        shown = {checksums.member_of(name): value for name, value in found.items()}
        return Result({"ETag": f'"{part.etag}"', **shown})

    async def copy_part(self, call: Call, parameters: dict[str, Any]) -> Result:
        number = _check_number(parameters["PartNumber"])
        upload = await self._find(call, parameters)
        bucket, key = parse_source(parameters["CopySource"])

        def find(connection: Connection) -> StoredObject:
            store.find_bucket(connection, call.context.account, bucket)
            found = store.find_object(connection, bucket, key)
            if found is None:
                raise refusals.no_key(key)
            return found

        source = await self._tables.read(find)
        check_read(parameters, source, prefix="CopySource")
        start, length, _ = cut_range(parameters.get("CopySourceRange") or "", source.size)
        check = checksums.ALGORITHMS[upload.algorithm]() if upload.algorithm else None
        async with self._files.holding(source.pieces) as whole:
            if not whole:
                raise PlatformError("The source was replaced while it was copied; try again.", retry_safe=True)
            data: AsyncIterator[bytes] = self._files.read(source.pieces, start, length)
            async with self._files.writing(data, [check] if check is not None else []) as written:
                part = Part(
                    number=number,
                    etag=written.md5.hex(),
                    modified_at=self._now(),
                    piece=written.piece,
                    checksums={upload.algorithm: checksums.encode(check.digest())} if check is not None else {},
                )
                await self._commit_part(call, upload, part)
        return Result({"CopyPartResult": {"ETag": f'"{part.etag}"', "LastModified": moment(part.modified_at)}})

    async def complete(self, call: Call, parameters: dict[str, Any]) -> Result:
        bucket, key, upload_id = parameters["Bucket"], parameters["Key"], parameters["UploadId"]
        stated = parameters.get("MultipartUpload", {}).get("Parts", [])
        conditions = read_conditions(parameters)
        now = self._now()

        def work(connection: Connection) -> tuple[StoredObject, list[str], list[str]]:
            found = store.find_bucket(connection, call.context.account, bucket)
            there = store.find_object(connection, bucket, key)
            if there is not None and there.upload == upload_id:
                # Whoever did not hear that it was completed asks again.
                return there, [], []
            upload = store.find_upload(connection, bucket, key, upload_id)
            parts = _choose(stated, store.list_parts(connection, upload))
            stored = _assemble(upload, parts, now)
            _check_whole(parameters, upload, stored)
            freed = store.put_object(connection, bucket, key, stored, conditions)
            freed += store.delete_upload(connection, upload)
            change = Change("ObjectCreated:CompleteMultipartUpload", found, key, stored, now)
            return stored, freed, announce(connection, call, change)

        stored, freed, lanes = await self._tables.write(work)
        await self._objects.settle(freed, lanes)
        location = f"http://{call.context.host}/{bucket}/{key}"
        values = {"Location": location, "Bucket": bucket, "Key": key, "ETag": f'"{stored.etag}"'}
        return Result(values | show_checksums(stored))

    async def abort(self, call: Call, parameters: dict[str, Any]) -> Result:
        def work(connection: Connection) -> list[str]:
            return store.delete_upload(connection, self._need(connection, call, parameters))

        await self._files.collect(await self._tables.write(work))
        return Result({})

    async def list_parts(self, call: Call, parameters: dict[str, Any]) -> Result:
        after, limit = _read_number(parameters.get("PartNumberMarker")), min(parameters.get("MaxParts", _PAGE), _PAGE)

        def work(connection: Connection) -> tuple[Upload, list[Part]]:
            upload = self._need(connection, call, parameters)
            return upload, store.list_parts(connection, upload, after, limit + 1)

        upload, parts = await self._tables.read(work)
        shown = parts[:limit]
        values: dict[str, Any] = {
            "Bucket": upload.bucket,
            "Key": upload.key,
            "UploadId": upload.id,
            "PartNumberMarker": after,
            "MaxParts": limit,
            "IsTruncated": len(parts) > limit,
            "StorageClass": "STANDARD",
            "Owner": {"ID": call.context.account},
            "Initiator": {"ID": call.context.account},
            "Parts": [_show_part(part) for part in shown],
        }
        if shown:
            values["NextPartNumberMarker"] = shown[-1].number
        if upload.algorithm:
            values |= {"ChecksumAlgorithm": upload.algorithm, "ChecksumType": upload.draft.checksum_type}
        return Result(values)

    async def list(self, call: Call, parameters: dict[str, Any]) -> Result:
        bucket, prefix = parameters["Bucket"], parameters.get("Prefix", "")
        if parameters.get("Delimiter"):
            raise refusals.not_implemented("Listing uploads with a delimiter")
        limit = min(parameters.get("MaxUploads", _PAGE), _PAGE)
        key, upload_id = parameters.get("KeyMarker", ""), parameters.get("UploadIdMarker", "")
        # Without an upload's id, all uploads of the marker's key are behind it.
        after = (key, upload_id or ("~" if key else ""))

        def work(connection: Connection) -> list[Upload]:
            store.find_bucket(connection, call.context.account, bucket)
            return store.list_uploads(connection, bucket, prefix, after, limit + 1)

        uploads = await self._tables.read(work)
        shown = uploads[:limit]
        values: dict[str, Any] = {
            "Bucket": bucket,
            "KeyMarker": key,
            "UploadIdMarker": upload_id,
            "Prefix": prefix,
            "MaxUploads": limit,
            "IsTruncated": len(uploads) > limit,
            "Uploads": [
                {
                    "UploadId": upload.id,
                    "Key": upload.key,
                    "Initiated": moment(upload.started_at),
                    "StorageClass": "STANDARD",
                    "Owner": {"ID": call.context.account},
                    "Initiator": {"ID": call.context.account},
                }
                for upload in shown
            ],
        }
        if len(uploads) > limit and shown:
            values |= {"NextKeyMarker": shown[-1].key, "NextUploadIdMarker": shown[-1].id}
        return Result(values)

    async def _find(self, call: Call, parameters: dict[str, Any]) -> Upload:
        return await self._tables.read(lambda connection: self._need(connection, call, parameters))

    @staticmethod
    def _need(connection: Connection, call: Call, parameters: dict[str, Any]) -> Upload:
        store.find_bucket(connection, call.context.account, parameters["Bucket"])
        return store.find_upload(connection, parameters["Bucket"], parameters["Key"], parameters["UploadId"])

    async def _commit_part(self, call: Call, upload: Upload, part: Part) -> None:
        def work(connection: Connection) -> list[str]:
            # It may have been completed or aborted while the bytes came.
            store.find_bucket(connection, call.context.account, upload.bucket)
            found = store.find_upload(connection, upload.bucket, upload.key, upload.id)
            return store.put_part(connection, found, part)

        await self._files.collect(await self._tables.write(work))


def _check_number(number: int) -> int:
    if not 1 <= number <= MOST_PARTS:
        raise refusals.invalid(f"Part number must be an integer between 1 and {MOST_PARTS}, inclusive")
    return number


def _read_number(text: Any) -> int:
    try:
        return max(0, int(text or 0))
    except ValueError:
        raise refusals.invalid("The part number marker is not a number.") from None


def _choose(stated: Sequence[Mapping[str, Any]], parts: Sequence[Part]) -> list[Part]:
    """The parts that the caller names. Raises CallerError unless they are there as stated."""
    if not stated:
        raise CallerError("MalformedXML", "You must specify at least one part")
    numbers = [entry.get("PartNumber", 0) for entry in stated]
    if any(first >= second for first, second in pairwise(numbers)):
        raise CallerError("InvalidPartOrder", "The list of parts was not in ascending order.")
    by_number = {part.number: part for part in parts}
    chosen = []
    for entry in stated:
        part = by_number.get(entry.get("PartNumber", 0))
        if part is None or entry.get("ETag", "").strip('"') != part.etag or not _fits(entry, part):
            raise CallerError(
                "InvalidPart",
                "One or more of the specified parts could not be found. The part may not have been uploaded, or the "
                "specified entity tag may not match the part's entity tag.",
                members={"PartNumber": str(entry.get("PartNumber", ""))},
            )
        chosen.append(part)
    if any(part.piece.size < LEAST_PART_BYTES for part in chosen[:-1]):
        raise CallerError("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed object size.")
    return chosen


def _fits(entry: Mapping[str, Any], part: Part) -> bool:
    stated = ((entry.get(checksums.member_of(name)), value) for name, value in part.checksums.items())
    return all(given is None or given == value for given, value in stated)


def _assemble(upload: Upload, parts: Sequence[Part], now: float) -> StoredObject:
    sizes = tuple(part.piece.size for part in parts)
    if sum(sizes) > LARGEST_OBJECT:
        raise CallerError("EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.")
    digests = b"".join(bytes.fromhex(part.etag) for part in parts)
    return msgspec.structs.replace(
        upload.draft,
        size=sum(sizes),
        etag=f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}",
        modified_at=now,
        pieces=tuple(Piece(part.piece.digest, part.piece.size) for part in parts),
        part_sizes=sizes,
        checksums=_join(upload, parts),
        upload=upload.id,
    )


def _join(upload: Upload, parts: Sequence[Part]) -> dict[str, str]:
    if not upload.algorithm:
        return {}
    found = [checksums.decode(part.checksums[upload.algorithm]) for part in parts]
    if upload.draft.checksum_type == checksums.COMPOSITE:
        return {upload.algorithm: checksums.join_composite(upload.algorithm, found)}
    lengths = [part.piece.size for part in parts]
    return {upload.algorithm: checksums.join_full(upload.algorithm, list(zip(found, lengths, strict=True)))}


def _check_whole(parameters: Mapping[str, Any], upload: Upload, stored: StoredObject) -> None:
    stated = parameters.get(checksums.member_of(upload.algorithm)) if upload.algorithm else None
    computed = stored.checksums.get(upload.algorithm, "")
    if stated is not None and stated.partition("-")[0] != computed.partition("-")[0]:
        raise CallerError("BadDigest", f"The {upload.algorithm} you specified did not match the calculated checksum.")
    size = parameters.get("MpuObjectSize")
    if size is not None and int(size) != stored.size:
        raise CallerError("InvalidRequest", f"The parts have {stored.size} bytes together, not {size}.")


def _show_part(part: Part) -> dict[str, Any]:
    shown = {checksums.member_of(name): value for name, value in part.checksums.items()}
    return {
        "PartNumber": part.number,
        "LastModified": moment(part.modified_at),
        "ETag": f'"{part.etag}"',
        "Size": part.piece.size,
        **shown,
    }

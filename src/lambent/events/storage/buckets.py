"""Operations on buckets, and listings (S3 API reference)."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from lambent.events.deliveries import Deliveries
from lambent.events.storage import notifications, refusals, store
from lambent.events.storage.bulk_store import BulkStore
from lambent.events.storage.calls import Call, Operation, Result
from lambent.events.storage.files import Files
from lambent.events.storage.listing import Page, list_page
from lambent.events.storage.model import Bucket, Listed
from lambent.events.storage.objects import moment, read_tags, refuse_unserved, show_tags
from lambent.model.errors import CallerError, PlatformError
from lambent.model.identifiers import new_hex
from lambent.substrate.ports import Connection, Tables

MOST_BUCKETS = 1_000
"""Of an account."""
MOST_TAGS = 50
_PAGE = 1_000
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_RESERVED = frozenset({"2015-03-31"})
"""What the paths of other services on this port begin with."""


class Buckets:
    def __init__(
        self,
        tables: Tables,
        files: Files,
        deliveries: Deliveries,
        *,
        bulk: BulkStore | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._bulk = bulk
        self._tables = tables
        self._files = files
        self._deliveries = deliveries
        self._now = now

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateBucket": self.create,
            "DeleteBucket": self.delete,
            "HeadBucket": self.head,
            "ListBuckets": self.list,
            "GetBucketLocation": self.get_location,
            "ListObjects": self.list_objects,
            "ListObjectsV2": self.list_objects_v2,
            "GetBucketNotificationConfiguration": self.get_notifications,
            "PutBucketNotificationConfiguration": self.put_notifications,
            "GetBucketTagging": self.get_tags,
            "PutBucketTagging": self.put_tags,
            "DeleteBucketTagging": self.delete_tags,
            "GetBucketAcl": self.get_acl,
            "GetObjectAcl": self.get_acl,
            "GetBucketVersioning": self.get_versioning,
            "PutBucketVersioning": self.put_versioning,
            "GetPublicAccessBlock": self.get_public_access,
            "PutPublicAccessBlock": self.put_public_access,
            "GetBucketOwnershipControls": self.get_ownership,
            "GetBucketRequestPayment": self.get_payment,
            "GetBucketLogging": self.head_only,
            "GetBucketAccelerateConfiguration": self.head_only,
            **{name: self._answer_absent(code, text) for name, (code, text) in _ABSENT.items()},
        }

    async def create(self, call: Call, parameters: dict[str, Any]) -> Result:
        name, context = parameters["Bucket"], call.context
        check_name(name)
        refuse_unserved(parameters)
        if parameters.get("ObjectLockEnabledForBucket"):
            raise refusals.not_implemented("Object lock")
        stated = parameters.get("CreateBucketConfiguration", {})
        location = stated.get("LocationConstraint")
        if location not in (None, context.region):
            raise CallerError(
                "IllegalLocationConstraintException",
                f"The {location} location constraint is incompatible with this node's region, {context.region}.",
            )
        tags = read_tags(stated.get("Tags", []), MOST_TAGS)
        in_bulk = self._bulk is not None and self._bulk.owns(name)
        bucket = Bucket(
            name=name,
            account=context.account,
            region=context.region,
            created_at=self._now(),
            tags=tags,
            bulk=in_bulk,
        )
        if self._bulk is not None and in_bulk:
            # One that is another account's here must not be touched there.
            await self._tables.read(lambda connection: store.check_free(connection, context.account, name))
            await self._bulk.create_bucket(name)

        def work(connection: Connection) -> None:
            if len(store.list_buckets(connection, context.account)) >= MOST_BUCKETS:
                raise CallerError("TooManyBuckets", f"An account has at most {MOST_BUCKETS} buckets.")
            store.create_bucket(connection, bucket)

        await self._tables.write(work)
        return Result({"Location": f"/{name}", "BucketArn": notifications.arn_of(name)})

    async def delete(self, call: Call, parameters: dict[str, Any]) -> Result:
        found = await self._find(call, parameters)
        if found.bulk:
            if self._bulk is None:
                raise PlatformError(f"The bucket {found.name} lies in a store that is not named in [storage.s3].")
            await self._bulk.delete_bucket(found.name)

        def work(connection: Connection) -> list[str]:
            return store.delete_bucket(connection, call.context.account, parameters["Bucket"])

        await self._files.collect(await self._tables.write(work))
        return Result({})

    async def head(self, call: Call, parameters: dict[str, Any]) -> Result:
        bucket = await self._find(call, parameters)
        return Result({"BucketRegion": bucket.region, "BucketArn": notifications.arn_of(bucket.name)})

    async def head_only(self, call: Call, parameters: dict[str, Any]) -> Result:
        """The answer of a bucket that has none of it."""
        await self._find(call, parameters)
        return Result({})

    async def list(self, call: Call, parameters: dict[str, Any]) -> Result:
        account = call.context.account
        buckets = await self._tables.read(lambda connection: store.list_buckets(connection, account))
        prefix, after = parameters.get("Prefix", ""), parameters.get("ContinuationToken", "")
        limit = parameters.get("MaxBuckets", MOST_BUCKETS)
        found = [bucket for bucket in buckets if bucket.name.startswith(prefix) and bucket.name > after]
        shown = [
            {"Name": bucket.name, "CreationDate": moment(bucket.created_at), "BucketRegion": bucket.region}
            for bucket in found[:limit]
        ]
        values: dict[str, Any] = {"Buckets": shown, "Owner": {"ID": account}}
        if prefix:
            values["Prefix"] = prefix
        if len(found) > limit:
            values["ContinuationToken"] = found[limit - 1].name
        return Result(values)

    async def get_location(self, call: Call, parameters: dict[str, Any]) -> Result:
        bucket = await self._find(call, parameters)
        return Result({"LocationConstraint": "" if bucket.region == "us-east-1" else bucket.region})

    async def list_objects(self, call: Call, parameters: dict[str, Any]) -> Result:
        page = await self._list(call, parameters, parameters.get("Marker", ""))
        values = _show_page(parameters, page) | {"Marker": _encoder(parameters)(parameters.get("Marker", ""))}
        # Without a delimiter the last key is what the caller goes on from.
        if page.truncated and parameters.get("Delimiter"):
            values["NextMarker"] = _encoder(parameters)(page.last)
        return Result(values)

    async def list_objects_v2(self, call: Call, parameters: dict[str, Any]) -> Result:
        token, start = parameters.get("ContinuationToken"), parameters.get("StartAfter", "")
        page = await self._list(call, parameters, _decode_token(token) if token is not None else start)
        values = _show_page(parameters, page) | {"KeyCount": len(page.objects) + len(page.prefixes)}
        if token is not None:
            values["ContinuationToken"] = token
        if start:
            values["StartAfter"] = _encoder(parameters)(start)
        if page.truncated:
            values["NextContinuationToken"] = _encode_token(page.last)
        if parameters.get("FetchOwner"):
            for entry in values["Contents"]:
                entry["Owner"] = {"ID": call.context.account}
        return Result(values)

    async def get_notifications(self, call: Call, parameters: dict[str, Any]) -> Result:
        return Result(notifications.show_rules(await self._find(call, parameters)))

    async def put_notifications(self, call: Call, parameters: dict[str, Any]) -> Result:
        stated = parameters["NotificationConfiguration"]
        bucket = await self._find(call, parameters)
        rules = notifications.parse_rules(stated, new_hex)
        if not parameters.get("SkipDestinationValidation"):
            await notifications.check_targets(self._deliveries, call.context.account, rules)
            added = [rule for rule in rules if rule.target not in {known.target for known in bucket.rules}]
            await notifications.send_test(self._deliveries, call, bucket, added, self._now())
        to_bus = stated.get("EventBridgeConfiguration") is not None
        await self._change(call, parameters, lambda found: msgspec.structs.replace(found, rules=rules, to_bus=to_bus))
        return Result({})

    async def get_tags(self, call: Call, parameters: dict[str, Any]) -> Result:
        bucket = await self._find(call, parameters)
        if not bucket.tags:
            raise CallerError("NoSuchTagSet", "The TagSet does not exist", status=404)
        return Result({"TagSet": show_tags(bucket.tags)})

    async def put_tags(self, call: Call, parameters: dict[str, Any]) -> Result:
        tags = read_tags(parameters["Tagging"]["TagSet"], MOST_TAGS)
        await self._change(call, parameters, lambda found: msgspec.structs.replace(found, tags=tags))
        return Result({}, 204)

    async def delete_tags(self, call: Call, parameters: dict[str, Any]) -> Result:
        await self._change(call, parameters, lambda found: msgspec.structs.replace(found, tags={}))
        return Result({})

    async def get_acl(self, call: Call, parameters: dict[str, Any]) -> Result:
        """What it is for every bucket: its account may do everything, nobody else anything."""
        owner = {"ID": (await self._find(call, parameters)).account}
        grantee = {**owner, "Type": "CanonicalUser"}
        return Result({"Owner": owner, "Grants": [{"Grantee": grantee, "Permission": "FULL_CONTROL"}]})

    async def get_versioning(self, call: Call, parameters: dict[str, Any]) -> Result:
        return await self.head_only(call, parameters)

    async def put_versioning(self, call: Call, parameters: dict[str, Any]) -> Result:
        await self._find(call, parameters)
        if parameters["VersioningConfiguration"].get("Status") == "Enabled":
            raise refusals.not_implemented("Keeping versions of objects")
        return Result({})

    async def get_public_access(self, call: Call, parameters: dict[str, Any]) -> Result:
        await self._find(call, parameters)
        blocks = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        return Result({"PublicAccessBlockConfiguration": dict.fromkeys(blocks, True)})

    async def put_public_access(self, call: Call, parameters: dict[str, Any]) -> Result:
        """Nothing is ever public, so whatever is blocked is."""
        return await self.head_only(call, parameters)

    async def get_ownership(self, call: Call, parameters: dict[str, Any]) -> Result:
        await self._find(call, parameters)
        return Result({"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}})

    async def get_payment(self, call: Call, parameters: dict[str, Any]) -> Result:
        await self._find(call, parameters)
        return Result({"Payer": "BucketOwner"})

    def _answer_absent(self, code: str, text: str) -> Operation:
        async def answer(call: Call, parameters: dict[str, Any]) -> Result:
            await self._find(call, parameters)
            raise CallerError(code, text, status=404, members={"BucketName": parameters["Bucket"]})

        return answer

    async def _find(self, call: Call, parameters: dict[str, Any]) -> Bucket:
        account, name = call.context.account, parameters["Bucket"]
        return await self._tables.read(lambda connection: store.find_bucket(connection, account, name))

    async def _change(self, call: Call, parameters: dict[str, Any], change: Callable[[Bucket], Bucket]) -> None:
        def work(connection: Connection) -> None:
            found = store.find_bucket(connection, call.context.account, parameters["Bucket"])
            store.put_bucket(connection, change(found))

        await self._tables.write(work)

    async def _list(self, call: Call, parameters: dict[str, Any], after: str) -> Page:
        name, limit = parameters["Bucket"], parameters.get("MaxKeys", _PAGE)
        if limit < 0:
            raise refusals.invalid("Argument max-keys must be an integer between 0 and 2147483647")

        def work(connection: Connection) -> Page:
            store.find_bucket(connection, call.context.account, name)

            def walk(start: str, inclusive: bool) -> Iterator[Listed]:
                return store.walk_objects(connection, name, start, inclusive=inclusive)

            return list_page(
                walk,
                prefix=parameters.get("Prefix", ""),
                delimiter=parameters.get("Delimiter", ""),
                after=after,
                limit=min(limit, _PAGE),
            )

        return await self._tables.read(work)


_ABSENT = {
    "GetBucketPolicy": ("NoSuchBucketPolicy", "The bucket policy does not exist"),
    "GetBucketPolicyStatus": ("NoSuchBucketPolicy", "The bucket policy does not exist"),
    "GetBucketEncryption": (
        "ServerSideEncryptionConfigurationNotFoundError",
        "The server side encryption configuration was not found",
    ),
    "GetBucketCors": ("NoSuchCORSConfiguration", "The CORS configuration does not exist"),
    "GetBucketLifecycleConfiguration": (
        "NoSuchLifecycleConfiguration",
        "The lifecycle configuration does not exist",
    ),
    "GetBucketReplication": ("ReplicationConfigurationNotFoundError", "The replication configuration was not found"),
    "GetBucketWebsite": ("NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration"),
    "GetObjectLockConfiguration": (
        "ObjectLockConfigurationNotFoundError",
        "Object Lock configuration does not exist for this bucket",
    ),
}
"""What no bucket has, and tools ask for."""


def check_name(name: str) -> None:
    """Raises CallerError `InvalidBucketName` (S3 user guide, "General purpose buckets naming rules")."""
    bad = _NAME.fullmatch(name) is None or any(pair in name for pair in ("..", ".-", "-.")) or name in _RESERVED
    if bad or _is_address(name):
        raise CallerError("InvalidBucketName", "The specified bucket is not valid.", members={"BucketName": name})


def _is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def _show_page(parameters: Mapping[str, Any], page: Page) -> dict[str, Any]:
    encode = _encoder(parameters)
    values: dict[str, Any] = {
        "Name": parameters["Bucket"],
        "Prefix": encode(parameters.get("Prefix", "")),
        "MaxKeys": min(parameters.get("MaxKeys", _PAGE), _PAGE),
        "IsTruncated": page.truncated,
        "Contents": [
            {
                "Key": encode(entry.key),
                "LastModified": datetime.fromtimestamp(entry.modified_at, UTC),
                "ETag": f'"{entry.etag}"',
                "Size": entry.size,
                "StorageClass": "STANDARD",
            }
            for entry in page.objects
        ],
        "CommonPrefixes": [{"Prefix": encode(prefix)} for prefix in page.prefixes],
    }
    if parameters.get("Delimiter"):
        values["Delimiter"] = encode(parameters["Delimiter"])
    if parameters.get("EncodingType"):
        values["EncodingType"] = parameters["EncodingType"]
    return values


def _encoder(parameters: Mapping[str, Any]) -> Callable[[str], str]:
    if parameters.get("EncodingType") == "url":
        return lambda text: quote(text, safe="/*-._")
    return lambda text: text


def _encode_token(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode()


def _decode_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise refusals.invalid("The continuation token provided is incorrect") from None

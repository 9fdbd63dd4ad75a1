"""The bytes of a package, wherever the caller says they are."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from lambent.controlplane.configuration import Params
from lambent.controlplane.packages import Package
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.refusals import invalid
from lambent.model import limits

_UNSUPPORTED: Mapping[str, str] = {
    "ImageUri": "functions are deployed as zip packages, not as images. Upload a zip as ZipFile",
    "SourceKMSKeyArn": "there is no key service to encrypt packages with. Leave it out",
}


@contextlib.asynccontextmanager
async def receive(plane: ControlPlane, code: Params, *, field: str, account: str) -> AsyncIterator[Package]:
    """Fetch, check, keep and unpack a package; it is safe from collection inside the block. Raises CallerError.

    `field` is the structure's place in the request, for messages.
    """
    data, limit = await _read(plane, code, field=field, account=account)
    async with plane.code.adding(data, zipped_limit=limit) as package:
        yield package


async def inspect(plane: ControlPlane, code: Params, *, field: str, account: str) -> Package:
    """As `receive`, for a dry run: nothing is kept."""
    data, limit = await _read(plane, code, field=field, account=account)
    return await plane.code.check(data, zipped_limit=limit)


async def _read(plane: ControlPlane, code: Params, *, field: str, account: str) -> tuple[bytes, int]:
    """The zip and how big it may be: one from S3 is only bound by what it unpacks to."""
    for member, reason in _UNSUPPORTED.items():
        if code.get(member):
            raise invalid(f"{field}{member} is not supported: {reason}.")
    if code.get("S3ObjectStorageMode") == "REFERENCE":
        raise invalid(f"{field}S3ObjectStorageMode: Lambent keeps a copy of every package. Use COPY or leave it out.")
    zip_file: bytes | None = code.get("ZipFile")
    bucket, key = code.get("S3Bucket"), code.get("S3Key")
    if zip_file is not None and (bucket or key):
        raise invalid("Please do not provide other FunctionCode parameters when providing a ZipFile.")
    if zip_file is not None:
        if not zip_file:
            raise invalid("Uploaded file must be a non-empty zip")
        return zip_file, limits.ZIPPED_CODE_BYTES
    if not bucket or not key:
        raise invalid("Please provide a source for function code.")
    return await _fetch(plane, code, field=field, account=account), limits.UNZIPPED_CODE_BYTES


async def _fetch(plane: ControlPlane, code: Params, *, field: str, account: str) -> bytes:
    bucket, key = str(code["S3Bucket"]), str(code["S3Key"])
    if plane.fetch_s3 is None:
        raise invalid(
            f"{field}S3Bucket: no upstream S3 is configured, so Lambent cannot read s3://{bucket}/{key}. "
            f"Send the package as {field}ZipFile, or name an upstream in lambent.toml: [upstream.s3] endpoint_url, "
            "access_key_id, secret_access_key."
        )
    version: Any = code.get("S3ObjectVersion")
    return await plane.fetch_s3(account, bucket, key, version)

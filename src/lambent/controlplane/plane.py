"""What every operation of the control plane works with."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from lambent.awsapi.arns import FunctionName, parse_function
from lambent.awsapi.context import RequestContext
from lambent.controlplane.packages import CodeStore
from lambent.controlplane.registry import Registry, Stored
from lambent.model import limits
from lambent.model.errors import CallerError
from lambent.model.function import LATEST, Alias, Function, Version

FetchS3 = Callable[[str, str, str | None], Awaitable[bytes]]
"""(bucket, key, object version) to the object's bytes."""
CodeUrl = Callable[[RequestContext, str], str]
"""A URL from which the package of a digest can be downloaded for ten minutes."""

NO_S3 = (
    "Code in S3 cannot be fetched: this node has no S3 upstream. Send the package as ZipFile, or name an upstream in "
    "lambent.toml: [upstream.s3] endpoint_url, access_key_id, secret_access_key."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ControlPlane:
    registry: Registry
    store: CodeStore
    code_url: CodeUrl
    fetch_s3: FetchS3 | None = None
    account_concurrency: int = limits.DEFAULT_ACCOUNT_CONCURRENCY
    now: Callable[[], float] = time.time
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())

    def timestamp(self) -> str:
        at = datetime.fromtimestamp(self.now(), UTC)
        return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}+0000"

    def name(self, context: RequestContext, parameters: dict[str, Any]) -> FunctionName:
        return parse_function(parameters["FunctionName"], parameters.get("Qualifier"), context=context)

    async def function(self, context: RequestContext, name: str) -> Stored[Function]:
        found = await self.registry.find(Function, context.account, name)
        if found is None:
            raise not_found(context, name)
        return found

    async def version(self, context: RequestContext, name: str, version: str = LATEST) -> Stored[Version]:
        """One version by its number or $LATEST."""
        found = await self.registry.find(Version, context.account, name, version)
        if found is None:
            raise not_found(context, name, "" if version == LATEST else version)
        return found

    async def resolve(self, context: RequestContext, name: str, qualifier: str | None) -> Stored[Version]:
        """The version behind a qualifier: a number, $LATEST, an alias, or none."""
        if qualifier and qualifier != LATEST and not qualifier.isdigit():
            alias = await self.registry.find(Alias, context.account, name, qualifier)
            if alias is None:
                raise not_found(context, name, qualifier)
            return await self.version(context, name, alias.value.version)
        return await self.version(context, name, qualifier or LATEST)

    async def package(self, code: dict[str, Any]) -> bytes:
        """The zip that a request brings or names. Raises CallerError."""
        if code.get("ImageUri"):
            raise CallerError(
                "InvalidParameterValueException", "ImageUri is not served by Lambent: deploy a zip package."
            )
        data = code.get("ZipFile")
        bucket, key = code.get("S3Bucket"), code.get("S3Key")
        if data is not None and (bucket or key):
            raise CallerError(
                "InvalidParameterValueException",
                "Please do not provide other FunctionCode parameters when providing a ZipFile.",
            )
        if data is not None:
            return bytes(data)
        if not (bucket and key):
            raise CallerError("InvalidParameterValueException", "Please provide a source for function code.")
        if self.fetch_s3 is None:
            raise CallerError("InvalidParameterValueException", NO_S3)
        return await self.fetch_s3(bucket, key, code.get("S3ObjectVersion"))


def not_found(context: RequestContext, name: str, qualifier: str = "") -> CallerError:
    arn = f"arn:aws:lambda:{context.region}:{context.account}:function:{name}"
    if qualifier:
        arn += f":{qualifier}"
    return CallerError("ResourceNotFoundException", f"Function not found: {arn}", status=404)


def check_revision(wanted: str | None, actual: str, *, kind: str = "GetFunction/GetAlias") -> None:
    if wanted is not None and wanted != actual:
        raise CallerError(
            "PreconditionFailedException",
            f"The Revision Id provided does not match the latest Revision Id. Call the {kind} API to retrieve the "
            "latest Revision Id",
            status=412,
        )

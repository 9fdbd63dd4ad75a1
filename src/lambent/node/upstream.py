"""Code packages from S3: the account's own buckets first, then the server that the operator named."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
from urllib.parse import quote, urlencode, urlsplit

from lambent.awsapi.sigv4 import sign
from lambent.events.storage.storage import StorageService
from lambent.model import limits
from lambent.model.errors import CallerError
from lambent.node.config import S3

_TIMEOUT_S = 60


class UpstreamS3:
    """Implements the control plane's `FetchS3`."""

    def __init__(self, settings: S3) -> None:
        self._settings = settings

    async def __call__(self, _account: str, bucket: str, key: str, version: str | None) -> bytes:
        return await asyncio.to_thread(self._fetch, bucket, key, version)

    def _fetch(self, bucket: str, key: str, version: str | None) -> bytes:
        settings = self._settings
        parts = urlsplit(settings.endpoint_url)
        target = parts.path.rstrip("/") + quote(f"/{bucket}/{key}", safe="/-_.~")
        if version:
            target += "?" + urlencode({"versionId": version})
        headers = sign(
            method="GET",
            url=f"{parts.scheme}://{parts.netloc}{target}",
            headers={"x-amz-content-sha256": hashlib.sha256(b"").hexdigest()},
            body=b"",
            access_key=settings.access_key_id,
            secret=settings.secret_access_key,
            region=settings.region,
            service="s3",
        )
        connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = connect(parts.netloc, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", target, headers=headers)
            response = connection.getresponse()
            # One byte more than is allowed tells the package store that it is too large.
            body = response.read(limits.ZIPPED_CODE_BYTES + 1)
        except (OSError, http.client.HTTPException) as exc:
            raise _refused(f"S3 at {settings.endpoint_url} cannot be reached: {exc}") from exc
        finally:
            connection.close()
        if response.status != 200:
            text = body[:300].decode("utf-8", "replace")
            raise _refused(
                f"Error occurred while GetObject. S3 answered {response.status} for s3://{bucket}/{key}: {text}"
            )
        return body


class CodeBuckets:
    """Implements the control plane's `FetchS3`: own buckets first. `storage` is bound when the events plane is open."""

    def __init__(self, upstream: UpstreamS3 | None) -> None:
        self._upstream = upstream
        self.storage: StorageService | None = None

    async def __call__(self, account: str, bucket: str, key: str, version: str | None) -> bytes:
        if self.storage is not None and await self.storage.has_bucket(account, bucket):
            try:
                # One byte more than is allowed tells the package store that it is too large.
                return await self.storage.read_object(account, bucket, key, limits.UNZIPPED_CODE_BYTES + 1)
            except CallerError as exc:
                raise _refused(
                    f"Error occurred while GetObject. S3 Error Code: {exc.code}. S3 Error Message: {exc.message}"
                ) from exc
        if self._upstream is not None:
            return await self._upstream(account, bucket, key, version)
        raise _refused(
            f"Error occurred while GetObject. The account has no bucket '{bucket}', and no upstream S3 is configured. "
            "Create the bucket, send the package as ZipFile, or name an upstream in lambent.toml: [upstream.s3] "
            "endpoint_url, access_key_id, secret_access_key."
        )


def _refused(message: str) -> CallerError:
    return CallerError("InvalidParameterValueException", message)

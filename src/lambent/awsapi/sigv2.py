"""Presigned URLs in the manner of Signature Version 2: what boto3 makes for buckets unless it is told otherwise.

Source: S3 developer guide, "Signing and authenticating REST requests", query string request authentication. Nothing
else of that version is served, and for nothing but S3.
"""

from __future__ import annotations

import base64
import hmac
from urllib.parse import unquote_to_bytes

from lambent.awsapi.http import HttpRequest
from lambent.awsapi.sigv4 import FindSecret, Secret
from lambent.model.errors import CallerError

_SIGNED_PARAMETERS = frozenset(
    b"accelerate acl analytics cors delete encryption inventory lifecycle location logging metrics notification "
    b"object-lock partNumber policy replication requestPayment response-cache-control response-content-disposition "
    b"response-content-encoding response-content-language response-content-type response-expires restore select "
    b"select-type storageClass tagging torrent uploadId uploads versionId versioning versions website".split()
)


def is_presigned(request: HttpRequest) -> bool:
    return b"AWSAccessKeyId=" in request.query_string and b"Signature=" in request.query_string


def verify_presigned(request: HttpRequest, path: bytes, find_secret: FindSecret, now: float) -> tuple[str, Secret]:
    """Whose key it was signed with. `path` begins with the bucket, wherever that stood. Raises CallerError."""
    pairs = [part.partition(b"=") for part in request.query_string.split(b"&") if part]
    values = {name: unquote_to_bytes(value) for name, _, value in pairs}
    key = values.get(b"AWSAccessKeyId", b"").decode("latin-1")
    expires = values.get(b"Expires", b"")
    if not expires.isdigit() or len(expires) > 12:
        raise CallerError("AccessDenied", "Invalid date (should be seconds since epoch).", status=403)
    if int(expires) < now:
        raise CallerError("AccessDenied", "Request has expired", status=403)
    amz = {name.lower(): value for name, value in values.items() if name.lower().startswith(b"x-amz-")}
    amz |= {name: value for name, value in request.headers if name.startswith(b"x-amz-")}
    secret = find_secret(key, amz.get(b"x-amz-security-token", b"").decode("latin-1"))
    if secret is None:
        raise CallerError(
            "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", status=403
        )
    signed = [
        request.method.encode(),
        request.fields.get(b"content-md5", values.get(b"content-md5", b"")),
        request.fields.get(b"content-type", values.get(b"content-type", b"")),
        expires,
        *(name + b":" + b" ".join(amz[name].split()) for name in sorted(amz)),
        path + _join_parameters(pairs),
    ]
    expected = hmac.digest(secret.secret.encode(), b"\n".join(signed), "sha1")
    if not hmac.compare_digest(base64.b64encode(expected), values.get(b"Signature", b"")):
        raise CallerError(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your key and signing "
            "method.",
            status=403,
        )
    return key, secret


def _join_parameters(pairs: list[tuple[bytes, bytes, bytes]]) -> bytes:
    found = sorted(pair for pair in pairs if pair[0] in _SIGNED_PARAMETERS)
    joined = b"&".join(name + equals + unquote_to_bytes(value) for name, equals, value in found)
    return b"?" + joined if joined else b""

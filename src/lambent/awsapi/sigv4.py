"""AWS Signature Version 4: checking requests and signing our own.

Source: IAM user guide, "Create a signed AWS API request". On the path of every invocation, so what recurs is cached:
derived keys, parsed credential scopes, canonical paths and queries. The body is always part of what `verify` checks:
`UNSIGNED-PAYLOAD` and streaming payloads are an agreement of S3, for whose requests alone `verify_streamed` is.
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import time
from collections.abc import Callable, Collection, Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache, wraps
from typing import NamedTuple, TypeVar
from urllib.parse import quote, unquote_to_bytes, urlsplit

from lambent.awsapi.http import HttpRequest
from lambent.model.errors import CallerError

SKEW_S = 300
MAX_PRESIGNED_S = 604_800
_ALGORITHM = "AWS4-HMAC-SHA256"
_EMPTY_HASH = hashlib.sha256(b"").hexdigest()
_SAFE = "-_.~"
_LONGEST_CACHED = 512
_LONGEST_SCOPE_PART = 64
_UNSIGNED_AMZ = frozenset({b"x-amz-date", b"x-amz-content-sha256", b"x-amz-user-agent", b"x-amz-cf-id"})
"""May come unsigned: the first two are checked otherwise; SDKs and proxies add the others, and nothing reads them."""

_Text = TypeVar("_Text", str, bytes)
_Value = TypeVar("_Value")


def _cache_short(compute: Callable[[_Text], _Value]) -> Callable[[_Text], _Value]:
    """Remember results for short arguments only: whoever may send a request chooses them before anything is checked."""
    remembered = lru_cache(maxsize=1024)(compute)

    @wraps(compute)
    def find(text: _Text) -> _Value:
        return remembered(text) if len(text) <= _LONGEST_CACHED else compute(text)

    return find


class Secret(NamedTuple):
    secret: str
    account: str
    session_token: str = ""
    """What a temporary key must be sent with; empty for a lasting key, which must come without."""
    principal: str = ""
    """The ARN of whom a temporary key was given to; empty for the account itself."""


FindSecret = Callable[[str, str], Secret | None]
"""(access key, session token)"""


class Identity(NamedTuple):
    access_key: str
    account: str
    region: str
    service: str
    principal: str = ""


UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"


class StreamedIdentity(NamedTuple):
    """Who signed a request of S3, and what its body has to keep while it is read."""

    identity: Identity
    payload: str
    """The SHA-256 of the body in hex, UNSIGNED_PAYLOAD, or the form in which its chunks are signed: STREAMING-..."""
    chunks: ChunkSignatures


class ChunkSignatures:
    """Signatures of the chunks of one body, each of which signs the one before (S3 API reference, "Signature
    calculations for the authorization header: transferring payload in multiple chunks")."""

    def __init__(self, key: bytes, stamp: str, scope: str, seed: str) -> None:
        self._key = key
        self._stamp = stamp
        self._scope = scope
        self._last = seed

    def check_chunk(self, digest: str, signature: str) -> None:
        """`digest` is the SHA-256 of the chunk's bytes in hex. Raises CallerError."""
        self._check("AWS4-HMAC-SHA256-PAYLOAD", f"{_EMPTY_HASH}\n{digest}", signature)

    def check_trailer(self, lines: bytes, signature: str) -> None:
        """`lines` as `name:value\\n`, each. Raises CallerError."""
        self._check("AWS4-HMAC-SHA256-TRAILER", hashlib.sha256(lines).hexdigest(), signature)

    def _check(self, algorithm: str, signed: str, signature: str) -> None:
        to_sign = f"{algorithm}\n{self._stamp}\n{self._scope}\n{self._last}\n{signed}"
        expected = hmac.digest(self._key, to_sign.encode(), "sha256").hex()
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise _invalid("The signature of a chunk does not match what was sent.")
        self._last = expected


class _Claim(NamedTuple):
    """What a signature says of itself."""

    access_key: str
    day: str
    region: str
    service: str
    signed: tuple[bytes, ...]
    signed_text: str


class Verifier:
    """Checks requests against the secrets that `find_secret` knows, by access key and session token, for the services
    that are served here.

    `now` gives seconds since 1970.
    """

    def __init__(
        self,
        find_secret: FindSecret,
        *,
        services: Collection[str] = ("lambda",),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._find_secret = find_secret
        self._services = services
        self._now = now

    def verify(self, request: HttpRequest) -> Identity:
        """Who signed. Raises CallerError with the contract's codes."""
        payload = hashlib.sha256(request.body).hexdigest() if request.body else _EMPTY_HASH
        return self._verify(request, payload).identity

    def verify_streamed(self, request: HttpRequest) -> StreamedIdentity:
        """As `verify`, for requests of S3 alone and before their body is read."""
        return self._verify(request, None)

    def _verify(self, request: HttpRequest, payload: str | None) -> StreamedIdentity:
        """`payload` is the hash of the body; None when it is still to come."""
        headers: dict[bytes, bytes] = {}
        for name, value in request.headers:
            headers[name] = headers[name] + b"," + value if name in headers else value
        authorization = headers.get(b"authorization")
        if authorization is not None:
            return self._verify_header(request, headers, authorization.decode("latin-1"), payload)
        if b"X-Amz-Signature=" in request.query_string:
            return self._verify_query(request, headers, payload)
        raise CallerError("MissingAuthenticationTokenException", "Missing Authentication Token", status=403)

    def _verify_header(
        self, request: HttpRequest, headers: dict[bytes, bytes], authorization: str, actual: str | None
    ) -> StreamedIdentity:
        claimed, separator, signature = authorization.rpartition("Signature=")
        if not separator:
            raise _incomplete("Authorization header requires 'Signature' parameter.")
        signature, comma, rest = signature.partition(",")
        claim = _parse_authorization(claimed + rest if comma else claimed)
        stamp = _find_stamp(headers)
        self._check_clock(stamp, claim.day)
        stated = headers.get(b"x-amz-content-sha256")
        if actual is None:
            payload = _find_stated(claim, stated)
        else:
            payload = actual
            if stated is not None and stated.decode("latin-1") != actual:
                raise _invalid("The value of x-amz-content-sha256 is not the SHA-256 of the request's body.")
        query = _canonical_query(request.query_string) if request.query_string else ""
        return self._compare(
            request,
            headers,
            claim,
            stamp=stamp,
            query=query,
            payload_hash=payload,
            signature=signature.strip(),
            token=headers.get(b"x-amz-security-token", b""),
        )

    def _verify_query(self, request: HttpRequest, headers: dict[bytes, bytes], actual: str | None) -> StreamedIdentity:
        pairs = _split_query(request.query_string)
        given = {_show(name): _show(value) for name, value in pairs if name.startswith(b"X-Amz-")}
        missing = [
            name
            for name in ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders")
            if name not in given
        ]
        if missing:
            raise _incomplete(f"AWS query-string parameters must include {', '.join(missing)}.")
        if given["X-Amz-Algorithm"] != _ALGORITHM:
            raise _incomplete(f"Unsupported AWS 'algorithm': '{given['X-Amz-Algorithm']}'.")
        claim = _parse_claim(given["X-Amz-Credential"], given["X-Amz-SignedHeaders"])
        self._check_expiry(given["X-Amz-Date"], given["X-Amz-Expires"], claim.day)
        query = _join_query([(name, value) for name, value in pairs if name != b"X-Amz-Signature"])
        payload = actual
        if payload is None:
            stated = headers.get(b"x-amz-content-sha256", given.get("X-Amz-Content-Sha256", UNSIGNED_PAYLOAD).encode())
            payload = _find_stated(claim, stated)
        return self._compare(
            request,
            headers,
            claim,
            stamp=given["X-Amz-Date"],
            query=query,
            payload_hash=payload,
            signature=given.get("X-Amz-Signature", ""),
            token=given.get("X-Amz-Security-Token", "").encode(),
        )

    def _compare(
        self,
        request: HttpRequest,
        headers: dict[bytes, bytes],
        claim: _Claim,
        *,
        stamp: str,
        query: str,
        payload_hash: str,
        signature: str,
        token: bytes,
    ) -> StreamedIdentity:
        if claim.service not in self._services:
            served = ", ".join(f"'{name}'" for name in self._services)
            raise _invalid(f"Credential should be scoped to correct service: {served}.")
        secret = self._find_secret(claim.access_key, token.decode("latin-1"))
        if secret is None or not hmac.compare_digest(token, secret.session_token.encode()):
            raise CallerError(
                "UnrecognizedClientException", "The security token included in the request is invalid.", status=403
            )
        _check_all_signed(headers, claim)
        lines = []
        for name in claim.signed:
            value = headers.get(name)
            if value is None:
                raise _invalid(f"The signed header '{_show(name)}' is not in the request.")
            lines.append(name + b":" + b" ".join(value.split()))
        canonical = (
            f"{request.method}\n{_canonical_path(request.raw_path, claim.service)}\n{query}\n".encode()
            + b"\n".join(lines)
            + f"\n\n{claim.signed_text}\n{payload_hash}".encode()
        )
        scope = f"{claim.day}/{claim.region}/{claim.service}/aws4_request"
        to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical).hexdigest()}"
        key = _derive(secret.secret, claim.day, claim.region, claim.service)
        expected = hmac.digest(key, to_sign.encode(), "sha256").hex()
        # As bytes: a str that is not ASCII would not be compared but raise.
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise _invalid(
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
                "Access Key and signing method. Consult the service documentation for details."
            )
        identity = Identity(claim.access_key, secret.account, claim.region, claim.service, secret.principal)
        return StreamedIdentity(identity, payload_hash, ChunkSignatures(key, stamp, scope, expected))

    def _check_clock(self, stamp: str, day: str) -> None:
        at, now = _parse_stamp(stamp), self._now()
        if stamp[:8] != day:
            raise _invalid(f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date: {stamp}")
        if at < now - SKEW_S:
            raise _invalid(
                f"Signature expired: {stamp} is now earlier than {_stamp(now - SKEW_S)} ({_stamp(now)} - 5 min.)"
            )
        if at > now + SKEW_S:
            raise _invalid(
                f"Signature not yet current: {stamp} is still later than {_stamp(now + SKEW_S)} "
                f"({_stamp(now)} + 5 min.)"
            )

    def _check_expiry(self, stamp: str, expires: str, day: str) -> None:
        at, now = _parse_stamp(stamp), self._now()
        if stamp[:8] != day:
            raise _invalid(f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date: {stamp}")
        if not (expires.isascii() and expires.isdigit() and len(expires) <= 6 and 1 <= int(expires) <= MAX_PRESIGNED_S):
            raise _incomplete(f"X-Amz-Expires must be between 1 and {MAX_PRESIGNED_S} seconds.")
        if at > now + SKEW_S or now > at + int(expires):
            raise _invalid(f"Signature expired: {stamp} with X-Amz-Expires={expires} is over at {_stamp(now)}")


def sign(
    *,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    access_key: str,
    secret: str,
    region: str,
    service: str = "lambda",
    session_token: str = "",
    payload_hash: str = "",
    at: float | None = None,
) -> dict[str, str]:
    """The headers of a signed request: those given, `host`, `x-amz-date`, `authorization`, and the token if any.

    `payload_hash` replaces that of the body, where the body is not signed.
    """
    parts = urlsplit(url)
    stamp = _stamp(time.time() if at is None else at)
    signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    signed |= {"host": parts.netloc, "x-amz-date": stamp}
    if session_token:
        signed["x-amz-security-token"] = session_token
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    path = _canonical_path((parts.path or "/").encode(), service)
    query = _canonical_query(parts.query.encode())
    hashed = payload_hash or hashlib.sha256(body).hexdigest()
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{hashed}"
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    signature = _sign_text(canonical, stamp, scope, _derive(secret, stamp[:8], region, service))
    credential = f"Credential={access_key}/{scope}"
    return {**signed, "authorization": f"{_ALGORITHM} {credential}, SignedHeaders={names}, Signature={signature}"}


def presign(
    *,
    url: str,
    access_key: str,
    secret: str,
    region: str,
    service: str = "lambda",
    expires_s: int,
    session_token: str = "",
    at: float | None = None,
) -> str:
    """A GET URL that carries its own signature."""
    parts = urlsplit(url)
    stamp = _stamp(time.time() if at is None else at)
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    added = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{access_key}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires_s),
        "X-Amz-SignedHeaders": "host",
    }
    if session_token:
        added["X-Amz-Security-Token"] = session_token
    pairs = _split_query(parts.query.encode())
    query = _join_query(pairs + [(name.encode(), value.encode()) for name, value in added.items()])
    path = _canonical_path(parts.path.encode(), service)
    canonical = f"GET\n{path}\n{query}\nhost:{parts.netloc}\n\nhost\n{_EMPTY_HASH}"
    signature = _sign_text(canonical, stamp, scope, _derive(secret, stamp[:8], region, service))
    return f"{parts.scheme}://{parts.netloc}{parts.path}?{query}&X-Amz-Signature={signature}"


def _sign_text(canonical: str, stamp: str, scope: str, key: bytes) -> str:
    to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


@_cache_short
def _parse_authorization(claimed: str) -> _Claim:
    algorithm, _, rest = claimed.partition(" ")
    if algorithm != _ALGORITHM:
        raise _incomplete(f"Unsupported AWS 'algorithm': '{algorithm}'.")
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(",") if part.strip())
    for name in ("Credential", "SignedHeaders"):
        if name not in fields:
            raise _incomplete(f"Authorization header requires '{name}' parameter.")
    return _parse_claim(fields["Credential"], fields["SignedHeaders"])


def _find_stated(claim: _Claim, stated: bytes | None) -> str:
    """What a request says of a body that is still to come. Only S3 may."""
    if claim.service != "s3":
        raise _invalid("Credential should be scoped to correct service: 's3'.")
    if stated is None:
        raise CallerError("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    return stated.decode("latin-1")


def _parse_claim(credential: str, signed_headers: str) -> _Claim:
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or parts[4] != "aws4_request":
        raise _incomplete("Credential must have the form KEY/YYYYMMDD/REGION/SERVICE/aws4_request.")
    if any(len(part) > _LONGEST_SCOPE_PART for part in parts[1:]):
        raise _incomplete("The credential scope is longer than any date, region or service.")
    names = tuple(name.encode() for name in signed_headers.lower().split(";") if name)
    if b"host" not in names:
        raise _invalid("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    return _Claim(parts[0], parts[1], parts[2], parts[3], names, signed_headers.lower())


@lru_cache(maxsize=1024)
def _derive(secret: str, day: str, region: str, service: str) -> bytes:
    key = ("AWS4" + secret).encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _canonical_path(raw_path: bytes, service: str) -> str:
    if service == "s3":
        return raw_path.decode("latin-1") or "/"
    return _normalize_path(raw_path)


@_cache_short
def _normalize_path(raw_path: bytes) -> str:
    segments: list[bytes] = []
    for segment in raw_path.split(b"/"):
        if segment == b"..":
            segments = segments[:-1]
        elif segment not in (b"", b"."):
            segments.append(segment)
    normal = b"/" + b"/".join(segments)
    if raw_path.endswith(b"/") and segments:
        normal += b"/"
    # Encoded once more: the path on the wire is already encoded.
    return quote(normal, safe="/" + _SAFE)


def _split_query(query: bytes) -> list[tuple[bytes, bytes]]:
    # A plus is a blank here since it is one to whoever parses the parameters: what is signed must be what is read.
    # Bytes, not text: two different invalid sequences would decode to the same replacement character.
    pairs = (part.partition(b"=") for part in query.replace(b"+", b" ").split(b"&") if part)
    return [(unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in pairs]


def _join_query(pairs: list[tuple[bytes, bytes]]) -> str:
    encoded = sorted((quote(name, safe=_SAFE), quote(value, safe=_SAFE)) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


@_cache_short
def _canonical_query(query: bytes) -> str:
    return _join_query(_split_query(query))


def _check_all_signed(headers: Mapping[bytes, bytes], claim: _Claim) -> None:
    """An unsigned `x-amz-` header could have been added by anyone on the way, and these change what is done."""
    for name in headers:
        if name.startswith(b"x-amz-") and name not in claim.signed and name not in _UNSIGNED_AMZ:
            raise _invalid(f"There were headers present in the request which were not signed: {_show(name)}")


def _find_stamp(headers: Mapping[bytes, bytes]) -> str:
    stamp = headers.get(b"x-amz-date")
    if stamp is not None:
        return _show(stamp)
    date = _show(headers.get(b"date", b""))
    if not date:
        raise _incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    if "," not in date:
        return date
    try:
        return _stamp(parsedate_to_datetime(date).timestamp())
    except ValueError:
        raise _incomplete(f"The 'Date' header is not a date: '{date}'.") from None


def _show(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


@_cache_short
def _parse_stamp(stamp: str) -> float:
    try:
        return calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise _incomplete(f"Date must be in ISO-8601 'basic format'. Got '{stamp}'.") from None


def _stamp(at: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))


def _incomplete(message: str) -> CallerError:
    return CallerError("IncompleteSignatureException", message, status=400)


def _invalid(message: str) -> CallerError:
    return CallerError("InvalidSignatureException", message, status=403)

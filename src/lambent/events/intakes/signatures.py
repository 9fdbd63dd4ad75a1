"""Is it really they? One function for each way in which senders of webhooks sign.

Every comparison takes the same time wherever the difference is. A sender whose signature covers a time is refused when
that is more than five minutes off, so that what was overheard cannot be sent again later.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable

from lambent.awsapi.http import HttpRequest
from lambent.events.intakes.hooks import Custom, Hook
from lambent.model.errors import CallerError

TOLERANCE_S = 300

Verify = Callable[[Hook, HttpRequest, float], None]
"""(hook, request, seconds since 1970). Raises CallerError `InvalidSignatureException` (401)."""


def verify_github(hook: Hook, request: HttpRequest, _now: float) -> None:
    """GitHub docs, "Validating webhook deliveries". Gitea sends the same header."""
    _compare(_hmac(hook.secret.encode(), request.body), _header(request, b"x-hub-signature-256"), prefix="sha256=")


def verify_gitlab(hook: Hook, request: HttpRequest, now: float) -> None:
    """GitLab docs, "Webhooks": the signing token (Standard Webhooks) where it is sent, else the secret token."""
    if request.header(b"webhook-signature") is not None:
        verify_standard(hook, request, now)
    elif not hmac.compare_digest(hook.secret.encode(), _header(request, b"x-gitlab-token").encode()):
        raise _refused("X-Gitlab-Token is not the hook's secret.")


def verify_lambent(hook: Hook, request: HttpRequest, now: float) -> None:
    """Of the `post-receive` script that `lambent hooks script` prints: HMAC over TIME.BODY."""
    stamp = _check_time(_header(request, b"x-lambent-time"), now)
    signed = stamp.encode() + b"." + request.body
    _compare(_hmac(hook.secret.encode(), signed), _header(request, b"x-lambent-signature"), prefix="sha256=")


def verify_standard(hook: Hook, request: HttpRequest, now: float) -> None:
    """Standard Webhooks 1.0 (standardwebhooks.com): `v1,BASE64`, several of them while a secret is being changed."""
    identity, stamp = _header(request, b"webhook-id"), _header(request, b"webhook-timestamp")
    _check_time(stamp, now)
    signed = f"{identity}.{stamp}.".encode() + request.body
    expected = base64.b64encode(hmac.digest(_standard_key(hook.secret), signed, "sha256")).decode()
    given = [part[3:] for part in _header(request, b"webhook-signature").split() if part.startswith("v1,")]
    if not any(_equal(expected, signature) for signature in given):
        raise _refused("None of the signatures in webhook-signature is the hook's.")


def verify_stripe(hook: Hook, request: HttpRequest, now: float) -> None:
    """Stripe docs, "Verify webhook signatures manually"."""
    fields = [part.strip().partition("=")[::2] for part in _header(request, b"stripe-signature").split(",")]
    stamp = _check_time(next((value for name, value in fields if name == "t"), ""), now)
    expected = _hmac(hook.secret.encode(), stamp.encode() + b"." + request.body).hex()
    if not any(_equal(expected, value) for name, value in fields if name == "v1"):
        raise _refused("None of the v1 signatures in Stripe-Signature is the hook's.")


def verify_slack(hook: Hook, request: HttpRequest, now: float) -> None:
    """Slack docs, "Verifying requests from Slack"."""
    stamp = _check_time(_header(request, b"x-slack-request-timestamp"), now)
    signed = f"v0:{stamp}:".encode() + request.body
    _compare(_hmac(hook.secret.encode(), signed), _header(request, b"x-slack-signature"), prefix="v0=")


def verify_custom(hook: Hook, request: HttpRequest, _now: float) -> None:
    custom = hook.custom or Custom()
    digest = _hmac(hook.secret.encode(), request.body, custom.algorithm)
    given = _header(request, custom.header.lower().encode())
    _compare(digest, given, prefix=custom.prefix, encoding=custom.encoding)


def verify_bearer(hook: Hook, request: HttpRequest, _now: float) -> None:
    """RFC 6750; with or without the word `Bearer`, which MinIO leaves to its configuration."""
    given = _header(request, b"authorization")
    scheme, _, token = given.partition(" ")
    if not _equal(hook.secret, token.strip() if scheme.lower() == "bearer" else given):
        raise _refused("The token in the Authorization header is not the hook's.")


def check_custom(custom: Custom) -> None:
    """Raises CallerError for a description that no request could satisfy."""
    if custom.algorithm not in ("sha1", "sha256", "sha512"):
        raise _unfit(f"custom.algorithm '{custom.algorithm}' must be sha1, sha256 or sha512")
    if custom.encoding not in ("hex", "base64"):
        raise _unfit(f"custom.encoding '{custom.encoding}' must be hex or base64")
    if not custom.header.isascii() or not custom.header.strip():
        raise _unfit("custom.header must name a header")


def _hmac(key: bytes, signed: bytes, algorithm: str = "sha256") -> bytes:
    return hmac.digest(key, signed, algorithm)


def _compare(digest: bytes, given: str, *, prefix: str = "", encoding: str = "hex") -> None:
    expected = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    stated = given.strip()
    if encoding == "hex":
        stated = stated.lower()
    if not _equal(prefix + expected, stated):
        raise _refused("The signature of the request is not the hook's.")


def _equal(expected: str, given: str) -> bool:
    # Digests of equal length: not even the length of a token is told by the time.
    return hmac.compare_digest(hashlib.sha256(expected.encode()).digest(), hashlib.sha256(given.encode()).digest())


def _header(request: HttpRequest, name: bytes) -> str:
    value = request.header(name)
    if value is None:
        raise _refused(f"The request has no {name.decode()} header.")
    return value


def _check_time(stamp: str, now: float) -> str:
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise _refused("The signature has no time.")
    if abs(int(stamp) - now) > TOLERANCE_S:
        raise _refused("The signature was made more than five minutes ago, or the clocks differ by as much.")
    return stamp


def _standard_key(secret: str) -> bytes:
    """`whsec_BASE64`, as the specification has it; any other text is the key itself."""
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            pass
    return secret.encode()


def _refused(message: str) -> CallerError:
    return CallerError("InvalidSignatureException", message, status=401)


def _unfit(message: str) -> CallerError:
    return CallerError("ValidationException", message)

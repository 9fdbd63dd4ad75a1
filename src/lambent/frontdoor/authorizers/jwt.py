"""JWT authorizers (API Gateway developer guide, "Control access to HTTP APIs with JWT authorizers").

The issuer's keys come from its discovery document. They are fetched once, again when a token names a key that is not
among them (but not more often than every few seconds), and are kept for some minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import jwt
import msgspec

from lambent.frontdoor.authorizers.decision import Allowed, Forbidden, Unauthorized

Fetch = Callable[[str], Awaitable[bytes]]
"""A URL to its document. Raises OSError when there is none."""

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Asymmetric ones alone: with any other the public key would be a secret that everybody knows."""
KEPT_S = 3_600.0
ASK_AGAIN_S = 10.0
LEEWAY_S = 60
_DISCOVERY = "/.well-known/openid-configuration"


class IssuerKeys:
    """The public keys of issuers."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._issuers: dict[str, _Issuer] = {}

    async def find(self, issuer: str, key_id: str) -> jwt.PyJWK | None:
        known = self._issuers.get(issuer)
        if known is None:
            known = self._issuers[issuer] = _Issuer(issuer, self._fetch, self._clock)
        return await known.find(key_id)


class _Issuer:
    def __init__(self, url: str, fetch: Fetch, clock: Callable[[], float]) -> None:
        self._url = url.rstrip("/")
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_at = float("-inf")
        self._lock = asyncio.Lock()

    async def find(self, key_id: str) -> jwt.PyJWK | None:
        """None when the issuer has no such key, or cannot be asked."""
        age_s = self._clock() - self._asked_at
        if key_id in self._keys and age_s < KEPT_S:
            return self._keys[key_id]
        async with self._lock:
            # Whoever waited finds what the first has fetched.
            age_s = self._clock() - self._asked_at
            if age_s >= KEPT_S or (key_id not in self._keys and age_s >= ASK_AGAIN_S):
                await self._ask()
        return self._keys.get(key_id)

    async def _ask(self) -> None:
        self._asked_at = self._clock()
        try:
            discovered = msgspec.json.decode(await self._fetch(self._url + _DISCOVERY))
            documents = msgspec.json.decode(await self._fetch(discovered["jwks_uri"]))
            keys = {}
            for document in documents["keys"]:
                if document.get("use", "sig") == "sig":
                    try:
                        keys[document.get("kid", "")] = jwt.PyJWK(document)
                    except jwt.PyJWTError:
                        continue
        except (OSError, ValueError, KeyError, TypeError):
            # The keys that are known stay good: an issuer that is away for a moment locks nobody out.
            return
        self._keys = keys


async def authorize(
    token: str, *, issuer: str, audiences: Sequence[str], scopes: Sequence[str], keys: IssuerKeys
) -> Allowed:
    """Raises Unauthorized, Forbidden for a good token without any of `scopes`."""
    if token[:7].lower() == "bearer ":
        token = token[7:].strip()
    try:
        head = jwt.get_unverified_header(token)
    except jwt.PyJWTError as exc:
        raise Unauthorized from exc
    if head.get("alg") not in ALGORITHMS:
        raise Unauthorized
    key = await keys.find(issuer, head.get("kid", ""))
    if key is None:
        raise Unauthorized
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[head["alg"]],
            issuer=issuer,
            leeway=LEEWAY_S,
            options={"require": ["exp"], "verify_aud": False},
        )
    except (jwt.PyJWTError, ValueError, TypeError) as exc:
        raise Unauthorized from exc
    _check_audience(claims, audiences)
    granted = _read_scopes(claims)
    if scopes and not set(scopes) & set(granted):
        raise Forbidden
    shown = {name: _show(value) for name, value in claims.items()}
    return Allowed(context={"jwt": {"claims": shown, "scopes": granted or None}})


def _check_audience(claims: Mapping[str, Any], audiences: Sequence[str]) -> None:
    """`aud` or, where there is none, `client_id`: one of those that the authorizer names."""
    if not audiences:
        return
    given = claims.get("aud", claims.get("client_id"))
    named = given if isinstance(given, list) else [given]
    if not set(audiences) & {name for name in named if isinstance(name, str)}:
        raise Unauthorized


def _read_scopes(claims: Mapping[str, Any]) -> list[str]:
    given = claims.get("scope", claims.get("scp", ""))
    if isinstance(given, list):
        return [str(scope) for scope in given]
    return str(given).split()


def _show(value: Any) -> str:
    """Claims are texts in the event; a list as the contract writes it: `[a b]`."""
    if isinstance(value, list):
        return "[" + " ".join(str(item) for item in value) + "]"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()

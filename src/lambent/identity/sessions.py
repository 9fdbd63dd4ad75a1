"""Temporary credentials: what a function is given to act for its account.

Nothing is kept of them. The token carries what it is good for under a MAC of the node's key, and the secret is derived
from the token, so that every process of a node knows every key that any of them gave out.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from lambent.substrate.ports import Conflict, Documents, Write

LIFETIME_S = 12 * 3600
_COLLECTION, _KEY = "identity", "session_key"
_KEY_BYTES = 32
_MAC_BYTES = 32
_PREFIX = "LSIA"
_ID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


class _Grant(msgspec.Struct, frozen=True, array_like=True):
    access_key_id: str
    account: str
    principal: str
    expires_at: float


class Session(NamedTuple):
    access_key_id: str
    secret: str
    token: str
    account: str
    principal: str
    """The ARN of whom it was given to: arn:aws:sts::ACCOUNT:assumed-role/ROLE/FUNCTION."""
    expires_at: float
    """Seconds since 1970."""


class Sessions:
    """`now` gives seconds since 1970."""

    def __init__(self, key: bytes, *, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._now = now

    @classmethod
    async def load(cls, documents: Documents) -> Sessions:
        """With the node's key, which the first start makes."""
        document = await documents.get(_COLLECTION, _KEY)
        while document is None:
            try:
                key = secrets.token_bytes(_KEY_BYTES)
                await documents.commit([Write(collection=_COLLECTION, key=_KEY, value=key, expect=0)])
            except Conflict:
                pass
            document = await documents.get(_COLLECTION, _KEY)
        return cls(document.value)

    def issue(self, account: str, principal: str, *, lifetime_s: float = LIFETIME_S) -> Session:
        access_key_id = _PREFIX + "".join(secrets.choice(_ID_ALPHABET) for _ in range(16))
        grant = _Grant(access_key_id, account, principal, self._now() + lifetime_s)
        body = msgspec.msgpack.encode(grant)
        token = base64.b64encode(self._mac(b"token", body) + body).decode()
        return self._open(grant, body, token)

    def find(self, access_key_id: str, token: str) -> Session | None:
        """The session that a token is for; None for a token that is not ours, is another key's or has run out."""
        try:
            data = base64.b64decode(token, validate=True)
        except (binascii.Error, ValueError):
            return None
        mac, body = data[:_MAC_BYTES], data[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(b"token", body)):
            return None
        grant = msgspec.msgpack.decode(body, type=_Grant)
        if grant.access_key_id != access_key_id or grant.expires_at <= self._now():
            return None
        return self._open(grant, body, token)

    def _open(self, grant: _Grant, body: bytes, token: str) -> Session:
        secret = base64.b64encode(self._mac(b"secret", body)[:30]).decode()
        return Session(grant.access_key_id, secret, token, grant.account, grant.principal, grant.expires_at)

    def _mac(self, purpose: bytes, body: bytes) -> bytes:
        return hmac.digest(self._key, purpose + b"\0" + body, "sha256")

"""Accounts and their access keys: who may call, and which secret their signatures are made with."""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import os
import secrets
import string
from pathlib import Path

import msgspec

from lambent.substrate.ports import Change, Documents, Write

_KEY_ALPHABET = string.ascii_uppercase + "234567"
_SECRET_ALPHABET = string.ascii_letters + string.digits + "+/"


class Account(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    """Twelve digits, as in ARNs."""
    name: str


class AccessKey(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    secret: str
    account: str

    def __repr__(self) -> str:
        return f"AccessKey(id={self.id!r}, account={self.account!r})"


class Accounts:
    """All accounts and keys in memory, kept current by watching the documents."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._accounts: dict[str, Account] = {}
        self._keys: dict[str, AccessKey] = {}
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def load(cls, documents: Documents) -> Accounts:
        accounts = cls(documents)
        changes = documents.watch("accounts", "access_keys")
        for collection in ("accounts", "access_keys"):
            for document in await documents.list(collection):
                accounts._apply(Change(collection=collection, key=document.key, document=document))

        async def follow() -> None:
            async for change in changes:
                accounts._apply(change)

        accounts._task = asyncio.create_task(follow(), name="follow accounts")
        return accounts

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def accounts(self) -> list[Account]:
        return sorted(self._accounts.values(), key=lambda account: account.id)

    def find_key(self, access_key: str) -> AccessKey | None:
        return self._keys.get(access_key)

    def keys_of(self, account: str) -> list[AccessKey]:
        return sorted((key for key in self._keys.values() if key.account == account), key=lambda key: key.id)

    async def create_account(self, name: str) -> tuple[Account, AccessKey]:
        """An account with its first access key."""
        account = Account(id=str(secrets.randbelow(9 * 10**11) + 10**11), name=name)
        key = _new_key(account.id)
        await self._documents.commit(
            [
                Write(collection="accounts", key=account.id, value=msgspec.json.encode(account), expect=0),
                Write(collection="access_keys", key=key.id, value=msgspec.json.encode(key), expect=0),
            ]
        )
        self._accounts[account.id] = account
        self._keys[key.id] = key
        return account, key

    def _apply(self, change: Change) -> None:
        if change.collection == "accounts":
            self._accounts.pop(change.key, None)
            if change.document is not None:
                self._accounts[change.key] = msgspec.json.decode(change.document.value, type=Account)
            return
        self._keys.pop(change.key, None)
        if change.document is not None:
            self._keys[change.key] = msgspec.json.decode(change.document.value, type=AccessKey)


def _new_key(account: str) -> AccessKey:
    # Twenty characters, as tools that look for leaked keys expect of one.
    key_id = "LKIA" + "".join(secrets.choice(_KEY_ALPHABET) for _ in range(16))
    secret = "".join(secrets.choice(_SECRET_ALPHABET) for _ in range(40))
    return AccessKey(id=key_id, secret=secret, account=account)


def write_profile(path: Path, key: AccessKey, *, region: str, endpoint_url: str) -> None:
    """An AWS credentials file (mode 0600) with the profiles `default` and `lambent`, replaced atomically."""
    profile = configparser.ConfigParser()
    for name in ("default", "lambent"):
        profile[name] = {
            "aws_access_key_id": key.id,
            "aws_secret_access_key": key.secret,
            "region": region,
            "endpoint_url": endpoint_url,
        }
    making = path.with_name(path.name + ".new")
    making.unlink(missing_ok=True)
    fd = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        profile.write(file)
        file.flush()
        os.fsync(file.fileno())
    making.rename(path)

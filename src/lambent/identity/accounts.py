"""Accounts and the access keys that sign for them.

Collections of `substrate.Documents`, written only here:
  accounts      ID                -> Account
  access_keys   ACCESS_KEY_ID     -> AccessKey
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import string
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec

from lambent.model import limits
from lambent.model.errors import CallerError
from lambent.substrate.ports import Change, Conflict, Document, Documents, Write

_ACCOUNTS = "accounts"
_ACCESS_KEYS = "access_keys"
_ID_ALPHABET = string.ascii_uppercase + "234567"
_SECRET_ALPHABET = string.ascii_letters + string.digits
"""Letters and digits only: every tool, URL and shell takes them as they are."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    """12 digits."""
    name: str
    concurrency: int = limits.DEFAULT_ACCOUNT_CONCURRENCY
    """How many invocations of all its functions may run at once."""
    created_at: str
    """ISO 8601, UTC."""


class AccessKey(msgspec.Struct, frozen=True, kw_only=True):
    access_key_id: str
    secret: str
    account: str
    created_at: str

    def __repr__(self) -> str:
        """Without the secret, so that no log or traceback can show it."""
        return f"AccessKey(access_key_id={self.access_key_id!r}, account={self.account!r})"


class Accounts:
    """All accounts and keys in memory, kept current by a watch: lookups never wait.

    `following` is the task that does so; should it end before `stop`, the owner must stop the node.
    """

    def __init__(self, documents: Documents) -> None:
        """Empty until loaded; use `Accounts.load`."""
        self._documents = documents
        self._accounts: dict[str, Account] = {}
        self._keys: dict[str, AccessKey] = {}
        self.following: asyncio.Task[None] | None = None

    @classmethod
    async def load(cls, documents: Documents) -> Accounts:
        # The watch before the state: what is committed in between comes twice rather than not at all.
        changes = documents.watch(_ACCOUNTS, _ACCESS_KEYS)
        accounts = cls(documents)
        for collection in (_ACCOUNTS, _ACCESS_KEYS):
            for document in await documents.list(collection):
                accounts._take(collection, document.key, document)
        accounts.following = asyncio.create_task(accounts._follow(changes), name="follow accounts")
        return accounts

    async def stop(self) -> None:
        """Stop following; what is in memory stays."""
        if self.following is not None:
            self.following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.following

    def account(self, account_id: str) -> Account | None:
        return self._accounts.get(account_id)

    def accounts(self) -> list[Account]:
        """The oldest first."""
        return sorted(self._accounts.values(), key=lambda account: (account.created_at, account.id))

    def keys_of(self, account_id: str) -> list[AccessKey]:
        """The oldest first."""
        found = (key for key in self._keys.values() if key.account == account_id)
        return sorted(found, key=lambda key: (key.created_at, key.access_key_id))

    def find_key(self, access_key_id: str) -> AccessKey | None:
        """Asked with every signed request."""
        return self._keys.get(access_key_id)

    async def create_account(
        self, name: str, *, account_id: str | None = None, concurrency: int = limits.DEFAULT_ACCOUNT_CONCURRENCY
    ) -> tuple[Account, AccessKey]:
        """Make an account and its first key in one transaction, under a random id unless one is given.

        Raises CallerError: `InvalidParameterValueException`, `EntityAlreadyExistsException` (409) for a taken id.
        """
        _check_concurrency(concurrency)
        if account_id is not None and not (len(account_id) == 12 and account_id.isascii() and account_id.isdigit()):
            raise CallerError("InvalidParameterValueException", f"account_id must be 12 digits, not {account_id!r}.")
        account = Account(
            id=account_id if account_id is not None else _generate_account_id(),
            name=name,
            concurrency=concurrency,
            created_at=_now(),
        )
        key = _new_key(account.id)
        try:
            await self._documents.commit([_write_account(account, expect=0), _write_key(key)])
        except Conflict:
            if account_id is None:
                return await self.create_account(name, concurrency=concurrency)
            raise CallerError(
                "EntityAlreadyExistsException", f"There is an account {account_id} already.", status=409
            ) from None
        self._accounts[account.id] = account
        self._keys[key.access_key_id] = key
        return account, key

    async def create_access_key(self, account_id: str) -> AccessKey:
        """Make a further key that signs for the account. Raises CallerError `NoSuchEntityException` (404)."""
        if account_id not in self._accounts:
            raise _no_such_account(account_id)
        key = _new_key(account_id)
        await self._documents.commit([_write_key(key)])
        self._keys[key.access_key_id] = key
        return key

    async def set_concurrency(self, account_id: str, concurrency: int) -> Account:
        """Change the account's limit. Raises CallerError `NoSuchEntityException` (404)."""
        _check_concurrency(concurrency)
        while True:
            document = await self._documents.get(_ACCOUNTS, account_id)
            if document is None:
                raise _no_such_account(account_id)
            account = msgspec.structs.replace(_decode_account(document.value), concurrency=concurrency)
            try:
                await self._documents.commit([_write_account(account, expect=document.revision)])
            except Conflict:
                continue
            self._accounts[account_id] = account
            return account

    async def _follow(self, changes: AsyncIterator[Change]) -> None:
        async for change in changes:
            self._take(change.collection, change.key, change.document)

    def _take(self, collection: str, key: str, document: Document | None) -> None:
        if collection == _ACCOUNTS:
            if document is None:
                self._accounts.pop(key, None)
            else:
                self._accounts[key] = _decode_account(document.value)
        elif document is None:
            self._keys.pop(key, None)
        else:
            self._keys[key] = msgspec.json.decode(document.value, type=AccessKey)


def _write_account(account: Account, *, expect: int) -> Write:
    return Write(collection=_ACCOUNTS, key=account.id, value=msgspec.json.encode(account), expect=expect)


def _write_key(key: AccessKey) -> Write:
    return Write(collection=_ACCESS_KEYS, key=key.access_key_id, value=msgspec.json.encode(key), expect=0)


def _new_key(account_id: str) -> AccessKey:
    # 20 characters in AWS's alphabet: what tools take for an access key id, and what leak scanners look for.
    return AccessKey(
        access_key_id="LKIA" + _pick(_ID_ALPHABET, 16),
        secret=_pick(_SECRET_ALPHABET, 40),
        account=account_id,
        created_at=_now(),
    )


def _decode_account(value: bytes) -> Account:
    return msgspec.json.decode(value, type=Account)


def _check_concurrency(concurrency: int) -> None:
    if concurrency < 1:
        raise CallerError("InvalidParameterValueException", f"concurrency must be at least 1, not {concurrency}.")


def _no_such_account(account_id: str) -> CallerError:
    return CallerError("NoSuchEntityException", f"There is no account {account_id}.", status=404)


def _generate_account_id() -> str:
    # The first digit is never 0: spreadsheets and YAML drop leading zeros.
    return str(10**11 + secrets.randbelow(9 * 10**11))


def _pick(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

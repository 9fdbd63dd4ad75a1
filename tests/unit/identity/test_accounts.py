from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from lambent.identity.accounts import Accounts
from lambent.model.errors import CallerError
from lambent.substrate.memory import MemoryDocuments
from lambent.substrate.ports import Write


@pytest.fixture
async def documents() -> AsyncIterator[MemoryDocuments]:
    store = MemoryDocuments()
    yield store
    await store.close()


@pytest.fixture
async def accounts(documents: MemoryDocuments) -> AsyncIterator[Accounts]:
    loaded = await Accounts.load(documents)
    yield loaded
    await loaded.stop()


async def let_watchers_run() -> None:
    """A memory store has delivered its changes by the time `commit` returns; the follower needs its turn."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_new_account_has_twelve_digits_and_the_default_limit(accounts: Accounts) -> None:
    account, _ = await accounts.create_account("main")
    assert re.fullmatch(r"[1-9]\d{11}", account.id)
    assert account.concurrency == 1000
    assert accounts.account(account.id) == account
    assert accounts.accounts() == [account]


async def test_a_new_key_looks_like_an_access_key_and_signs_at_once(accounts: Accounts) -> None:
    account, key = await accounts.create_account("main")
    assert re.fullmatch(r"LKIA[A-Z2-7]{16}", key.access_key_id)
    assert re.fullmatch(r"[A-Za-z0-9]{40}", key.secret)
    assert accounts.find_key(key.access_key_id) == key
    assert accounts.keys_of(account.id) == [key]
    assert key.account == account.id
    further = await accounts.create_access_key(account.id)
    assert accounts.keys_of(account.id) == [key, further]
    assert accounts.keys_of("000000000000") == []


async def test_a_key_nobody_made_has_no_secret(accounts: Accounts) -> None:
    assert accounts.find_key("LKIA0000000000000000") is None


async def test_no_two_keys_are_alike(accounts: Accounts) -> None:
    account, _ = await accounts.create_account("main")
    keys = [await accounts.create_access_key(account.id) for _ in range(50)]
    assert len({key.access_key_id for key in keys}) == 50
    assert len({key.secret for key in keys}) == 50


async def test_the_secret_is_not_in_what_is_printed_of_a_key(accounts: Accounts) -> None:
    _, key = await accounts.create_account("main")
    assert key.secret not in f"{key!r} {key}"
    assert key.access_key_id in repr(key)


async def test_accounts_are_there_again_after_a_restart(accounts: Accounts, documents: MemoryDocuments) -> None:
    account, key = await accounts.create_account("main", concurrency=7)
    again = await Accounts.load(documents)
    assert again.accounts() == [account]
    assert again.find_key(key.access_key_id) == key
    await again.stop()


async def test_what_another_writer_makes_or_deletes_is_followed(accounts: Accounts, documents: MemoryDocuments) -> None:
    other = await Accounts.load(documents)
    account, key = await other.create_account("main")
    await let_watchers_run()
    assert accounts.find_key(key.access_key_id) == key
    await other.set_concurrency(account.id, 5)
    await let_watchers_run()
    assert accounts.accounts()[0].concurrency == 5
    await documents.commit(
        [
            Write(collection="access_keys", key=key.access_key_id, value=None),
            Write(collection="accounts", key=account.id, value=None),
        ]
    )
    await let_watchers_run()
    assert accounts.find_key(key.access_key_id) is None
    assert accounts.account(account.id) is None
    assert accounts.keys_of(account.id) == []
    await other.stop()


async def test_a_limit_can_be_changed_and_is_in_force_at_once(accounts: Accounts, documents: MemoryDocuments) -> None:
    account, _ = await accounts.create_account("main")
    assert (await accounts.set_concurrency(account.id, 3)).concurrency == 3
    assert accounts.accounts()[0].concurrency == 3
    again = await Accounts.load(documents)
    assert again.accounts()[0].concurrency == 3
    await again.stop()


async def test_limits_set_at_the_same_time_leave_one_of_them(accounts: Accounts) -> None:
    account, _ = await accounts.create_account("main")
    await asyncio.gather(*(accounts.set_concurrency(account.id, number) for number in range(1, 11)))
    await let_watchers_run()
    assert accounts.accounts()[0].concurrency in range(1, 11)
    assert accounts.accounts()[0].name == "main"


async def test_an_account_can_be_given_its_id(accounts: Accounts) -> None:
    account, _ = await accounts.create_account("ci", account_id="000000000000")
    assert account.id == "000000000000"
    with pytest.raises(CallerError, match="There is an account 000000000000 already") as caught:
        await accounts.create_account("again", account_id="000000000000")
    assert (caught.value.code, caught.value.status) == ("EntityAlreadyExistsException", 409)
    assert accounts.accounts() == [account]
    assert len(accounts.keys_of(account.id)) == 1


@pytest.mark.parametrize("account_id", ["", "12345678901", "12345678901a", "１２３４５６７８９０１２"])
async def test_an_id_that_is_not_twelve_digits_is_refused(accounts: Accounts, account_id: str) -> None:
    with pytest.raises(CallerError, match="must be 12 digits"):
        await accounts.create_account("main", account_id=account_id)


async def test_a_limit_below_one_is_refused(accounts: Accounts) -> None:
    account, _ = await accounts.create_account("main")
    with pytest.raises(CallerError, match="concurrency must be at least 1, not 0"):
        await accounts.set_concurrency(account.id, 0)
    with pytest.raises(CallerError, match="concurrency must be at least 1, not -1"):
        await accounts.create_account("other", concurrency=-1)


async def test_nothing_is_made_for_an_account_that_does_not_exist(accounts: Accounts) -> None:
    with pytest.raises(CallerError, match="There is no account 123456789012") as caught:
        await accounts.create_access_key("123456789012")
    assert caught.value.status == 404
    with pytest.raises(CallerError, match="There is no account"):
        await accounts.set_concurrency("123456789012", 5)


async def test_following_ends_with_the_store(accounts: Accounts, documents: MemoryDocuments) -> None:
    assert accounts.following is not None
    await documents.close()
    await asyncio.wait_for(accounts.following, 10)

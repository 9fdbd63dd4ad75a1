from __future__ import annotations

import base64

import pytest

from lambent.identity.sessions import LIFETIME_S, Sessions
from lambent.substrate.memory import MemoryDocuments

ACCOUNT, PRINCIPAL = "123456789012", "arn:aws:sts::123456789012:assumed-role/worker/hello"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_what_was_issued_is_found_by_key_and_token() -> None:
    documents = MemoryDocuments()
    sessions = await Sessions.load(documents)
    issued = sessions.issue(ACCOUNT, PRINCIPAL)
    assert sessions.find(issued.access_key_id, issued.token) == issued
    assert (issued.account, issued.principal, len(issued.secret)) == (ACCOUNT, PRINCIPAL, 40)


async def test_another_process_of_the_node_and_its_next_start_know_it_too() -> None:
    documents = MemoryDocuments()
    issued = (await Sessions.load(documents)).issue(ACCOUNT, PRINCIPAL)
    assert (await Sessions.load(documents)).find(issued.access_key_id, issued.token) == issued


async def test_another_node_does_not() -> None:
    issued = (await Sessions.load(MemoryDocuments())).issue(ACCOUNT, PRINCIPAL)
    assert (await Sessions.load(MemoryDocuments())).find(issued.access_key_id, issued.token) is None


def test_two_of_them_share_nothing() -> None:
    sessions = Sessions(b"k" * 32)
    first, second = sessions.issue(ACCOUNT, PRINCIPAL), sessions.issue(ACCOUNT, PRINCIPAL)
    assert first.access_key_id != second.access_key_id
    assert first.secret != second.secret
    assert sessions.find(first.access_key_id, second.token) is None


def test_they_run_out(clock: Clock) -> None:
    sessions = Sessions(b"k" * 32, now=clock)
    issued = sessions.issue(ACCOUNT, PRINCIPAL)
    clock.now += LIFETIME_S - 1
    assert sessions.find(issued.access_key_id, issued.token) is not None
    clock.now += 1
    assert sessions.find(issued.access_key_id, issued.token) is None


def test_a_token_that_was_changed_anywhere_is_none() -> None:
    sessions = Sessions(b"k" * 32)
    issued = sessions.issue(ACCOUNT, PRINCIPAL)
    data = base64.b64decode(issued.token)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert sessions.find(issued.access_key_id, base64.b64encode(changed).decode()) is None


@pytest.mark.parametrize("token", ["", "é", "AAAA", "not base64", "A" * 10_000])
def test_what_is_no_token_is_none(token: str) -> None:
    assert Sessions(b"k" * 32).find("LSIAAAAAAAAAAAAAAAAA", token) is None

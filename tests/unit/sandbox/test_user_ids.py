from __future__ import annotations

import os

import pytest

from lambent.dataplane.sandbox.launcher import FIRST_UID, LAST_UID, UserIds


def test_each_uid_is_given_once_and_a_freed_one_comes_last() -> None:
    uids = UserIds(first=10, last=14)
    taken = [uids.take() for _ in range(5)]
    assert sorted(taken) == [10, 11, 12, 13, 14]
    uids.give_back(taken[3])
    uids.give_back(taken[0])
    assert [uids.take(), uids.take()] == [taken[3], taken[0]]


def test_nodes_of_different_processes_begin_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    begins = []
    for pid in range(500, 520):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        begins.append(UserIds().take())
    distances = [abs(one - other) for one in begins for other in begins if one != other]
    assert min(distances) >= 1_000
    assert all(FIRST_UID <= uid <= LAST_UID for uid in begins)

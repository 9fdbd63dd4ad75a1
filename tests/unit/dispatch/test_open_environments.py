"""Environments that take several invocations at a time, and have room for more."""

from __future__ import annotations

import dataclasses

from lambent.dataplane.dispatch.open_environments import OpenEnvironments

KEY, OTHER = ("arn", "r1", ""), ("arn", "r2", "")


@dataclasses.dataclass(eq=False)
class Member:
    running: int
    concurrency: int = 3
    retire: bool = False


def open_all(*members: Member) -> OpenEnvironments[Member]:
    environments: OpenEnvironments[Member] = OpenEnvironments()
    for member in members:
        environments.note(KEY, member)
    return environments


def test_the_one_with_the_fewest_is_given_the_next() -> None:
    most, fewest = Member(2), Member(1)
    environments = open_all(most, fewest)
    assert environments.find(KEY) is fewest
    assert environments.find(OTHER) is None


def test_one_that_is_full_idle_or_retired_is_given_none() -> None:
    for member in (Member(3), Member(0), Member(1, retire=True)):
        assert open_all(member).find(KEY) is None


def test_one_that_fills_up_leaves_and_comes_back_when_there_is_room() -> None:
    member = Member(2)
    environments = open_all(member)
    member.running = 3
    environments.note(KEY, member)
    assert environments.find(KEY) is None
    member.running = 2
    environments.note(KEY, member)
    assert environments.find(KEY) is member


def test_one_that_ended_is_forgotten_under_every_key() -> None:
    member = Member(1)
    environments = open_all(member)
    environments.note(OTHER, member)
    environments.forget(member)
    environments.forget(member)
    assert (environments.find(KEY), environments.find(OTHER)) == (None, None)

from __future__ import annotations

from collections import Counter

from lambent.members.membership import FixedMembership, choose_home

KEYS = [f"123456789012/function-{number}" for number in range(2_000)]


def test_every_member_names_the_same_home() -> None:
    members = ["0", "1", "2"]
    homes = [[FixedMembership(me, members).home_of(key) for key in KEYS] for me in members]
    assert homes[0] == homes[1] == homes[2]


def test_homes_are_spread_evenly() -> None:
    counted = Counter(choose_home(key, ["0", "1", "2", "3"]) for key in KEYS)
    assert min(counted.values()) > 400


def test_a_further_member_only_takes_keys_and_moves_none_between_others() -> None:
    moved = {
        (before, after)
        for key in KEYS
        if (before := choose_home(key, ["0", "1"])) != (after := choose_home(key, ["0", "1", "2"]))
    }
    assert {after for _, after in moved} == {"2"}


def test_the_first_member_is_the_owner_and_the_others_exclude_oneself() -> None:
    membership = FixedMembership("1", ["0", "1", "2"])
    assert (membership.me, membership.owner, membership.others) == ("1", "0", ["0", "2"])

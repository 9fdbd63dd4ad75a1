from __future__ import annotations

import os
from pathlib import Path

import pytest

from lambent.dataplane.sandbox.network import probe as probing
from lambent.dataplane.sandbox.network.maker import MakerDied, NamespaceRefused, make_once
from lambent.model.errors import PlatformError


@pytest.mark.parametrize("user", [False, True])
def test_the_probe_tries_both_kinds_and_leaves_nothing(user: bool) -> None:
    if not user and os.geteuid() != 0:
        pytest.skip("needs root")
    before = len(list(Path("/proc/self/fd").iterdir()))
    found = probing.probe(user=user)
    assert found.isolated
    assert found.outgoing, f"{found.reason}: {found.hint}"
    assert (found.reason, found.hint) == ("", "")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("failing", "failure", "isolated", "hint"),
    [
        ("none", NamespaceRefused("unshare_network", "unshare: Operation not permitted"), False, "user namespaces"),
        ("none", MakerDied(), False, "user namespaces"),
        ("verify", NamespaceRefused("redirect_ipv4", "nftables table: not supported"), True, "modprobe -a nf_tables"),
        ("verify", NamespaceRefused("listen_ipv4", "Address already in use"), True, "'none'"),
    ],
)
def test_what_is_missing_comes_with_its_mending(
    monkeypatch: pytest.MonkeyPatch, failing: str, failure: PlatformError, isolated: bool, hint: str
) -> None:
    def make(kind: str, *, user: bool) -> list[int]:
        if kind == failing:
            raise failure
        return []

    monkeypatch.setattr(probing, "make_once", make)
    found = probing.probe(user=True)
    assert (found.isolated, found.outgoing) == (isolated, False)
    assert str(failure) in found.reason
    assert hint in found.hint


def test_a_refusal_by_the_maker_names_the_step() -> None:
    with pytest.raises(NamespaceRefused, match="no kind of network bridge") as refused:
        make_once("bridge", user=os.geteuid() != 0)
    assert refused.value.step == "kind"

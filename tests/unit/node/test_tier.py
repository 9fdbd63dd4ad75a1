from __future__ import annotations

import logging

import pytest

from lambent.model.errors import OperatorError
from lambent.node import tier


def test_a_kernel_without_namespaces_is_refused_in_one_line_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tier, "try_namespaces", lambda *, with_user: "Operation not permitted")
    for isolation in ("auto", "namespace"):
        with pytest.raises(OperatorError) as refused:
            tier.choose_confinement(isolation)
        assert "\n" not in str(refused.value)
        assert "sysctl" in str(refused.value)
        assert "--isolation process" in str(refused.value)


def test_no_isolation_is_only_had_by_asking_and_said_loudly(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert tier.choose_confinement("process") == "process"
    assert "ISOLATION IS OFF" in caplog.text

"""Who a proxy says its client is."""

from __future__ import annotations

import pytest

from lambent.frontdoor.forwarded import TrustedProxies


@pytest.mark.parametrize(
    ("peer", "told", "client"),
    [
        ("192.0.2.9", "203.0.113.7", "192.0.2.9"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        # What stands before the last that is not trusted may be made up.
        ("10.0.0.1", "1.2.3.4, 203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "1.2.3.4,203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "203.0.113.7:5000", "203.0.113.7"),
        ("10.0.0.1", "[2001:db8::1]:5000", "2001:db8::1"),
        ("10.0.0.1", "203.0.113.7, unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7, <script>, 10.0.0.2", "10.0.0.2"),
        ("::1", "203.0.113.7", "203.0.113.7"),
        ("", "203.0.113.7", ""),
    ],
)
def test_the_last_address_that_is_no_trusted_proxys_is_the_clients(peer: str, told: str, client: str) -> None:
    proxies = TrustedProxies(["10.0.0.0/8", "::1"])
    assert proxies.read(peer, "http", {"x-forwarded-for": told})[0] == client


def test_the_scheme_is_believed_of_trusted_proxies_alone() -> None:
    proxies = TrustedProxies(["10.0.0.0/8"])
    assert proxies.read("10.0.0.1", "http", {"x-forwarded-proto": "https"})[1] == "https"
    assert proxies.read("10.0.0.1", "http", {"x-forwarded-proto": "http, https"})[1] == "https"
    assert proxies.read("10.0.0.1", "http", {"x-forwarded-proto": "gopher"})[1] == "http"
    assert proxies.read("192.0.2.9", "http", {"x-forwarded-proto": "https"})[1] == "http"
    assert TrustedProxies(()).read("10.0.0.1", "http", {"x-forwarded-proto": "https"})[1] == "http"


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="everybody"):
        TrustedProxies(["everybody"])

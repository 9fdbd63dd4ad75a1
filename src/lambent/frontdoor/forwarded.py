"""What a proxy before the node says of its clients, believed only of proxies that the operator named."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class TrustedProxies:
    def __init__(self, networks: Iterable[str]) -> None:
        """Addresses or CIDRs. Raises ValueError."""
        self._networks: list[Network] = [ipaddress.ip_network(text, strict=False) for text in networks]

    def read(self, peer: str, scheme: str, headers: Mapping[str, str]) -> tuple[str, str]:
        """The client's address and the scheme that it used; `headers` by lower-case names, several joined by commas.

        Of the addresses that were gathered on the way the last counts that is not a trusted proxy's: what stands
        before it the client may have written itself.
        """
        if not self._networks or not self._is_trusted(peer):
            return peer, scheme
        client = peer
        for hop in reversed(headers.get("x-forwarded-for", "").split(",")):
            address = _read_address(hop.strip())
            if address is None:
                break
            client = address
            if not self._is_trusted(address):
                break
        said = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
        return client, said if said in ("http", "https") else scheme

    def _is_trusted(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def _read_address(text: str) -> str | None:
    """Without a port, where there is one."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None

"""The HTTP client of the node, imported when it is first needed: most nodes never call a URL, and it takes 80 ms
and some megabytes to load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lambent.dataplane.sandbox.network.policy import EgressPolicy
from lambent.events.outgoing import Reply
from lambent.frontdoor.outgoing import Fetched

if TYPE_CHECKING:
    from lambent.node.outgoing import GuardedHttp


class LateHttp:
    """Implements `events.outgoing.Outgoing` and `frontdoor.outgoing.Outgoing`."""

    def __init__(self, policy: EgressPolicy, *, allow_loopback: bool) -> None:
        self._policy = policy
        self._allow_loopback = allow_loopback
        self._http: GuardedHttp | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float) -> Reply:
        return await self._open().post(url, headers, body, timeout_s=timeout_s)

    async def request(
        self, method: str, url: str, headers: list[tuple[str, str]], body: bytes, *, timeout_s: float, max_bytes: int
    ) -> Fetched:
        return await self._open().request(method, url, headers, body, timeout_s=timeout_s, max_bytes=max_bytes)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    def _open(self) -> GuardedHttp:
        if self._http is None:
            from lambent.node.outgoing import GuardedHttp  # noqa: PLC0415 - see above

            self._http = GuardedHttp(self._policy, allow_loopback=self._allow_loopback)
        return self._http

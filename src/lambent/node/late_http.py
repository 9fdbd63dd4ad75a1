"""The HTTP client of the event plane, imported when it is first needed: most nodes never call a URL, and it takes 80 ms
and some megabytes to load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lambent.dataplane.sandbox.network.policy import EgressPolicy
from lambent.events.outgoing import Reply

if TYPE_CHECKING:
    from lambent.node.outgoing import GuardedHttp


class LateHttp:
    """Implements `events.outgoing.Outgoing`."""

    def __init__(self, policy: EgressPolicy, *, allow_loopback: bool) -> None:
        self._policy = policy
        self._allow_loopback = allow_loopback
        self._http: GuardedHttp | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float) -> Reply:
        if self._http is None:
            from lambent.node.outgoing import GuardedHttp  # noqa: PLC0415 - see above

            self._http = GuardedHttp(self._policy, allow_loopback=self._allow_loopback)
        return await self._http.post(url, headers, body, timeout_s=timeout_s)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

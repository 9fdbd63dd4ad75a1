"""Requests that the node makes to URLs that users gave: only to where their functions might connect too.

A tenant who subscribes `http://169.254.169.254/` or `http://127.0.0.1:8700/` must not have the node ask there for it.
The name is resolved here, every address is held against the policy, and the connection is made to the address that was
checked: a name that resolves to something else a moment later gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping

import httpcore2

from lambent.dataplane.jail import netlink
from lambent.dataplane.sandbox.network.policy import EgressPolicy
from lambent.events.outgoing import Reply
from lambent.frontdoor.outgoing import Fetched, NotReached, TooSlow
from lambent.model.errors import CallerError, PlatformError

MOST_CONNECTIONS = 64
READ_BYTES = 65_536


class Denied(Exception):
    """The message is for the user."""


_UNUSABLE = (httpcore2.UnsupportedProtocol, httpcore2.LocalProtocolError, ValueError, UnicodeError)
_UNANSWERED = (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError, TimeoutError, OSError)


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    def __init__(self, policy: EgressPolicy, *, allow_loopback: bool, is_local: Callable[[str], bool]) -> None:
        self._policy = policy
        self._allow_loopback = allow_loopback
        self._is_local = is_local
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        address = await self.choose(host, port)
        return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)

    async def choose(self, host: str, port: int) -> str:
        """The address to connect to. Raises Denied."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as exc:
            raise httpcore2.ConnectError(f"{host} cannot be resolved: {exc.strerror}") from exc
        denied = ""
        for *_, place in found:
            address = ipaddress.ip_address(str(place[0]).partition("%")[0])
            if self._allow_loopback and address.is_loopback:
                return str(address)
            denial = self._policy.deny(address, port, is_local=self._is_local)
            if denial is None:
                return str(address)
            denied = denial.value
        raise Denied(f"{host} may not be connected to ({denied}).")


class GuardedHttp:
    """Implements `events.outgoing.Outgoing` and `frontdoor.outgoing.Outgoing`."""

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        allow_loopback: bool = False,
        is_local: Callable[[str], bool] = netlink.is_local,
    ) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=MOST_CONNECTIONS,
            max_keepalive_connections=8,
            keepalive_expiry=5.0,
            network_backend=GuardedBackend(policy, allow_loopback=allow_loopback, is_local=is_local),
        )

    async def close(self) -> None:
        await self._pool.aclose()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float) -> Reply:
        """The beginning of the answer is enough for those who ask this way."""
        try:
            status, fields, answer, _ = await self._ask(
                "POST", url, list(headers.items()), body, timeout_s=timeout_s, max_bytes=READ_BYTES
            )
        except Denied as exc:
            raise CallerError("InvalidParameterValueException", str(exc)) from exc
        except _UNUSABLE as exc:
            raise CallerError("InvalidParameterValueException", f"{url[:200]} cannot be called: {exc}") from exc
        except _UNANSWERED as exc:
            reason = str(exc) or type(exc).__name__
            raise PlatformError(f"{url[:200]} did not answer: {reason}", retry_safe=True) from exc
        return Reply(status, dict(fields), answer)

    async def request(
        self,
        method: str,
        url: str,
        headers: list[tuple[str, str]],
        body: bytes,
        *,
        timeout_s: float,
        max_bytes: int,
    ) -> Fetched:
        """Implements `frontdoor.outgoing.Outgoing`."""
        try:
            status, fields, answer, is_whole = await self._ask(
                method, url, headers, body, timeout_s=timeout_s, max_bytes=max_bytes
            )
        except (TimeoutError, httpcore2.TimeoutException) as exc:
            raise TooSlow(f"{url[:200]} did not answer in time") from exc
        except (Denied, *_UNUSABLE, *_UNANSWERED) as exc:
            raise NotReached(f"{url[:200]} cannot be asked: {str(exc) or type(exc).__name__}") from exc
        if not is_whole:
            raise NotReached(f"{url[:200]} answered more than {max_bytes} bytes")
        return Fetched(status=status, headers=fields, body=answer)

    async def _ask(
        self, method: str, url: str, headers: list[tuple[str, str]], body: bytes, *, timeout_s: float, max_bytes: int
    ) -> tuple[int, list[tuple[str, str]], bytes, bool]:
        """Status, headers, at most `max_bytes` of the body, and whether that is all of it."""
        limits = dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)
        async with (
            asyncio.timeout(timeout_s),
            self._pool.stream(method, url, headers=headers, content=body, extensions={"timeout": limits}) as response,
        ):
            answer = b""
            async for piece in response.aiter_stream():
                answer += piece
                if len(answer) > max_bytes:
                    break
            fields = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers]
            return response.status, fields, answer[:max_bytes], len(answer) <= max_bytes

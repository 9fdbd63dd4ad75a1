"""The HTTP server: uvicorn on a socket and signals of ours."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from lambent.dataplane.gateway.guarded_http import HttpLimits
from lambent.dataplane.gateway.short_way import ShortWayProtocol
from lambent.frontdoor.web_sockets.site import ABORT
from lambent.model.errors import OperatorError
from lambent.node.tls import describe_client

BACKLOG = 2048


WEB_SOCKET_MESSAGE_BYTES = 131_072
"""The contract's quota."""
WEB_SOCKET_PING_S = 60.0
"""How often a client that is silent is asked whether it is there, and how long it may take to say so."""

_quiet = logging.getLogger("lambent.web_sockets")
_quiet.setLevel(logging.ERROR)


class QuietWebSockets(WebSocketsSansIOProtocol):
    """uvicorn's, without a line in the log for each connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _quiet
        self.scope: Any = None

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.scope is not None:
            # Closing waits for what is unsent, which a client that does not read makes wait for ever.
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[ABORT] = self.transport.abort


class HttpServer(uvicorn.Server):
    """Signals belong to the node's lifecycle, which sets `should_exit` and `force_exit`."""

    encrypted: tuple[socket.socket, ssl.SSLContext] | None = None
    """A listener with TLS beside the others."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.encrypted is None:
            return
        listener, context = self.encrypted

        def make_protocol() -> asyncio.Protocol:
            return self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )

        loop = asyncio.get_running_loop()
        server = await loop.create_server(make_protocol, sock=listener, ssl=context, backlog=BACKLOG)
        self.servers.append(server)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """Raises OperatorError when the address cannot be had. `is_shared`: each process of the node has a socket of it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            raise OperatorError(
                f"Port {port} of {host} is taken by another process; stop it or choose another: lambent up --port N"
            ) from exc
        raise OperatorError(
            f"{host}:{port} cannot be listened on: {exc.strerror}; choose another --host or --port."
        ) from exc
    listener.setblocking(False)
    return listener


def make_server(app: Any, *, drain_timeout_s: float, limits: HttpLimits) -> HttpServer:
    members = {"limits": limits, "describe_client": staticmethod(describe_client)}
    config = uvicorn.Config(
        app,
        http=type("NodeProtocol", (ShortWayProtocol,), members),
        loop="none",
        ws=QuietWebSockets,
        ws_max_size=WEB_SOCKET_MESSAGE_BYTES,
        ws_ping_interval=WEB_SOCKET_PING_S,
        ws_ping_timeout=WEB_SOCKET_PING_S,
        ws_per_message_deflate=False,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, round(drain_timeout_s)),
        timeout_keep_alive=round(limits.idle_timeout_s),
        backlog=BACKLOG,
    )
    config.load()
    return HttpServer(config)


async def serve(server: HttpServer, listener: socket.socket) -> None:
    """Until `should_exit`, then until open requests are answered or the drain time is over."""
    await server.serve(sockets=[listener])

"""What a function calls this node's services with: an address and temporary credentials, as its SDK expects them."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from lambent.dataplane.sandbox.network.policy import API_ADDRESS, API_PORT
from lambent.identity.sessions import Sessions
from lambent.model.function import Version
from lambent.node.config import Settings


class FunctionCredentials:
    """Called for each environment. `isolated`: it has a network of its own, and reaches the node through its gate."""

    def __init__(self, sessions: Sessions, settings: Settings, listener: socket.socket, *, isolated: bool) -> None:
        self._sessions = sessions
        host, port = (str(API_ADDRESS), API_PORT) if isolated else own_address(settings, listener)
        self._url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __call__(self, version: Version) -> Mapping[str, str]:
        role = version.role.rpartition("/")[2] or "none"
        principal = f"arn:aws:sts::{version.account}:assumed-role/{role}/{version.name}"
        session = self._sessions.issue(version.account, principal)
        return {
            "AWS_ACCESS_KEY_ID": session.access_key_id,
            "AWS_SECRET_ACCESS_KEY": session.secret,
            "AWS_SESSION_TOKEN": session.token,
            # A function that names an endpoint itself means another one.
            "AWS_ENDPOINT_URL": version.environment.get("AWS_ENDPOINT_URL", self._url),
        }


def own_address(settings: Settings, listener: socket.socket) -> tuple[str, int]:
    """Host and port at which this machine reaches its node."""
    host = settings.host
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return host, listener.getsockname()[1]

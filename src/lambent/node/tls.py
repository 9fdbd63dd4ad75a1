"""TLS of the node's own: a port beside the plain one, certificates by name, read again when their files change.

A new certificate is for new connections. One that cannot be read, or whose key does not fit, leaves the old serving.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from asyncinotify import Inotify, Mask

from lambent.model.errors import OperatorError

log = logging.getLogger(__name__)

_CHANGED = Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.CREATE


class Pair(NamedTuple):
    certificate: str
    """Path of a chain in PEM, the server's own first."""
    key: str


class Certificates:
    """`context` is what a listener is given: it chooses among the others by the name that the client asks for."""

    def __init__(self, default: Pair, domains: Mapping[str, Pair], *, client_ca: str = "") -> None:
        """Raises OperatorError for what cannot be read."""
        self._default = default
        self._domains = {name.lower(): pair for name, pair in domains.items()}
        self._client_ca = client_ca
        self._contexts = self._read()
        self.context = self._open(default)
        self.context.sni_callback = self._choose
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow the files until `stop`."""
        self._task = asyncio.create_task(self._follow(), name="follow certificates")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _choose(self, connection: Any, name: str | None, _context: ssl.SSLContext) -> None:
        wanted = (name or "").lower()
        parent = "*." + wanted.partition(".")[2]
        connection.context = self._contexts.get(wanted) or self._contexts.get(parent) or self._contexts[""]

    def _read(self) -> dict[str, ssl.SSLContext]:
        contexts = {name: self._open(pair) for name, pair in self._domains.items()}
        return {**contexts, "": self._open(self._default)}

    def _open(self, pair: Pair) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(pair.certificate, pair.key)
        except ssl.SSLError as exc:
            raise OperatorError(
                f"tls: {pair.certificate} and {pair.key} are not a certificate in PEM and its key ({exc.reason})"
            ) from exc
        except OSError as exc:
            raise OperatorError(f"tls: {pair.certificate} or {pair.key} cannot be read: {exc.strerror}") from exc
        if self._client_ca:
            try:
                context.load_verify_locations(self._client_ca)
            except (OSError, ssl.SSLError) as exc:
                raise OperatorError(f"tls.client_ca: {self._client_ca} is no file of certificates in PEM") from exc
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    async def _follow(self) -> None:
        with Inotify() as inotify:
            for folder in self._folders():
                inotify.add_watch(folder, _CHANGED)
            # What changed before it was watched.
            self._renew()
            async for _ in inotify:
                self._renew()

    def _folders(self) -> set[Path]:
        pairs = [self._default, *self._domains.values()]
        return {Path(path).absolute().parent for pair in pairs for path in pair}

    def _renew(self) -> None:
        try:
            self._contexts = self._read()
        except OperatorError as exc:
            # Between the writing of one file and that of the other they do not fit.
            log.warning("certificates not renewed", extra={"action": "not_renewed", "reason": str(exc)})


def describe_client(connection: ssl.SSLObject) -> dict[str, Any] | None:
    """The client's certificate as events show it; None for a client without one."""
    shown = connection.getpeercert()
    raw = connection.getpeercert(binary_form=True)
    if not shown or raw is None:
        return None
    serial = str(shown.get("serialNumber", "")).lower()
    return {
        "clientCertPem": ssl.DER_cert_to_PEM_cert(raw),
        "subjectDN": _write_name(shown.get("subject", ())),
        "issuerDN": _write_name(shown.get("issuer", ())),
        "serialNumber": ":".join(serial[at : at + 2] for at in range(0, len(serial), 2)),
        "validity": {"notBefore": shown.get("notBefore", ""), "notAfter": shown.get("notAfter", "")},
    }


_SHORT = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "emailAddress": "EMAILADDRESS",
}


def _write_name(name: Any) -> str:
    pairs = [pair for part in name for pair in part]
    return ",".join(f"{_SHORT.get(key, key)}={value}" for key, value in reversed(pairs))

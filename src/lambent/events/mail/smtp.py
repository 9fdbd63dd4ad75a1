"""The SMTP receiver: aiosmtpd speaks the protocol, the mail desk decides.

Mail is taken for addresses that a receipt rule names and for no others, so nothing can be relayed. With a certificate
it offers STARTTLS.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import weakref
from typing import TYPE_CHECKING, Any

from lambent.events.mail.desk import Bounced, Envelope, MailDesk
from lambent.events.mail.rules import ADDRESS
from lambent.model.errors import CallerError, OperatorError

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP

log = logging.getLogger(__name__)

MOST_RECIPIENTS = 100
IDLE_S = 120.0
_NOBODY = "<>"
"""How aiosmtpd writes the empty sender, which reports of failed deliveries have."""
_LATER = "451 4.3.0 Try again later"


class Handler:
    """What aiosmtpd calls; each answer is an SMTP reply."""

    def __init__(self, desk: MailDesk) -> None:
        self._desk = desk

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if address != _NOBODY and not ADDRESS.fullmatch(address):
            return "553 5.1.7 The sender's address is not valid"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if len(envelope.rcpt_tos) >= MOST_RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        if not ADDRESS.fullmatch(address):
            return "553 5.1.3 The recipient's address is not valid"
        try:
            received = await self._desk.receives(address, encrypted=session.ssl is not None)
        except Exception:
            log.exception("mail", extra={"action": "mail_failed"})
            return _LATER
        if not received:
            return "550 5.1.1 There is no such mailbox here, and nothing is relayed"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        taken = Envelope(
            sender="" if envelope.mail_from == _NOBODY else envelope.mail_from,
            recipients=list(envelope.rcpt_tos),
            raw=envelope.original_content or b"",
            encrypted=session.ssl is not None,
        )
        try:
            return f"250 OK {await self._desk.take(taken)}"
        except Bounced as exc:
            return str(exc)
        except CallerError as exc:
            log.warning("mail", extra={"action": "mail_refused", "reason": exc.message})
            return "554 5.3.5 A rule for this address cannot be carried out"
        except Exception:
            log.exception("mail", extra={"action": "mail_failed"})
            return _LATER


class SmtpReceiver:
    """Listens from `start` to `stop`."""

    def __init__(
        self,
        desk: MailDesk,
        *,
        host: str,
        port: int,
        hostname: str,
        max_bytes: int,
        certificate: tuple[str, str] | None = None,
    ) -> None:
        """`certificate`: paths of the chain and of its key. `port` 0 takes any. Raises OperatorError."""
        try:
            from aiosmtpd import smtp  # noqa: PLC0415 - an extra: only nodes that receive mail need it
        except ImportError as exc:
            raise OperatorError("Receiving mail needs aiosmtpd: pip install 'lambent[mail]'") from exc
        # It logs every address at the level of ours.
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        self._smtp = smtp
        self._handler = Handler(desk)
        self._host, self._port = host, port
        self._hostname = hostname
        self._max_bytes = max_bytes
        self._tls = _open_certificate(certificate) if certificate is not None else None
        self._server: asyncio.Server | None = None
        self._sessions: weakref.WeakSet[SMTP] = weakref.WeakSet()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Raises OperatorError when the port is taken."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._open_session, self._host, self._port)
        except OSError as exc:
            raise OperatorError(
                f"Mail cannot be received at {self._host}:{self._port} ({exc.strerror}): choose another mail.port"
            ) from exc

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            # A sender that is cut off has had no answer, and sends again.
            for session in list(self._sessions):
                if session.transport is not None:
                    session.transport.close()
            await self._server.wait_closed()

    def _open_session(self) -> SMTP:
        session = self._smtp.SMTP(
            self._handler,
            hostname=self._hostname,
            ident="Lambent",
            data_size_limit=self._max_bytes,
            timeout=IDLE_S,
            tls_context=self._tls,
            enable_SMTPUTF8=True,
            command_call_limit={"*": 200, "RCPT": MOST_RECIPIENTS * 2},
        )
        self._sessions.add(session)
        return session


def _open_certificate(certificate: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(*certificate)
    except (OSError, ssl.SSLError) as exc:
        raise OperatorError(f"The certificate for mail, {certificate[0]}, cannot be read: {exc}") from exc
    return context

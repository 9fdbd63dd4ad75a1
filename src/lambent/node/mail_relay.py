"""Where mail goes that is sent: to the relay that the operator named, or, on a node for trying out, into files."""

from __future__ import annotations

import asyncio
import os
import smtplib
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lambent.model.errors import CallerError, OperatorError, PlatformError
from lambent.model.identifiers import new_hex

TIMEOUT_S = 30.0


class SmtpRelay:
    """`url`: smtp://[USER:PASSWORD@]HOST[:PORT] (STARTTLS where it is offered, and always with a password), smtps://...

    Raises OperatorError.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise OperatorError("mail.relay must look like smtp://USER:PASSWORD@HOST:PORT or smtps://...")
        self._encrypted = parts.scheme == "smtps"
        self._host = parts.hostname
        self._port = parts.port or (465 if self._encrypted else 587 if parts.username else 25)
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")

    async def __call__(self, sender: str, recipients: Sequence[str], raw: bytes) -> None:
        """Raises CallerError for what the relay will never take, PlatformError for what it may take later."""
        await asyncio.to_thread(self._send, sender, list(recipients), raw)

    def _send(self, sender: str, recipients: list[str], raw: bytes) -> None:
        try:
            with self._connect() as session:
                session.sendmail(sender, recipients, raw)
        except smtplib.SMTPRecipientsRefused as exc:
            codes = [code for code, _ in exc.recipients.values()]
            raise _failure(max(codes), f"The relay refused every recipient: {exc.recipients}") from exc
        except smtplib.SMTPResponseException as exc:
            text = exc.smtp_error.decode("utf-8", "replace") if isinstance(exc.smtp_error, bytes) else exc.smtp_error
            # Who may not log in today may tomorrow: that is between the operator and the relay.
            code = 400 if isinstance(exc, smtplib.SMTPAuthenticationError) else exc.smtp_code
            raise _failure(code, f"The relay answered {exc.smtp_code}: {text}") from exc
        except (OSError, smtplib.SMTPException) as exc:
            raise PlatformError(f"The relay {self._host}:{self._port} cannot be used: {exc}", retry_safe=True) from exc

    def _connect(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self._encrypted:
            session: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=TIMEOUT_S, context=context)
        else:
            session = smtplib.SMTP(self._host, self._port, timeout=TIMEOUT_S)
        try:
            session.ehlo_or_helo_if_needed()
            if not self._encrypted and (self._user or session.has_extn("starttls")):
                session.starttls(context=context)
            if self._user:
                session.login(self._user, self._password)
        except BaseException:
            session.close()
            raise
        return session


class MailFiles:
    """One file per message, as it would have been sent, with the envelope in two headers in front."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def __call__(self, sender: str, recipients: Sequence[str], raw: bytes) -> None:
        await asyncio.to_thread(self._write, sender, recipients, raw)

    def _write(self, sender: str, recipients: Sequence[str], raw: bytes) -> None:
        envelope = f"X-Envelope-From: {sender}\r\nX-Envelope-To: {', '.join(recipients)}\r\n".encode()
        name = f"{int(time.time() * 1000):013d}-{new_hex()}"
        unfinished = self.folder / f".{name}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                file.write(envelope + raw)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(self.folder / f"{name}.eml")
        except OSError as exc:
            raise PlatformError(
                f"The mail cannot be written to {self.folder}: {exc.strerror}", retry_safe=True
            ) from exc


def _failure(code: int, message: str) -> Exception:
    if 500 <= code < 600:
        return CallerError("MessageRejected", message)
    return PlatformError(message, retry_safe=True)

"""Who calls: from a signed request to the account that it acts for."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from lambent.awsapi import sigv2
from lambent.awsapi.context import RequestContext
from lambent.awsapi.http import HttpRequest
from lambent.awsapi.sigv4 import Identity, Secret, StreamedIdentity, Verifier
from lambent.identity.accounts import Accounts
from lambent.identity.sessions import Sessions
from lambent.model.errors import CallerError


class SignatureAuthenticator:
    """Accepts requests with a valid signature for this node's region."""

    def __init__(
        self,
        accounts: Accounts,
        sessions: Sessions,
        *,
        region: str,
        services: Collection[str] = ("lambda",),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._region = region
        self._now = now
        self._verifier = Verifier(self._find_secret, services=services, now=now)

    def authenticate(self, request: HttpRequest, request_id: str) -> RequestContext:
        """Raises CallerError for a request whose signature does not hold."""
        return self._context(self._verifier.verify(request), request, request_id)

    def authenticate_streamed(
        self, request: HttpRequest, request_id: str, path: bytes
    ) -> tuple[RequestContext, StreamedIdentity | None]:
        """As `authenticate`, for requests of S3 alone, and what their body has to keep while it is read.

        `path` begins with the bucket, also where the request has that in the name of its host.
        """
        if sigv2.is_presigned(request) and request.header(b"authorization") is None:
            key, secret = sigv2.verify_presigned(request, path, self._find_secret, self._now())
            identity = Identity(key, secret.account, self._region, "s3", secret.principal)
            return self._context(identity, request, request_id), None
        streamed = self._verifier.verify_streamed(request)
        return self._context(streamed.identity, request, request_id), streamed

    def _context(self, identity: Identity, request: HttpRequest, request_id: str) -> RequestContext:
        if identity.region != self._region:
            raise CallerError(
                "InvalidSignatureException",
                f"Credential should be scoped to a valid region: this node is '{self._region}', not "
                f"'{identity.region}'.",
                status=403,
            )
        return RequestContext(
            account=identity.account,
            region=self._region,
            access_key=identity.access_key,
            request_id=request_id,
            host=request.header(b"host") or "",
            principal=identity.principal,
            service=identity.service,
        )

    def _find_secret(self, access_key: str, token: str) -> Secret | None:
        key = self._accounts.find_key(access_key)
        if key is not None:
            return Secret(key.secret, key.account)
        session = self._sessions.find(access_key, token) if token else None
        return Secret(session.secret, session.account, token, session.principal) if session is not None else None


class OpenAuthenticator:
    """`--dev`: accepts any signature and none, and acts for the one account. Only ever bound to loopback."""

    def __init__(self, *, account: str, region: str) -> None:
        self._account = account
        self._region = region

    def authenticate(self, request: HttpRequest, request_id: str) -> RequestContext:
        return RequestContext(
            account=self._account,
            region=self._region,
            access_key="dev",
            request_id=request_id,
            host=request.header(b"host") or "",
        )

    def authenticate_streamed(
        self, request: HttpRequest, request_id: str, path: bytes
    ) -> tuple[RequestContext, StreamedIdentity | None]:
        return self.authenticate(request, request_id), None

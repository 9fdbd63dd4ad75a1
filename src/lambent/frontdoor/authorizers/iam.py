"""Signatures as authorizers: AWS_IAM of function URLs and of APIs."""

from __future__ import annotations

from typing import Any, Protocol

from lambent.awsapi.context import RequestContext, check_scope
from lambent.awsapi.http import HttpRequest
from lambent.frontdoor.authorizers.decision import Allowed, Forbidden
from lambent.frontdoor.call import HttpCall
from lambent.model.errors import CallerError


class Authenticator(Protocol):
    def authenticate(self, request: HttpRequest, request_id: str) -> RequestContext:
        """Raises CallerError for a request whose signature does not hold."""
        ...


def authorize(authenticator: Authenticator, call: HttpCall, *, service: str, account: str) -> Allowed:
    """For requests signed for the service by that account. Raises Forbidden with the reason."""
    assert call.request is not None
    try:
        caller = check_scope(authenticator.authenticate(call.request, call.request_id), service)
    except CallerError as exc:
        raise Forbidden(exc.message) from exc
    if caller.account != account:
        raise Forbidden("Forbidden")
    shown: dict[str, Any] = {
        "accessKey": caller.access_key,
        "accountId": caller.account,
        "callerId": caller.account,
        "cognitoIdentity": None,
        "principalOrgId": None,
        "userArn": caller.principal or f"arn:aws:iam::{caller.account}:root",
        "userId": caller.account,
    }
    return Allowed(context={"iam": shown}, account_id=caller.account)

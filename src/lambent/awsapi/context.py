"""Who calls, and under which id: handed to every operation of every service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from lambent.model.errors import CallerError


class RequestContext(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    account: str
    region: str
    access_key: str
    request_id: str
    host: str = ""
    """The Host header, for URLs in answers that must lead back here."""
    principal: str = ""
    """Who acts for the account with a temporary key, as an ARN; empty for the account itself."""
    trace_id: str = ""
    """X-Amzn-Trace-Id of the request: SDKs within functions pass theirs on."""
    service: str = ""
    """The service that the request was signed for; empty where signatures are not looked at."""


Operation = Callable[[RequestContext, dict[str, Any]], Awaitable[Mapping[str, Any]]]
"""Takes the validated members of the operation's input, returns the members of its output.

Blobs are `bytes`, timestamps `datetime`, structures and maps `dict`; members that are None are left out.
Raises CallerError for what the contract lists and PlatformError for the rest.
"""


def check_scope(context: RequestContext, service: str = "lambda") -> RequestContext:
    """The context of a request signed for `service`. Raises CallerError for one that was signed for another."""
    if context.service not in ("", service):
        raise CallerError(
            "InvalidSignatureException", f"Credential should be scoped to correct service: '{service}'.", status=403
        )
    return context


def deny(context: RequestContext, action: str) -> CallerError:
    """What a function is told that asks for what it may not."""
    return CallerError(
        "AccessDeniedException", f"User: {context.principal} is not authorized to perform: {action}", status=403
    )

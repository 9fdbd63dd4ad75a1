"""Reading bodies that somebody else wrote."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import parse_qs

import msgspec

from lambent.awsapi.http import HttpRequest
from lambent.model.errors import CallerError


def read_object(request: HttpRequest) -> dict[str, Any]:
    """A JSON object, also as the `payload` of a form, as GitHub and Slack can send it.

    Raises CallerError `InvalidRequestContentException`.
    """
    data: bytes | str = request.body
    if (request.header(b"content-type") or "").startswith("application/x-www-form-urlencoded"):
        try:
            form = parse_qs(request.body.decode(), max_num_fields=1000)
        except ValueError as exc:
            raise refuse_content(f"The form cannot be read: {exc}") from exc
        if "payload" not in form:
            return {name: values[-1] for name, values in form.items()}
        data = form["payload"][-1]
    document = read_json(data)
    if not isinstance(document, dict):
        raise refuse_content("The body must be a JSON object.")
    return document


def read_json(data: bytes | str) -> Any:
    """Raises CallerError `InvalidRequestContentException`."""
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError) as exc:
        raise refuse_content(f"The body is not JSON: {exc}") from exc


def digest_of(request: HttpRequest) -> str:
    """Tells a repeated delivery from another one, where the sender gives deliveries no id."""
    return hashlib.sha256(request.body).hexdigest()


def refuse_content(message: str) -> CallerError:
    return CallerError("InvalidRequestContentException", message)

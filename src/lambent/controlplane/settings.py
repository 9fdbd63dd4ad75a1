"""Lambent's own settings of a function, which travel as tags so that every deploy tool can set them."""

from __future__ import annotations

from collections.abc import Mapping

from lambent.controlplane.refusals import invalid

PREFIX = "lambent:"
NETWORK = "lambent:network"
MAX_WAIT = "lambent:max-wait-seconds"
MAX_TAGS = 50
_MAX_WAIT_SECONDS = 900


def check_tags(tags: Mapping[str, str]) -> None:
    """The tags that a function would have. Raises CallerError `InvalidParameterValueException`."""
    if len(tags) > MAX_TAGS:
        raise invalid("Number of tags exceeds resource tag limit.")
    for key, value in tags.items():
        if key.lower().startswith("aws:"):
            raise invalid("Tag keys that start with aws: are reserved. Choose another key.")
        if key.startswith(PREFIX):
            _check_setting(key, value)


def _check_setting(key: str, value: str) -> None:
    if key == NETWORK:
        if value not in ("outgoing", "none"):
            raise invalid(f"Tag {NETWORK}: '{value}' is not one of outgoing, none.")
    elif key == MAX_WAIT:
        if not (value.isascii() and value.isdigit() and len(value) <= 3 and int(value) <= _MAX_WAIT_SECONDS):
            raise invalid(f"Tag {MAX_WAIT}: '{value}' is not a whole number from 0 to {_MAX_WAIT_SECONDS}.")
    else:
        raise invalid(f"Tag {key}: Lambent has no such setting. It knows {NETWORK} and {MAX_WAIT}.")

"""Numbers and booleans where they stand as text: in paths, queries, headers, forms and XML."""

from __future__ import annotations

import re

from lambent.awsapi.json_values import DECIMAL, serialization_error
from lambent.awsapi.models import Shape

_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")


def parse_number_text(text: str, shape: Shape, name: str) -> int | float:
    """Raises CallerError `SerializationException`."""
    # Python's own conversions take more than the contract: 1_000, other scripts' digits, inf.
    whole = shape.kind in ("integer", "long")
    if not (_WHOLE if whole else DECIMAL).fullmatch(text):
        raise serialization_error(f"'{text[:40]}' at '{name}' is not of type {shape.kind}")
    return int(text) if whole else float(text)


def parse_boolean_text(text: str, name: str) -> bool:
    """Raises CallerError `SerializationException`."""
    if text not in ("true", "false"):
        raise serialization_error(f"'{text}' at '{name}' is not true or false")
    return text == "true"

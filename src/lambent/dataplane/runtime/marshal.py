"""Between JSON text and what handlers take and give."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

MAX_RESPONSE_BYTES = 6_291_556


class _Encoder(json.JSONEncoder):
    """As the contract's runtime: a Decimal becomes a number; what JSON has no word for is refused."""

    def default(self, value: Any) -> Any:
        if isinstance(value, Decimal):
            return _number(value)
        return super().default(value)


def _number(value: Decimal) -> Any:
    if value.is_nan():
        return float("nan")
    if value == value.to_integral_value() and value.is_finite() and value.as_tuple().exponent == 0:
        return int(value)
    return float(value)


_ENCODER = _Encoder(ensure_ascii=False)
_DECODER = json.JSONDecoder()


class NotMarshalled(Exception):
    """The result has no JSON form."""


class ResponseTooLarge(Exception):
    def __init__(self) -> None:
        super().__init__(
            "Response payload size exceeded maximum allowed payload size ({} bytes).".format(MAX_RESPONSE_BYTES)
        )


def decode_event(data: bytes) -> Any:
    """Raises ValueError."""
    return _DECODER.decode(data.decode("utf-8"))


def encode_result(result: Any) -> bytes:
    """Raises NotMarshalled, ResponseTooLarge."""
    if result is None:
        return b"null"
    try:
        text = _ENCODER.encode(result)
        data = text.encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8 form, but it has a JSON escape.
        data = json.dumps(result, cls=_Encoder).encode()
    except Exception as exc:
        raise NotMarshalled("Unable to marshal response: {}".format(exc)) from exc
    if len(data) > MAX_RESPONSE_BYTES:
        raise ResponseTooLarge()
    return data

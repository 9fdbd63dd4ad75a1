"""Between JSON text and what handlers take and give, byte for byte as the contract's Python runtime does it.

That one (`awslambdaric`, lambda_runtime_marshaller.py) uses a JSON library of its own: named tuples are objects there,
decimals keep their digits, bytes are text, and only since Python 3.12 does text stay as it is instead of becoming
ASCII. The standard library's encoder writes everything else the same, and fast; `_Writer` writes what it would not.
"""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from typing import Any, Callable, Dict, List, Optional, Set

MAX_RESPONSE_BYTES = 6_291_556
ESCAPES_TEXT = sys.version_info < (3, 12)

_DECODER = json.JSONDecoder()
_ENCODERS = {escapes: json.JSONEncoder(ensure_ascii=escapes).encode for escapes in (False, True)}
_ESCAPE: Dict[bool, Callable[[str], str]] = {
    False: json.encoder.encode_basestring,
    True: json.encoder.encode_basestring_ascii,
}
_UNUSUAL, _SCALAR, _SEQUENCE, _MAPPING = range(4)


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


def encode_result(result: Any, *, escapes_text: bool = ESCAPES_TEXT) -> bytes:
    """Raises NotMarshalled, ResponseTooLarge."""
    try:
        data = _encode(result, escapes_text)
    except Exception as exc:
        raise NotMarshalled("Unable to marshal response: {}".format(exc)) from exc
    if len(data) > MAX_RESPONSE_BYTES:
        raise ResponseTooLarge()
    return data


def _encode(result: Any, escapes_text: bool) -> bytes:
    if isinstance(result, bytes):
        # As it is: what Lambda's own runtime sends as "application/unknown".
        return result
    text = _write_fast(result, escapes_text) if _is_usual(result) else None
    if text is None:
        text = _Writer(_ESCAPE[escapes_text]).write(result)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8 form, but it has a JSON escape.
        return _encode(result, True)


_kinds: Dict[type, int] = {}


def _write_fast(result: Any, escapes_text: bool) -> Optional[str]:
    """None for keys that the two encoders treat differently."""
    try:
        return _ENCODERS[escapes_text](result)
    except TypeError:
        return None


def _classify(type_: type) -> int:
    if issubclass(type_, (str, int, float, type(None))):
        return _SCALAR
    if issubclass(type_, list):
        return _SEQUENCE
    if callable(getattr(type_, "_asdict", None)):
        return _UNUSUAL
    if issubclass(type_, tuple):
        return _SEQUENCE
    return _MAPPING if issubclass(type_, dict) else _UNUSUAL


def _is_usual(result: Any) -> bool:
    """Whether both encoders write all of it alike, keys aside."""
    seen: Set[int] = set()
    waiting = [result]
    while waiting:
        value = waiting.pop()
        type_ = type(value)
        kind = _kinds.get(type_)
        if kind is None:
            kind = _kinds[type_] = _classify(type_)
        if kind == _SCALAR:
            continue
        if kind == _UNUSUAL:
            return False
        if id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if kind == _MAPPING else value)
    return True


class _Writer:
    """Writes whatever the contract's encoder can write, in plain steps."""

    def __init__(self, escape: Callable[[str], str]) -> None:
        self._escape = escape
        self._pieces: List[str] = []
        self._open: Set[int] = set()

    def write(self, value: Any) -> str:
        self._write(value)
        return "".join(self._pieces)

    def _write(self, value: Any) -> None:
        if isinstance(value, bytes):
            self._pieces.append(self._escape(str(value, "utf-8")))
        elif isinstance(value, list):
            self._write_sequence(value)
        elif callable(getattr(value, "_asdict", None)):
            self._write_mapping(value._asdict(), owner=value)
        elif isinstance(value, tuple):
            self._write_sequence(value)
        elif isinstance(value, dict):
            self._write_mapping(value, owner=value)
        else:
            self._pieces.append(self._spell(value))

    def _spell(self, value: Any) -> str:
        if isinstance(value, str):
            return self._escape(value)
        if isinstance(value, Decimal):
            return "NaN" if value.is_nan() else str(value)
        # Numbers, None and booleans, and the error for anything else.
        return _ENCODERS[True](value)

    def _write_sequence(self, values: Any) -> None:
        self._enter(values)
        self._pieces.append("[")
        for number, value in enumerate(values):
            if number:
                self._pieces.append(", ")
            self._write(value)
        self._pieces.append("]")
        self._open.discard(id(values))

    def _write_mapping(self, values: Any, *, owner: Any) -> None:
        self._enter(owner)
        self._pieces.append("{")
        for number, (key, value) in enumerate(values.items()):
            if number:
                self._pieces.append(", ")
            self._pieces.append(self._escape(_name(key)) + ": ")
            self._write(value)
        self._pieces.append("}")
        self._open.discard(id(owner))

    def _enter(self, value: Any) -> None:
        if id(value) in self._open:
            raise ValueError("Circular reference detected")
        self._open.add(id(value))


def _name(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return str(key, "utf-8")
    if key is None or isinstance(key, (int, float)):
        return _ENCODERS[True](key)
    raise TypeError("keys must be str, int, float, bool or None, not {}".format(type(key).__name__))

"""Between JSON text and what handlers take and give, byte for byte as the contract's Python runtime does it.

That one (`awslambdaric`, lambda_runtime_marshaller.py) uses a JSON library of its own: named tuples are objects there,
decimals keep their digits, bytes are text, and only since Python 3.12 does text stay as it is instead of becoming
ASCII. The standard library's encoder writes everything else the same, and fast; `_Writer` writes what it would not.
"""

from __future__ import annotations

import collections
import json
import os
import sys
from decimal import Decimal
from marshal import dumps as dump_builtins
from typing import Any, Callable, Dict, List, NoReturn, Optional, Set, Union

from lambent.dataplane.runtime.faults import ESCAPES_TEXT, Refused

MAX_RESPONSE_BYTES = 6_291_556

_ESCAPE: Dict[bool, Callable[[str], str]] = {
    False: json.encoder.encode_basestring,
    True: json.encoder.encode_basestring_ascii,
}
_SCALARS = frozenset((str, int, float, bool, type(None), Decimal, bytes))
_SEQUENCES = frozenset((list, tuple))
_MAPPINGS = frozenset((dict, collections.OrderedDict, collections.defaultdict, collections.Counter))
_FEW_VALUES = 24
_DUMP_VERSION = 2
"""The last without shared references, for which each value costs a look-up."""


class NotMarshalled(Refused):
    """The result has no JSON form."""

    error_type = "Runtime.MarshalError"


class NotUnmarshalled(Refused):
    """The event is no JSON text."""

    error_type = "Runtime.UnmarshalError"


class ResponseTooLarge(Exception):
    def __init__(self) -> None:
        super().__init__(
            "Response payload size exceeded maximum allowed payload size ({} bytes).".format(MAX_RESPONSE_BYTES)
        )


def decode_event(data: bytes) -> Any:
    """Raises NotUnmarshalled."""
    try:
        text = data.decode("utf-8")
        return _DECODER.decode(text[1:] if text.startswith("\ufeff") else text)
    except Exception as exc:
        raise NotUnmarshalled("Unable to unmarshal input: {}".format(exc)) from exc


def encode_result(result: Any, *, escapes_text: bool = ESCAPES_TEXT) -> bytes:
    """Raises NotMarshalled, ResponseTooLarge."""
    try:
        data = _encode(result, escapes_text)
    except Exception as exc:
        raise NotMarshalled("Unable to marshal response: {}".format(exc)) from exc
    if len(data) > MAX_RESPONSE_BYTES:
        raise ResponseTooLarge()
    return data


def _refuse_constant(_name: str) -> NoReturn:
    # The standard library reads NaN and Infinity, the contract's decoder does not.
    raise ValueError("Expecting value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


class _FastEncoder(json.JSONEncoder):
    """The standard library's, compiled. A decimal goes through it as a marked text, whose marks are then cut off.

    The mark is secret, so that no text of a user can pass for a number.
    """

    _mark = os.urandom(16).hex()
    _marked = False

    def default(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return str(value, "utf-8")
        if type(value) is not Decimal:
            return super().default(value)
        if value.is_nan():
            return float("nan")
        self._marked = True
        return "{0}{1}{0}".format(self._mark, value)

    def write(self, value: Any) -> Optional[str]:
        """None for what it cannot write, which others may: keys that are bytes, objects with `_asdict`."""
        self._marked = False
        try:
            text = self.encode(value)
        except TypeError:
            return None
        return text.replace('"' + self._mark, "").replace(self._mark + '"', "") if self._marked else text


_ENCODERS = {escapes: _FastEncoder(ensure_ascii=escapes) for escapes in (False, True)}


def _encode(result: Any, escapes_text: bool) -> bytes:
    if isinstance(result, bytes):
        # As it is: what Lambda's own runtime sends as "application/unknown".
        return result
    text = _ENCODERS[escapes_text].write(result) if _is_plain(result) else None
    if text is None:
        text = _Writer(_ESCAPE[escapes_text]).write(result)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8 form, but it has a JSON escape.
        return _encode(result, True)


def _is_plain(result: Any) -> bool:
    """Whether no container in it is one of those that the two encoders treat differently."""
    plain = _has_plain_containers(result, _FEW_VALUES)
    if plain is not None:
        return plain
    try:
        # Refuses whatever is not exactly of a built-in type, at a fraction of a look at each value here. Not for few
        # values, which may be long texts: it copies.
        dump_builtins(result, _DUMP_VERSION)
    except (ValueError, MemoryError):
        return bool(_has_plain_containers(result, sys.maxsize))
    return True


def _has_plain_containers(result: Any, most_values: int) -> Optional[bool]:
    """None for more values than it may look at."""
    seen: Set[int] = set()
    waiting = [result]
    while waiting:
        value = waiting.pop()
        type_ = type(value)
        if type_ in _SCALARS:
            continue
        if type_ in _SEQUENCES or type_ in _MAPPINGS:
            if len(value) > most_values:
                return None
            if id(value) not in seen:
                seen.add(id(value))
                most_values -= len(value)
                waiting.extend(value if type_ in _SEQUENCES else value.values())
        elif isinstance(value, (list, tuple, dict)):
            return False
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
        """One call for each level of nesting, so that depth is limited as with the contract's."""
        put = self._pieces.append
        if isinstance(value, (str, bytes)) or value is None or isinstance(value, (int, float)):
            put(self._escape(_read_text(value)) if isinstance(value, (str, bytes)) else _spell(value))
            return
        fields = _read_fields(value)
        if fields is None and not isinstance(value, (list, tuple, dict)):
            put(_spell_decimal(value))
            return
        if id(value) in self._open:
            raise ValueError("Circular reference detected")
        self._open.add(id(value))
        if fields is None and not isinstance(value, dict):
            separator = "["
            for item in value:
                put(separator)
                self._write(item)
                separator = ", "
            put("[]" if separator == "[" else "]")
        else:
            separator = "{"
            for key, item in (value if fields is None else fields).items():
                put(separator + self._escape(_name(key)) + ": ")
                self._write(item)
                separator = ", "
            put("{}" if separator == "{" else "}")
        self._open.discard(id(value))


def _read_fields(value: Any) -> Optional[Dict[Any, Any]]:
    method = getattr(value, "_asdict", None)
    if not callable(method):
        return None
    try:
        fields = method()
    except TypeError:
        return None
    if not isinstance(fields, dict):
        raise TypeError("_asdict() must return a dict, not {}".format(type(fields).__name__))
    return fields


def _read_text(value: Union[str, bytes]) -> str:
    return str(value, "utf-8") if isinstance(value, bytes) else value


def _spell(value: Any) -> str:
    """Numbers, None and booleans."""
    return _ENCODERS[True].encode(value)


def _spell_decimal(value: Any) -> str:
    if not isinstance(value, Decimal):
        raise TypeError("Object of type {} is not JSON serializable".format(value.__class__.__name__))
    return "NaN" if value.is_nan() else str(value)


def _name(key: Any) -> str:
    if isinstance(key, (str, bytes)):
        return _read_text(key)
    if key is None or isinstance(key, (int, float)):
        return _spell(key)
    raise TypeError("keys must be str, int, float, bool or None, not {}".format(type(key).__name__))

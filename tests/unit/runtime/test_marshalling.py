"""The contract's own runtime interface client, `awslambdaric`, is the oracle."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import typing
import uuid
from typing import Any
from unittest import mock

import pytest
from awslambdaric.lambda_runtime_exception import FaultException
from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller

from lambent.dataplane.runtime import marshal


class Point(typing.NamedTuple):
    x: int
    y: Any


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    SMALL = 1


class Word(str):
    __slots__ = ()


class Wrapped:
    def _asdict(self) -> dict[str, Any]:
        return {"wrapped": [Point(1, None)]}


class Row(dict[str, int]):
    def _asdict(self) -> dict[str, Any]:
        return {"row": dict(self)}


class Items(list[int]):
    def _asdict(self) -> dict[str, Any]:
        return {"items": len(self)}


class NamedText(str):
    __slots__ = ()

    def _asdict(self) -> dict[str, Any]:
        return {"never": "asked"}


class NoFields:
    def __init__(self, fields: Any) -> None:
        self._fields = fields

    def _asdict(self) -> Any:
        if isinstance(self._fields, Exception):
            raise self._fields
        return self._fields


class AnyAttribute(dict[str, int]):
    def __getattr__(self, name: str) -> int:
        return self[name]


class OtherItems(dict[str, int]):
    def items(self) -> Any:
        return [("other", 1)]


class Euro(decimal.Decimal):
    def __str__(self) -> str:
        return super().__str__() + "0"


def make_circle() -> list[Any]:
    circle: list[Any] = [1]
    circle.append({"again": circle})
    return circle


def make_deep() -> Any:
    deep: Any = "bottom"
    for _ in range(100_000):
        deep = [deep]
    return deep


SHARED = [decimal.Decimal("0.1")]
RESULTS: dict[str, Any] = {
    "none": None,
    "text": "plain",
    "other alphabets": "héllo wörld ✓ 😀",
    "line separators": {"a\u2028b": "c\u2029d"},
    "controls": '"\\\b\f\n\r\t\x00\x1f\x7f',
    "numbers": [0, -1, 10**30, 0.1, 1e300, -0.0, 5e-324],
    "no numbers": [float("nan"), float("inf"), float("-inf")],
    "booleans": {"t": True, "f": False},
    "keys of all kinds": {None: 1, True: 2, 3: 4, 0.5: 6, "text": 7, Size.SMALL: 8},
    "keys of bytes": {b"bytes": 1},
    "keys that are none": {(1, 2): 3},
    "a key that is an object": {Colour.RED: 3},
    "a decimal": decimal.Decimal("12.3400"),
    "decimals": {"price": [decimal.Decimal("1E+5"), decimal.Decimal("NaN"), decimal.Decimal("-Infinity")]},
    "a decimal beside text": {"text": "ü\u2028", "d": decimal.Decimal("1")},
    "a decimal as key": {decimal.Decimal("1"): 1},
    "a named tuple": Point(1, "ü"),
    "named tuples inside": {"points": [Point(1, Point(2, None)), (3, 4)]},
    "what says how it is a dict": Wrapped(),
    "bytes": b"\x00raw\xff",
    "bytes inside": {"data": b"t\xc3\xa9xt"},
    "bytes that are no text": [b"\xff"],
    "an array of bytes": [bytearray(b"x")],
    "a set": {1},
    "a set inside": {"a": [{"b": {1}}]},
    "a generator": (number for number in range(3)),
    "a range": range(3),
    "a date": datetime.datetime(2026, 1, 1),
    "an id": uuid.UUID(int=1),
    "an enum": Colour.RED,
    "an enum of numbers": [Size.SMALL],
    "a text of its own class": Word("é"),
    "ordered": collections.OrderedDict(b=1, a=2),
    "counted": collections.Counter("aab"),
    "an object": object(),
    "a class": dict,
    "the same twice": [SHARED, SHARED, {"a": SHARED}],
    "a circle": make_circle(),
    "a circle with a decimal": [decimal.Decimal("1"), make_circle()],
    "empty": [[], {}, (), ""],
    "a row": [Row(a=1)],
    "items": Items([1, 2]),
    "a text with fields": [decimal.Decimal("1"), NamedText("text")],
    "fields that are no dict": [NoFields([1])],
    "fields that raise": NoFields(KeyError("no")),
    "fields that cannot be asked for": NoFields(TypeError("no")),
    "a class with fields": Point,
    "a mock": mock.Mock(),
    "any attribute is a key": AnyAttribute(a=1),
    "a dict of its own items": OtherItems(a=1),
    "a decimal of its own spelling": [Euro("1.5")],
    "a decimal of a signalling NaN": decimal.Decimal("sNaN"),
    "decimals and text that looks like them": ["1.0", '"1.0"', decimal.Decimal("1.0")],
    "bytes as keys beside decimals": {b"k": decimal.Decimal("1.10")},
    "many values": [{"n": number, "d": None, "t": "ü"} for number in range(100)],
    "many values and one named tuple": [*range(100), Point(1, 2)],
    "many decimals": [decimal.Decimal(number) / 4 for number in range(100)],
    "many words": [Word(number) for number in range(100)],
    "too many digits": 10**5000,
    "a buffer": [*range(100), memoryview(b"x")],
    "sets among many": [*range(100), {1}],
    "keys of floats": {float("nan"): 1, 1e22: 2, -0.0: 3},
}


def ask_oracle(monkeypatch: pytest.MonkeyPatch, result: Any, version: str) -> bytes | str:
    monkeypatch.setenv("AWS_EXECUTION_ENV", f"AWS_Lambda_{version}")
    try:
        text, _ = LambdaMarshaller().marshal_response(result)
    except Exception as exc:
        return str(exc.msg)  # type: ignore[attr-defined]
    return text if isinstance(text, bytes) else text.encode()


def encode(result: Any, *, escapes_text: bool) -> bytes | str:
    try:
        return marshal.encode_result(result, escapes_text=escapes_text)
    except marshal.NotMarshalled as exc:
        return str(exc)


@pytest.mark.parametrize("version", ["python3.11", "python3.12"])
@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_encoded_as_by_the_contracts_own_runtime(
    monkeypatch: pytest.MonkeyPatch, name: str, version: str
) -> None:
    result = RESULTS[name]
    expected = ask_oracle(monkeypatch, result, version)
    assert encode(result, escapes_text=version == "python3.11") == expected


def test_text_is_escaped_up_to_python_3_11(monkeypatch: pytest.MonkeyPatch) -> None:
    assert marshal.encode_result("é", escapes_text=True) == b'"\\u00e9"'
    assert marshal.encode_result("é", escapes_text=False) == b'"\xc3\xa9"'


def test_a_lone_surrogate_is_escaped_where_text_is_not() -> None:
    assert marshal.encode_result(["é", "\ud800"], escapes_text=False) == b'["\\u00e9", "\\ud800"]'


@pytest.mark.parametrize("more", [[], [decimal.Decimal("1")]])
def test_a_result_too_deep_to_write_is_refused_and_ends_nothing(more: list[Any]) -> None:
    deep = [*more, make_deep()]
    with pytest.raises(marshal.NotMarshalled, match="Unable to marshal response: maximum recursion depth exceeded"):
        marshal.encode_result(deep)
    while isinstance(deep, list):
        deep = deep.pop()


def test_a_result_beyond_the_limit_is_refused() -> None:
    assert len(marshal.encode_result("x" * (marshal.MAX_RESPONSE_BYTES - 2))) == marshal.MAX_RESPONSE_BYTES
    with pytest.raises(marshal.ResponseTooLarge, match="6291556 bytes"):
        marshal.encode_result("x" * (marshal.MAX_RESPONSE_BYTES - 1))


EVENTS = [
    b"{}",
    b"null",
    b'  {"a": [1, 2.5, 1e3, true]} ',
    b'{"a": 1, "a": 2}',
    b"12345678901234567890123",
    b"1e400",
    b"-0.0",
    b"0.1000000000000000055511151231257827",
    b"\xef\xbb\xbf{}",
    rb'"\ud800"',
    '"é😀"'.encode(),
    rb'"\ud83d\ude00"',
]


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_is_decoded_as_by_the_contracts_own_runtime(event: bytes) -> None:
    assert repr(marshal.decode_event(event)) == repr(LambdaMarshaller().unmarshal_request(event))


@pytest.mark.parametrize(
    "event", [b"", b"tru", b"-", b"[,1]", b'{"a" 1}', b'"abc', b"\xff", b"1" * 5000, b'"\xed\xa0\x80"']
)
def test_an_event_that_is_no_json_is_refused_as_by_the_contracts_own_runtime(event: bytes) -> None:
    with pytest.raises(FaultException) as expected:
        LambdaMarshaller().unmarshal_request(event)
    with pytest.raises(marshal.NotUnmarshalled) as refused:
        marshal.decode_event(event)
    assert (str(refused.value), refused.value.error_type) == (expected.value.msg, expected.value.exception_type)


@pytest.mark.parametrize("event", [b"{", b"{'a': 1}", b'{"a": 1} x', b"[1,]", b"NaN", b"[-Infinity]", b"[" * 100_000])
def test_what_the_contracts_own_runtime_refuses_is_refused(event: bytes) -> None:
    with pytest.raises(FaultException):
        LambdaMarshaller().unmarshal_request(event)
    with pytest.raises(marshal.NotUnmarshalled, match="Unable to unmarshal input: "):
        marshal.decode_event(event)


@pytest.mark.parametrize("more", [[], [decimal.Decimal("1")], [Point(1, 2)]])
def test_what_cannot_be_written_leaves_the_next_result_whole(more: list[Any]) -> None:
    with pytest.raises(marshal.NotMarshalled):
        marshal.encode_result([*more, {1}])
    with pytest.raises(marshal.NotMarshalled):
        marshal.encode_result([*more, make_circle()])
    assert marshal.encode_result([*more[:0], decimal.Decimal("1.10"), "x"]) == b'[1.10, "x"]'
    assert marshal.encode_result(["1.10"]) == b'["1.10"]'

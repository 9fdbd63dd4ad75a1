"""Results and errors of every Python that this machine has, byte for byte.

What is expected was recorded from the contract's own runtime: awslambdaric 4.2.2 with simplejson 4.3.0.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.conftest import Deploy, ask

SOURCE = """
import collections, decimal, enum

Point = collections.namedtuple("Point", "x y")

class Money(enum.Enum):
    EUR = 1

class Size(enum.IntEnum):
    SMALL = 1

class Row(dict):
    def _asdict(self):
        return {"row": dict(self)}

class Shape:
    def _asdict(self):
        return {"corners": [Point(0, 1)]}

class Odd:
    def _asdict(self):
        return [1]

def circle():
    items = []
    items.append(items)
    return items

CASES = {
    "text": lambda: ["é", "\\u2028", "\\U0001f600", "\\x7f", '"\\\\/\\b\\x00'],
    "numbers": lambda: [10**30, 0.1, -0.0, 1e16, 1e-7, float("nan"), float("inf"), float("-inf")],
    "decimals": lambda: {"a": decimal.Decimal("1.10"), "b": [decimal.Decimal("1E+5"), decimal.Decimal("-NaN")]},
    "many decimals": lambda: [decimal.Decimal("0.%d" % n) for n in range(40)],
    "named tuples": lambda: Point("é", [Point(1, decimal.Decimal("2.0"))]),
    "subclasses": lambda: [Size.SMALL, collections.OrderedDict(b=1), Row(a=1), Shape()],
    "bytes": lambda: {"b": b"\\xc3\\xa9", b"key": 1},
    "keys": lambda: {None: 1, True: 2, 3: 4, 0.5: 5, Size.SMALL: 6, float("nan"): 7},
    "key tuple": lambda: {(1,): 1},
    "key decimal": lambda: {decimal.Decimal(1): 1},
    "set": lambda: [{1}],
    "enum": lambda: Money.EUR,
    "class": lambda: Point,
    "odd": lambda: Odd(),
    "no text": lambda: [b"\\xff"],
    "circle": circle,
}

def handler(event, context):
    return CASES[event]()
"""

ASCII_UP_TO_3_11 = {
    "text": (
        '["\\u00e9", "\\u2028", "\\ud83d\\ude00", "\\u007f", "\\"\\\\/\\b\\u0000"]',
        '["é", "\u2028", "😀", "\x7f", "\\"\\\\/\\b\\u0000"]',
    ),
    "named tuples": ('{"x": "\\u00e9", "y": [{"x": 1, "y": 2.0}]}', '{"x": "é", "y": [{"x": 1, "y": 2.0}]}'),
    "bytes": ('{"b": "\\u00e9", "key": 1}', '{"b": "é", "key": 1}'),
}
ALIKE = {
    "numbers": "[1000000000000000000000000000000, 0.1, -0.0, 1e+16, 1e-07, NaN, Infinity, -Infinity]",
    "decimals": '{"a": 1.10, "b": [1E+5, NaN]}',
    "subclasses": '[1, {"b": 1}, {"row": {"a": 1}}, {"corners": [{"x": 0, "y": 1}]}]',
    "keys": '{"null": 1, "true": 6, "3": 4, "0.5": 5, "NaN": 7}',
    "many decimals": "[" + ", ".join(f"0.{number}" for number in range(40)) + "]",
}
REFUSED = {
    "key tuple": "Unable to marshal response: keys must be str, int, float, bool or None, not tuple",
    "key decimal": "Unable to marshal response: keys must be str, int, float, bool or None, not Decimal",
    "set": "Unable to marshal response: Object of type set is not JSON serializable",
    "enum": "Unable to marshal response: Object of type Money is not JSON serializable",
    "class": "Unable to marshal response: Object of type type is not JSON serializable",
    "odd": "Unable to marshal response: _asdict() must return a dict, not list",
    "no text": "Unable to marshal response: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
    "circle": "Unable to marshal response: Circular reference detected",
}
RUNTIMES = [f"python3.{minor}" for minor in range(9, 15)]


@pytest.fixture(scope="module")
def available(client: Any) -> list[str]:
    return [runtime["name"] for runtime in ask(client, "/_lambent/runtimes")["runtimes"] if runtime["available"]]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_results_are_encoded_as_by_the_contracts_own_runtime(
    deploy: Deploy, available: list[str], client: Any, runtime: str
) -> None:
    if runtime not in available:
        pytest.skip(f"{runtime} is not installed")
    function = deploy(SOURCE, Runtime=runtime)

    def ask_for(case: str) -> Any:
        return client.invoke(FunctionName=function.name, Payload=json.dumps(case))["Payload"].read()

    newer = int(runtime.rpartition(".")[2]) >= 12
    for case, texts in ASCII_UP_TO_3_11.items():
        assert ask_for(case).decode() == texts[newer], case
    for case, text in ALIKE.items():
        assert ask_for(case).decode() == text, case
    for case, message in REFUSED.items():
        error = json.loads(ask_for(case))
        assert (error["errorType"], error["stackTrace"]) == ("Runtime.MarshalError", []), case
        assert error["errorMessage"] == message, case


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_error_has_its_keys_in_order_and_its_stack_without_marks(
    deploy: Deploy, available: list[str], client: Any, runtime: str
) -> None:
    if runtime not in available:
        pytest.skip(f"{runtime} is not installed")
    function = deploy(
        "def handler(event, context):\n    raise KeyError('é') if event['a'] else None\n", Runtime=runtime
    )
    response = client.invoke(FunctionName=function.name, Payload=b'{"a": 1}')
    text = response["Payload"].read().decode()
    letter = "é" if int(runtime.rpartition(".")[2]) >= 12 else "\\u00e9"
    request_id = response["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    assert text == (
        f'{{"errorMessage": "\'{letter}\'", "errorType": "KeyError", "requestId": "{request_id}", "stackTrace": '
        f'["  File \\"/var/task/app.py\\", line 2, in handler\\n'
        f"    raise KeyError('{letter}') if event['a'] else None\\n\"]}}"
    )
    broken = deploy("def handler(event, context):\n    return event['a']['b']['c']\n", Runtime=runtime)
    error = json.loads(client.invoke(FunctionName=broken.name, Payload=b'{"a": {"b": {}}}')["Payload"].read())
    assert error["stackTrace"] == ["  File \"/var/task/app.py\", line 2, in handler\n    return event['a']['b']['c']\n"]

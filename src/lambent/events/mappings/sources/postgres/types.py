"""PostgreSQL's values, from their text to JSON.

| type | in JSON |
|---|---|
| boolean, smallint, integer, bigint, oid | boolean, number |
| real, double precision | number; NaN and infinities as text |
| numeric, money | text, since a JSON number would lose digits |
| json, jsonb | what it holds |
| bytea | base64 |
| date, time, timestamp | ISO 8601; with a time zone in UTC, ending in Z |
| arrays | arrays of the above |
| domains | as the type beneath |
| all others (uuid, text, enums, ranges, inet, geometry, ...) | PostgreSQL's own text |
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable
from typing import Any

SESSION = {"datestyle": "ISO", "timezone": "UTC", "intervalstyle": "iso_8601", "extra_float_digits": "1"}
"""Settings of the replicating session under which the texts are as this module reads them."""

QUERY = """
SELECT oid::int8, typname, CASE WHEN typcategory = 'A' THEN typelem ELSE 0 END::int8, typbasetype::int8, typdelim
FROM pg_type
"""


def _read_float(text: str) -> Any:
    value = float(text)
    return value if math.isfinite(value) else text


def _read_timestamp(text: str) -> str:
    text = text.replace(" ", "T", 1) if " BC" not in text else text
    return text[:-3] + "Z" if text.endswith("+00") else text


_READERS: dict[str, Callable[[str], Any]] = {
    "bool": lambda text: text == "t",
    **dict.fromkeys(("int2", "int4", "int8", "oid"), int),
    **dict.fromkeys(("float4", "float8"), _read_float),
    **dict.fromkeys(("json", "jsonb"), json.loads),
    "bytea": lambda text: base64.b64encode(bytes.fromhex(text.removeprefix("\\x"))).decode(),
    **dict.fromkeys(("timestamp", "timestamptz"), _read_timestamp),
    "timetz": lambda text: text[:-3] + "Z" if text.endswith("+00") else text,
}


class Types:
    """The types of one database, as `QUERY` lists them; what is not listed stays text."""

    def __init__(self, rows: Iterable[tuple[int, str, int, int, str]]) -> None:
        self._rows = {row[0]: row for row in rows}

    def read(self, type_id: int, text: str) -> Any:
        row = self._rows.get(type_id)
        if row is None:
            return text
        _, name, element, base, _ = row
        if base:
            return self.read(base, text)
        if element:
            delimiter = self._rows[element][4] if element in self._rows else ","
            return _ArrayText(text, delimiter, lambda item: self.read(element, item)).read()
        reader = _READERS.get(name)
        return text if reader is None else reader(text)


class _ArrayText:
    """An array's text: `{1,NULL,"a \\"b\\""}`, nested, and with bounds (`[0:1]={...}`), which JSON cannot say."""

    def __init__(self, text: str, delimiter: str, read: Callable[[str], Any]) -> None:
        self._text = text
        self._delimiter = delimiter
        self._read_item = read
        self._at = text.index("{")

    def read(self) -> list[Any]:
        items: list[Any] = []
        self._at += 1
        while self._text[self._at] != "}":
            items.append(self._read_one())
            if self._text[self._at] == self._delimiter:
                self._at += 1
        self._at += 1
        return items

    def _read_one(self) -> Any:
        if self._text[self._at] == "{":
            return self.read()
        if self._text[self._at] == '"':
            return self._read_item(self._read_quoted())
        begin = self._at
        while self._text[self._at] not in (self._delimiter, "}"):
            self._at += 1
        item = self._text[begin : self._at]
        return None if item == "NULL" else self._read_item(item)

    def _read_quoted(self) -> str:
        out = []
        self._at += 1
        while self._text[self._at] != '"':
            if self._text[self._at] == "\\":
                self._at += 1
            out.append(self._text[self._at])
            self._at += 1
        self._at += 1
        return "".join(out)

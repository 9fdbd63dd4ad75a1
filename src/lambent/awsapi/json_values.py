"""Values of a model's shapes as JSON: what the protocols `rest-json` and `json` share."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

import msgspec

from lambent.awsapi.models import Shape
from lambent.model.errors import CallerError

NUMBERS = ("integer", "long", "float", "double")
DECIMAL = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")


def decode_json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise serialization_error(f"the request body is not JSON: {exc}") from exc


def parse_structure(body: dict[str, Any], shape: Shape, path: str, *, only_body: bool = False) -> dict[str, Any]:
    parsed = {}
    for name, member in shape.members.items():
        if only_body and member.traits.get("location") is not None:
            continue
        value = body.get(member.traits.get("locationName", name))
        if value is not None:
            parsed[name] = parse_value(value, member, f"{path}.{name}" if path else name)
    return parsed


def parse_value(value: Any, shape: Shape, path: str) -> Any:
    kind = shape.kind
    if kind == "structure":
        return parse_structure(_expect(value, dict, shape, path), shape, path)
    if kind == "list":
        items = _expect(value, list, shape, path)
        return [parse_value(item, shape.item, f"{path}[{number}]") for number, item in enumerate(items)]
    if kind == "map":
        entries = _expect(value, dict, shape, path).items()
        return {key: parse_value(item, shape.value, f"{path}.{key}") for key, item in entries if item is not None}
    if kind == "string":
        return _expect(value, str, shape, path)
    if kind == "boolean":
        return _expect(value, bool, shape, path)
    if kind in NUMBERS:
        return _parse_number(value, shape, path)
    if kind == "timestamp":
        return parse_timestamp(value, shape)
    if kind == "blob":
        return _parse_blob(_expect(value, str, shape, path), path)
    return value


def _expect(value: Any, wanted: type[Any], shape: Shape, path: str) -> Any:
    if not isinstance(value, wanted):
        raise serialization_error(f"'{path}' must be a {shape.kind}, not {_json_name(value)}")
    return value


def _parse_number(value: Any, shape: Shape, path: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise serialization_error(f"'{path}' must be a number, not {_json_name(value)}")
    if shape.kind in ("float", "double"):
        return float(value)
    if isinstance(value, float) and not value.is_integer():
        raise serialization_error(f"'{path}' must be a whole number")
    return int(value)


def _parse_blob(text: str, path: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise serialization_error(f"'{path}' is not valid base64") from None


def parse_timestamp(value: Any, shape: Shape) -> datetime:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        if DECIMAL.fullmatch(value):
            return datetime.fromtimestamp(float(value), UTC)
        at = parsedate_to_datetime(value) if "," in value else datetime.fromisoformat(value.replace("Z", "+00:00"))
        return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        raise serialization_error(f"'{value}' is not a timestamp ({shape.name})") from None


def _json_name(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "null")


def serialization_error(message: str) -> CallerError:
    return CallerError("SerializationException", message, status=400)


def encode_value(value: Any, shape: Shape) -> Any:
    kind = shape.kind
    if kind == "structure":
        members = shape.members
        return {
            members[name].traits.get("locationName", name): encode_value(item, members[name])
            for name, item in value.items()
            if item is not None and name in members
        }
    if kind == "list":
        return [encode_value(item, shape.item) for item in value]
    if kind == "map":
        return {key: encode_value(item, shape.value) for key, item in value.items()}
    if kind == "blob":
        return base64.b64encode(value).decode()
    if kind == "timestamp":
        return encode_timestamp(value, shape)
    return value


def encode_timestamp(value: datetime, shape: Shape, *, default: str = "unixTimestamp") -> Any:
    form = shape.trait("timestampFormat") or default
    if form == "iso8601":
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if form == "rfc822":
        return format_datetime(value.astimezone(UTC), usegmt=True)
    return value.timestamp()

"""Definitions of APIs as OpenAPI documents: read safely from JSON or YAML, what all of them have alike, written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
import yaml

from lambent.frontdoor.answers import bad_request

LARGEST_BYTES = 6_291_456
BASE_PATHS = ("ignore", "prepend", "split")
_DEEPEST = 20


class _Unreadable(Exception):
    """The message says why."""


class _Loader(yaml.SafeLoader):
    """Without aliases: a few lines of them can stand for more than a machine holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise _Unreadable("aliases (*name) are not taken; write the value out")
        return super().compose_node(parent, index)


def read_definition(body: bytes) -> dict[str, Any]:
    """Raises CallerError `BadRequestException`."""
    try:
        document = _read(body)
    except _Unreadable as exc:
        raise bad_request(f"Invalid OpenAPI input: {exc}.") from exc
    version = str(document.get("swagger") or document.get("openapi") or "")
    if not version.startswith(("2.", "3.")):
        raise bad_request("Invalid OpenAPI input: it names neither swagger 2.0 nor openapi 3.0.")
    if not isinstance(document.get("paths"), dict):
        raise bad_request("Invalid OpenAPI input: paths is missing.")
    return document


def check_base_path(base_path: str | None) -> str:
    """Raises CallerError `BadRequestException`."""
    name = (base_path or "ignore").lower()
    if name not in BASE_PATHS:
        raise bad_request(f"basepath must be one of {', '.join(BASE_PATHS)}.")
    return name


def path_prefix(document: Mapping[str, Any], base_path: str) -> str:
    """What comes before every path: nothing, the base path, or what of it follows its first part."""
    servers = document.get("servers") or [{}]
    variables = servers[0].get("variables") or {}
    base = str((variables.get("basePath") or {}).get("default") or "")
    base = base or str(document.get("basePath") or urlsplit(str(servers[0].get("url") or "")).path)
    base = base.strip("/") if "{" not in base else ""
    if not base or base_path == "ignore":
        return ""
    kept = base if base_path == "prepend" else base.partition("/")[2]
    return f"/{kept}" if kept else ""


def security_schemes(document: Mapping[str, Any]) -> dict[str, Any]:
    schemes = document.get("securityDefinitions") or (document.get("components") or {}).get("securitySchemes")
    return schemes or {}


def endpoint_settings(document: Mapping[str, Any]) -> dict[str, Any]:
    """`x-amazon-apigateway-endpoint-configuration`: of the document in 2.0, of its first server in 3.0."""
    name = "x-amazon-apigateway-endpoint-configuration"
    return document.get(name) or (document.get("servers") or [{}])[0].get(name) or {}


def resolve(document: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """What a reference within the document leads to. Raises CallerError `BadRequestException`."""
    seen = 0
    while isinstance(value, dict) and "$ref" in value:
        place: Any = document
        for part in str(value["$ref"]).removeprefix("#/").split("/"):
            place = place.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(place, dict) else None
        seen += 1
        if place is None or seen > _DEEPEST:
            raise bad_request(f"the reference '{value['$ref']}' leads nowhere")
        value = place
    if not isinstance(value, dict):
        raise bad_request(f"an object was expected, not {type(value).__name__}")
    return value


def _read(body: bytes) -> dict[str, Any]:
    """Raises _Unreadable."""
    if len(body) > LARGEST_BYTES:
        raise _Unreadable("it is larger than 6 MB")
    try:
        if body.lstrip()[:1] == b"{":
            document = msgspec.json.decode(body)
        else:
            # Through JSON: dates and numbers as keys are texts there, as every other reader has them.
            document = msgspec.json.decode(msgspec.json.encode(_texts(yaml.load(body, _Loader))))  # noqa: S506
    except (ValueError, TypeError, yaml.YAMLError, RecursionError) as exc:
        reason = str(exc).splitlines()[0] if str(exc) else "it is nested too deeply"
        raise _Unreadable(f"it is neither JSON nor YAML: {reason}") from exc
    if not isinstance(document, dict):
        raise _Unreadable("it is no object")
    return document


def write_definition(document: dict[str, Any], accept: str) -> tuple[bytes, str]:
    """The document and its content type: YAML for who asks for it, else JSON."""
    if "yaml" in accept:
        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode(), "application/yaml"
    return msgspec.json.format(msgspec.json.encode(document), indent=2), "application/json"


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {_text(key): _texts(inner) for key, inner in value.items()}
    return [_texts(item) for item in value] if isinstance(value, list) else value


def _text(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)

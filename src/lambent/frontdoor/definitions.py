"""Definitions of APIs as documents: JSON or YAML, read safely and written."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

LARGEST_BYTES = 6_291_456


class BadDefinition(Exception):
    """The message says why."""


class _Loader(yaml.SafeLoader):
    """Without aliases: a few lines of them can stand for more than a machine holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise BadDefinition("aliases (*name) are not taken; write the value out")
        return super().compose_node(parent, index)


def read_definition(body: bytes) -> dict[str, Any]:
    """Raises BadDefinition."""
    if len(body) > LARGEST_BYTES:
        raise BadDefinition("it is larger than 6 MB")
    try:
        if body.lstrip()[:1] == b"{":
            document = msgspec.json.decode(body)
        else:
            # Through JSON: dates and numbers as keys are texts there, as every other reader has them.
            document = msgspec.json.decode(msgspec.json.encode(_texts(yaml.load(body, _Loader))))  # noqa: S506
    except (ValueError, TypeError, yaml.YAMLError, RecursionError) as exc:
        reason = str(exc).splitlines()[0] if str(exc) else "it is nested too deeply"
        raise BadDefinition(f"it is neither JSON nor YAML: {reason}") from exc
    if not isinstance(document, dict):
        raise BadDefinition("it is no object")
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

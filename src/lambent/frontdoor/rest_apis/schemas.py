"""Models: JSON schemas of bodies (draft 4), and patterns that whoever deploys writes.

Both are read by an engine that takes time in proportion to the text: a tenant's pattern must not hold the node.
Schemas are held in memory when first used, and nothing is ever fetched for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from lambent.frontdoor.answers import bad_request

if TYPE_CHECKING:
    import jsonschema_rs

Members = dict[str, Any]
_PLACE = "/restapis/"


class BadSchema(Exception):
    """The message says why."""


def check_schema(schema: str | None, models: Mapping[str, Members]) -> None:
    """Raises CallerError `BadRequestException`."""
    if not schema:
        return
    try:
        compile_schema(schema, models)
    except BadSchema as exc:
        raise bad_request(f"Invalid model specified: Validation Result: warnings : [], errors : [{exc}]") from exc


def check_pattern(member: str, pattern: str) -> None:
    """Raises CallerError."""
    try:
        _compile_pattern(pattern)
    except BadSchema as exc:
        raise bad_request(f"Invalid {member} '{pattern}': {exc}") from exc


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text is what the pattern says. A pattern that cannot be read matches nothing."""
    try:
        return _compile_pattern(pattern).is_valid(text)
    except BadSchema:
        return False


def compile_schema(schema: str, models: Mapping[str, Members]) -> jsonschema_rs.Draft4Validator:
    """References to other models of the API (`https://apigateway.amazonaws.com/restapis/ID/models/NAME`) are followed.

    Raises BadSchema.
    """
    # A third of a second to load, and most nodes validate nothing.
    import jsonschema_rs  # noqa: PLC0415

    def retrieve(uri: str) -> Any:
        name = uri.rpartition("/models/")[2]
        if _PLACE not in uri or name not in models:
            raise ValueError(f"{uri} is no model of this API")
        return msgspec.json.decode(models[name].get("schema") or "{}")

    try:
        document = msgspec.json.decode(schema)
        if not isinstance(document, dict):
            raise BadSchema("a schema is an object")
        # Without a name of its own, so that nothing is read relative to another place.
        document = {name: value for name, value in document.items() if name not in ("id", "$schema")}
        return jsonschema_rs.Draft4Validator(
            document, retriever=retrieve, pattern_options=jsonschema_rs.RegexOptions(size_limit=1_000_000)
        )
    except (ValueError, jsonschema_rs.ReferencingError) as exc:
        raise BadSchema(str(exc).splitlines()[0] if str(exc) else "it cannot be read") from exc


@lru_cache(maxsize=256)
def _compile_pattern(pattern: str) -> jsonschema_rs.Draft4Validator:
    document = {"type": "string", "pattern": f"^(?:{pattern})$"}
    return compile_schema(msgspec.json.encode(document).decode(), {})

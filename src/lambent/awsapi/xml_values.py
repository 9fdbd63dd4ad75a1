"""Values of a model's shapes as XML: what the protocols `query` and `rest-xml` share."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any
from xml.sax import saxutils

from lambent.awsapi.json_values import encode_timestamp
from lambent.awsapi.models import Shape

_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def escape(text: str) -> str:
    """For content. What XML has no form for becomes the replacement character."""
    # A carriage return that is not written as a reference is read as a line feed.
    return saxutils.escape(_UNWRITABLE.sub("\ufffd", text), {"\r": "&#13;", '"': "&quot;"})


def write_members(values: Mapping[str, Any], shape: Shape) -> str:
    """The elements of a structure's members, in the model's order; members that are None are left out."""
    return "".join(
        write_element(member.traits.get("locationName", name), values[name], member)
        for name, member in shape.members.items()
        if values.get(name) is not None and not member.trait("xmlAttribute")
    )


def write_element(name: str, value: Any, shape: Shape) -> str:
    kind = shape.kind
    if kind == "list":
        flattened = shape.trait("flattened")
        item_name = shape.item.traits.get("locationName", name if flattened else "member")
        items = "".join(write_element(item_name, item, shape.item) for item in value)
        return items if flattened else f"<{name}>{items}</{name}>"
    if kind == "map":
        flattened = shape.trait("flattened")
        key_name, value_name = (
            shape.key.traits.get("locationName", "key"),
            shape.value.traits.get("locationName", "value"),
        )
        entry_name = name if flattened else "entry"
        entries = "".join(
            f"<{entry_name}>{write_element(key_name, key, shape.key)}{write_element(value_name, item, shape.value)}"
            f"</{entry_name}>"
            for key, item in value.items()
            if item is not None
        )
        return entries if flattened else f"<{name}>{entries}</{name}>"
    if kind == "structure":
        return f"<{name}{_write_attributes(value, shape)}>{write_members(value, shape)}</{name}>"
    return f"<{name}>{escape(_show(value, shape))}</{name}>"


def _write_attributes(values: Mapping[str, Any], shape: Shape) -> str:
    space = shape.trait("xmlNamespace")
    written = f' xmlns:{space["prefix"]}="{escape(space["uri"])}"' if space and "prefix" in space else ""
    for name, member in shape.members.items():
        if member.trait("xmlAttribute") and values.get(name) is not None:
            written += f' {member.traits.get("locationName", name)}="{escape(_show(values[name], member))}"'
    return written


def _show(value: Any, shape: Shape) -> str:
    if shape.kind == "boolean":
        return "true" if value else "false"
    if shape.kind == "blob":
        return base64.b64encode(value).decode()
    if shape.kind == "timestamp":
        return str(encode_timestamp(value, shape, default="iso8601"))
    return str(value)

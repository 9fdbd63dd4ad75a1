"""The event stream encoding of AWS: messages of headers and a payload, each with its lengths and checksums.

    +--------------+---------------+-------------+---------+---------+-------------+
    | total length | header length | CRC of both | headers | payload | CRC of all  |      lengths and CRCs: 4 bytes,
    +--------------+---------------+-------------+---------+---------+-------------+      network order

A header is the length of its name (1 byte), the name, its type (7: text), the length of its value (2 bytes), the value.
Source: smithy.io, "Amazon Event Stream specification".
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

CONTENT_TYPE = b"application/vnd.amazon.eventstream"
_PRELUDE = struct.Struct("!II")
_CRC = struct.Struct("!I")
_TEXT = 7


def encode_event(kind: str, payload: bytes, *, content_type: str = "application/octet-stream") -> bytes:
    return encode_message({":event-type": kind, ":content-type": content_type, ":message-type": "event"}, payload)


def encode_exception(kind: str, payload: bytes) -> bytes:
    """An error that the operation's model lists, in the midst of a stream."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return encode_message(headers, payload)


def encode_message(headers: Mapping[str, str], payload: bytes) -> bytes:
    encoded = b"".join(_encode_header(name.encode(), value.encode()) for name, value in headers.items())
    total = _PRELUDE.size + _CRC.size + len(encoded) + len(payload) + _CRC.size
    prelude = _PRELUDE.pack(total, len(encoded))
    message = b"".join((prelude, _CRC.pack(zlib.crc32(prelude)), encoded, payload))
    return message + _CRC.pack(zlib.crc32(message))


def _encode_header(name: bytes, value: bytes) -> bytes:
    return struct.pack("!B", len(name)) + name + struct.pack("!BH", _TEXT, len(value)) + value

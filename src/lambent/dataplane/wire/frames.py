"""The few messages that cross the boundary between the node and a Python environment.

Standard library only, Python 3.9: the same file is read on both sides of the socket.

    +------+----------------+-----------+
    | kind | body length    | body      |      kind: 1 byte, length: 4 bytes, network order
    +------+----------------+-----------+

    kind          direction  body
    INVOKE   'I'  to child   invocation header (below), then the event's bytes
    READY    'R'  to node    JSON {"init_ms": float}: the function's module is imported
    FAILED   'F'  to node    error type, NUL, error payload: init failed and the child is about to exit
    RESULT   'O'  to node    the response's bytes
    ERROR    'E'  to node    error type, NUL, error payload
    STEP     'S'  to node    name of a confinement step, NUL, reason: confinement failed and the child exits

The header of INVOKE is `!QHHHHH` (deadline in ms since 1970, then the lengths of request id, ARN as invoked,
trace id, client context, Cognito identity), then these five as UTF-8.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Tuple

INVOKE, READY, FAILED, RESULT, ERROR, STEP = b"I", b"R", b"F", b"O", b"E", b"S"

HEAD = struct.Struct("!cI")
_INVOKE = struct.Struct("!QHHHHH")


class Call(NamedTuple):
    """One invocation as the runtime is handed it."""

    request_id: str
    event: bytes
    deadline_ms: int
    invoked_arn: str
    trace_id: str
    client_context: str
    cognito_identity: str


def encode(kind: bytes, body: bytes) -> bytes:
    return HEAD.pack(kind, len(body)) + body


def encode_call(call: Call) -> bytes:
    """A whole INVOKE frame."""
    texts = [text.encode() for text in (call[0], call[3], call[4], call[5], call[6])]
    head = _INVOKE.pack(call.deadline_ms, *map(len, texts))
    length = len(head) + sum(map(len, texts)) + len(call.event)
    return b"".join((HEAD.pack(INVOKE, length), head, *texts, call.event))


def decode_call(body: bytes) -> Call:
    """The body of an INVOKE frame. Raises ValueError when it is cut short."""
    try:
        deadline_ms, *lengths = _INVOKE.unpack_from(body)
    except struct.error as exc:
        raise ValueError("invoke frame is cut short") from exc
    at = _INVOKE.size
    texts = []
    for length in lengths:
        texts.append(body[at : at + length].decode())
        at += length
    if at > len(body):
        raise ValueError("invoke frame is cut short")
    return Call(texts[0], body[at:], deadline_ms, texts[1], texts[2], texts[3], texts[4])


def encode_error(kind: bytes, error_type: str, payload: bytes) -> bytes:
    return encode(kind, error_type.encode() + b"\0" + payload)


def decode_error(body: bytes) -> Tuple[str, bytes]:
    error_type, _, payload = body.partition(b"\0")
    return error_type.decode("utf-8", "replace"), payload

"""The few messages that cross the boundary between the node and a Python environment.

Standard library only, Python 3.9: the same file is read on both sides of the socket.

    +------+----------------+-----------+
    | kind | body length    | body      |      kind: 1 byte, length: 4 bytes, network order
    +------+----------------+-----------+

    kind          direction  body
    INVOKE   'I'  to child   invocation header (below), then the event's bytes
    STREAM   'V'  to child   as INVOKE, for a caller who reads the answer while it is written
    READY    'R'  to node    JSON {"init_ms": float}: the function's module is imported
    FAILED   'F'  to node    error type, NUL, error payload: init failed and the child is about to exit
    RESULT   'O'  to node    the response's bytes
    ERROR    'E'  to node    error type, NUL, error payload
    BEGIN    'B'  to node    content type: the function answers in pieces
    PIECE    'P'  to node    bytes of such an answer; RESULT without a body or ERROR ends it
    CANCEL   'C'  to child   nothing: nobody reads the answer that it is writing in pieces
    STEP     'S'  to node    name of a confinement step, NUL, reason: confinement failed and the child exits
    ABORT    'A'  to child   nothing: the time of this invocation is over; only where there are several at a time
    HOLD     'H'  to child   nothing: whoever reads this answer is behind; only where there are several at a time
    RELEASE  'G'  to child   nothing: the end of HOLD
    WAITING  'W'  to node    nothing: a shell waits to be used
    TAKEN    'T'  to node    nothing: it heard what it is to be
    USE      'U'  to child   JSON {"spec": {...}, "fds": ["scratch"]} + descriptors: what the shell is to be

An environment that takes several invocations at a time says so in READY ({"concurrency": n}, n > 1). From then on the
body of every frame that belongs to an invocation begins with its number, `!H`, which the node gives: CANCEL too.

The header of INVOKE is `!QHHHHH` (deadline in ms since 1970, then the lengths of request id, ARN as invoked,
trace id, client context, Cognito identity), then these five as UTF-8.
"""

from __future__ import annotations

import struct
from typing import Any, List, NamedTuple, Tuple

INVOKE, READY, FAILED, RESULT, ERROR, STEP = b"I", b"R", b"F", b"O", b"E", b"S"
WAITING, TAKEN, USE = b"W", b"T", b"U"
BEGIN, PIECE, CANCEL, STREAM = b"B", b"P", b"C", b"V"
ABORT, HOLD, RELEASE = b"A", b"H", b"G"

HEAD = struct.Struct("!cI")
NUMBER = struct.Struct("!H")
_INVOKE = struct.Struct("!QHHHHH")
_NUMBERED = struct.Struct("!cIH")
_INVOKE_HEAD = struct.Struct("!cIQHHHHH")
"""Both in one: network order has no padding."""


class Call(NamedTuple):
    """One invocation as the runtime is handed it."""

    request_id: str
    event: bytes
    deadline_ms: int
    invoked_arn: str
    trace_id: str
    client_context: str
    cognito_identity: str
    streamed: bool = False
    """The caller reads the answer while it is written."""


def encode(kind: bytes, body: bytes) -> bytes:
    return HEAD.pack(kind, len(body)) + body


def encode_numbered(kind: bytes, number: int, body: bytes) -> bytes:
    """A frame of one of several invocations."""
    return _NUMBERED.pack(kind, NUMBER.size + len(body), number) + body


def encode_call(call: Call, number: int = -1) -> bytes:
    """A whole INVOKE frame; with a number, that of one of several invocations."""
    kind = STREAM if call.streamed else INVOKE
    texts = (call.request_id, call.invoked_arn, call.trace_id, call.client_context, call.cognito_identity)
    data = "".join(texts).encode()
    # Nearly always ASCII, where characters and bytes are the same number.
    lengths = [len(text) for text in texts]
    if len(data) != sum(lengths):
        lengths = [len(text.encode()) for text in texts]
    length = _INVOKE.size + len(data) + len(call.event)
    if number >= 0:
        head = _NUMBERED.pack(kind, NUMBER.size + length, number)
        return head + _INVOKE.pack(call.deadline_ms, *lengths) + data + call.event
    return _INVOKE_HEAD.pack(kind, length, call.deadline_ms, *lengths) + data + call.event


def decode_call(body: bytes) -> Call:
    """The body of an INVOKE or a STREAM frame. Raises ValueError when it is cut short."""
    try:
        deadline_ms, *lengths = _INVOKE.unpack_from(body)
    except struct.error as exc:
        raise ValueError("invoke frame is cut short") from exc
    end = _INVOKE.size + sum(lengths)
    if end > len(body):
        raise ValueError("invoke frame is cut short")
    data = body[_INVOKE.size : end]
    texts = data.decode()
    if len(texts) != len(data):
        return Call._make(_split_call(data, lengths, body[end:], deadline_ms))
    first, second, third, fourth, _ = lengths
    second += first
    third += second
    fourth += third
    return Call(
        texts[:first],
        body[end:],
        deadline_ms,
        texts[first:second],
        texts[second:third],
        texts[third:fourth],
        texts[fourth:],
    )


def _split_call(data: bytes, lengths: List[int], event: bytes, deadline_ms: int) -> List[Any]:
    texts, at = [], 0
    for length in lengths:
        texts.append(data[at : at + length].decode())
        at += length
    return [texts[0], event, deadline_ms, *texts[1:]]


def encode_error(kind: bytes, error_type: str, payload: bytes) -> bytes:
    return encode(kind, error_type.encode() + b"\0" + payload)


def decode_error(body: bytes) -> Tuple[str, bytes]:
    error_type, _, payload = body.partition(b"\0")
    return error_type.decode("utf-8", "replace"), payload

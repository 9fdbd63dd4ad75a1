"""The lines of a log file: each is one JSON document, an event or the three events of a quick invocation.

Encoding by templates, at a third of the cost of encoding a struct: it is done for every invocation.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from lambent.telemetry.function_logs import LogEvent, LogKind, LogStream, QuickInvocation, StoredEvent
from lambent.telemetry.records import InvocationRecord

_MAX_HEADS = 4_096
_QUICK = (
    b'{"sequence":%d,"timestamp_ms":%d%b"%b","kind":"quick","started_ms":%d,'
    b'"duration_ms":%.2f,"billed_ms":%d,"memory_mb":%d,"max_memory_mb":%d}\n'
)


class _Line(msgspec.Struct, kw_only=True, gc=False):
    """What a line can hold; the last six only of a quick invocation."""

    sequence: int
    timestamp_ms: int
    stream: str
    request_id: str
    kind: Literal["platform", "function", "quick"]
    message: str = ""
    started_ms: int = 0
    duration_ms: float = 0.0
    billed_ms: int = 0
    memory_mb: int = 0
    max_memory_mb: int = 0


_decoder = msgspec.json.Decoder(_Line)


def decode_line(line: bytes) -> list[StoredEvent]:
    """The events of a line, in order. Raises msgspec.DecodeError for one that is cut short."""
    fields = _decoder.decode(line)
    if fields.kind == "quick":
        return _expand(fields)
    return [_store(fields, 0, fields.timestamp_ms, fields.message, fields.kind)]


def _expand(fields: _Line) -> list[StoredEvent]:
    version, _, environment_id = fields.stream.removeprefix("[").partition("]")
    record = InvocationRecord(
        request_id=fields.request_id,
        account="",
        function="",
        version=version,
        environment_id=environment_id,
        cold=False,
        init_ms=None,
        duration_ms=fields.duration_ms,
        billed_ms=fields.billed_ms,
        memory_mb=fields.memory_mb,
        max_memory_mb=fields.max_memory_mb,
        error_type="",
    )
    quick = QuickInvocation(record=record, started_ms=fields.started_ms, ended_ms=fields.timestamp_ms)
    return [
        _store(fields, number, event.timestamp_ms, str(event.message), event.kind)
        for number, event in enumerate(quick.events())
    ]


def _store(fields: _Line, number: int, timestamp_ms: int, message: str, kind: LogKind) -> StoredEvent:
    return StoredEvent(
        sequence=fields.sequence + number,
        timestamp_ms=timestamp_ms,
        stream=fields.stream,
        request_id=fields.request_id,
        kind=kind,
        message=message,
    )


class LineEncoder:
    """Keeps what is the same in all lines of a stream. For one thread."""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()
        self._heads: dict[LogStream, bytes] = {}

    def encode_quick(self, stream: LogStream, quick: QuickInvocation, sequence: int) -> bytes:
        """Takes as many numbers from `sequence` on as it has events."""
        record = quick.record
        # Only ids and numbers of our own: nothing here needs to be escaped.
        return _QUICK % (
            sequence,
            quick.ended_ms,
            self._head_of(stream),
            record.request_id.encode(),
            quick.started_ms,
            record.duration_ms,
            record.billed_ms,
            record.memory_mb,
            record.max_memory_mb,
        )

    def encode_event(self, stream: LogStream, event: LogEvent, sequence: int) -> bytes:
        message = event.message
        return b'{"sequence":%d,"timestamp_ms":%d%b%b,"kind":"%b","message":%b}\n' % (
            sequence,
            event.timestamp_ms,
            self._head_of(stream),
            self._encoder.encode(event.request_id),
            event.kind.encode(),
            self._encode_text(message if isinstance(message, str) else message.decode("utf-8", "replace")),
        )

    def encode_stored(self, event: StoredEvent) -> bytes:
        return b'{"sequence":%d,"timestamp_ms":%d,"stream":%b,"request_id":%b,"kind":"%b","message":%b}\n' % (
            event.sequence,
            event.timestamp_ms,
            self._encoder.encode(event.stream),
            self._encoder.encode(event.request_id),
            event.kind.encode(),
            self._encode_text(event.message),
        )

    def _encode_text(self, text: str) -> bytes:
        try:
            return self._encoder.encode(text)
        except UnicodeEncodeError:
            return self._encoder.encode(text.encode("utf-8", "replace").decode())

    def _head_of(self, stream: LogStream) -> bytes:
        head = self._heads.get(stream)
        if head is None:
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            name = self._encoder.encode(f"[{stream.version}]{stream.environment_id}")
            head = self._heads[stream] = b',"stream":' + name + b',"request_id":'
        return head

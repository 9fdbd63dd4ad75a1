"""What an operation of object storage is given and gives, beside its parameters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from lambent.awsapi.context import RequestContext
from lambent.events.storage.body import Body
from lambent.events.storage.files import Piece


class Call(NamedTuple):
    context: RequestContext
    body: Body | None = None
    """Of operations that stream it; else it stands in the parameters."""
    trace_id: str = ""
    source_ip: str = ""


class Download(NamedTuple):
    """Bytes to be sent. Their pieces are held while that is done."""

    pieces: Sequence[Piece]
    start: int
    length: int


class Result(NamedTuple):
    values: Mapping[str, Any]
    status: int = 0
    """0: the operation's own."""
    download: Download | None = None


Operation = Callable[[Call, dict[str, Any]], Awaitable[Result]]

"""What the Runtime API says: its paths, its answers and their bytes. No I/O.

Statuses, headers and bodies are those of the contract's own emulator, except where noted.
"""

from __future__ import annotations

import dataclasses
import email.utils
import enum
import functools
import json
import re
import time

from lambent.dataplane.wire.frames import Call
from lambent.model.limits import SYNC_PAYLOAD_BYTES

MAX_HEAD_BYTES = 1_048_576 + 4_096
"""Request line and headers together, as the contract's emulator allows; runtimes send traces of up to 1 MB."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_PREFIX = b"/2018-06-01/runtime/"
_JSON = b"application/json"
_TEXT = b"text/plain; charset=utf-8"
_REASONS = {
    200: b"OK",
    202: b"Accepted",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    413: b"Request Entity Too Large",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
}
_ERROR_TYPE = re.compile(rb"(?:Runtime|Function)\.[A-Z][a-zA-Z]{1,120}")


class Operation(enum.Enum):
    NEXT = "next"
    RESPONSE = "response"
    ERROR = "error"
    INIT_ERROR = "init/error"


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    operation: Operation
    request_id: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """`fields` are further header lines, each ended by CR LF."""

    status: int
    body: bytes
    content_type: bytes = _JSON
    fields: bytes = b""

    def render(self, *, head_only: bool = False, close: bool = False) -> bytes:
        """The whole answer in one piece: a second write would cost the client a delayed acknowledgement (40 ms).

        It always has a Content-Type, without which the Python runtime interface client crashes.
        """
        return b"".join(
            (
                b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\n" % (self.status, _REASONS[self.status], self.content_type),
                self.fields,
                b"Connection: close\r\n" if close else b"",
                b"Date: %b\r\nContent-Length: %d\r\n\r\n" % (_date(int(time.time())), len(self.body)),
                b"" if head_only else self.body,
            )
        )


def find_route(method: bytes, target: bytes) -> Route | Answer:
    """The operation that a request line names, or the answer that says why there is none."""
    path = target.partition(b"?")[0]
    if path.startswith(b"http://"):
        path = b"/" + path[7:].partition(b"/")[2]
    if not path.startswith(_PREFIX):
        return NOT_FOUND
    route = _find_operation(path[len(_PREFIX) :])
    if route is None:
        return NOT_FOUND
    allowed = b"GET" if route.operation is Operation.NEXT else b"POST"
    return route if method == allowed else Answer(405, b"", _TEXT, b"Allow: %b\r\n" % allowed)


def _find_operation(path: bytes) -> Route | None:
    if path == b"invocation/next":
        return Route(Operation.NEXT)
    if path == b"init/error":
        return Route(Operation.INIT_ERROR)
    area, _, rest = path.partition(b"/")
    request_id, _, last = rest.partition(b"/")
    if area != b"invocation" or not request_id or last not in (b"response", b"error"):
        return None
    return Route(Operation(last.decode()), request_id.decode("latin-1"))


def answer_next(call: Call) -> Answer:
    fields = [
        b"Lambda-Runtime-Aws-Request-Id: %b\r\n" % _field_value(call.request_id),
        b"Lambda-Runtime-Deadline-Ms: %d\r\n" % call.deadline_ms,
        b"Lambda-Runtime-Invoked-Function-Arn: %b\r\n" % _field_value(call.invoked_arn),
    ]
    for name, value in (
        (b"Lambda-Runtime-Trace-Id", call.trace_id),
        (b"Lambda-Runtime-Client-Context", call.client_context),
        (b"Lambda-Runtime-Cognito-Identity", call.cognito_identity),
    ):
        if value:
            fields.append(b"%b: %b\r\n" % (name, _field_value(value)))
    return Answer(200, call.event, fields=b"".join(fields))


def refuse(status: int, error_type: str, message: str) -> Answer:
    return Answer(status, error_document(error_type, message) + b"\n")


def error_document(error_type: str, message: str) -> bytes:
    return json.dumps({"errorMessage": message, "errorType": error_type}, separators=(",", ":")).encode()


def filter_error_type(value: bytes) -> str:
    """What is kept of a `Lambda-Runtime-Function-Error-Type`; all else is unknown (runtimes API, "Error type")."""
    match = _ERROR_TYPE.search(value)
    if match is not None:
        return match.group().decode()
    return "Function.Unknown" if value.startswith(b"Function.") else "Runtime.Unknown"


def _field_value(text: str) -> bytes:
    # A caller chooses some of these; a line break in them must not become a header of ours.
    return text.encode("utf-8", "replace").translate(_ONE_LINE)


@functools.lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    return email.utils.formatdate(second, usegmt=True).encode()


_ONE_LINE = bytes(byte if byte >= 0x20 or byte == 0x09 else 0x20 for byte in range(256))

ACCEPTED = Answer(202, b'{"status":"OK"}\n')
NOT_FOUND = Answer(404, b"404 page not found\n", _TEXT)
MALFORMED = Answer(400, b"400 Bad Request", _TEXT)
HEAD_TOO_LARGE = Answer(431, b"431 Request Header Fields Too Large", _TEXT)
INVALID_REQUEST_ID = refuse(400, "InvalidRequestID", "Invalid request ID")
INVALID_RESPONSE_MODE = refuse(400, "InvalidFunctionResponseMode", "Invalid function response mode")
TRUNCATED = refuse(400, "TruncatedHTTPRequest", "HTTP request detected as truncated")
BODY_TOO_LARGE = refuse(
    413, "RequestEntityTooLarge", f"Exceeded maximum allowed payload size ({SYNC_PAYLOAD_BYTES} bytes)."
)
INTERNAL_ERROR = refuse(500, "InternalServerError", "Internal Server Error")

"""Access logs of stages: one line for each request, in the words of the API's owner.

Sources: API Gateway developer guide, "Customize HTTP API access logs", "Variables for access logging for API Gateway".
A format is one line with `$context.NAME` in it; what is not known is `-`. In a format that is JSON values are escaped,
so that no client breaks out of its string; nowhere does a value bring a line break with it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from lambent.frontdoor.answers import bad_request
from lambent.frontdoor.call import HttpAnswer
from lambent.telemetry.function_logs import LogEvent, LogStream
from lambent.telemetry.log_groups import log_key, parse_group_arn

Write = Callable[[LogStream, Sequence[LogEvent]], None]
"""Never waits and never raises."""
Facts = dict[str, Any]
"""What becomes known of a request on its way, by the names of `$context`: `integration.latency`, `error.message`."""

LARGEST_FORMAT = 3_072
_VARIABLE = re.compile(r"\$\{?context\.([A-Za-z0-9_.-]*[A-Za-z0-9_-])\}?")
_IDS = ("requestId", "extendedRequestId")


class AccessLog(NamedTuple):
    """Where the lines of a stage go, and how they look."""

    format: str
    stream: LogStream
    is_json: bool

    def write_line(self, find: Callable[[str], Any]) -> str:
        """`find` gives the value of a name of `$context`; None or an empty text for none."""

        def value(matched: re.Match[str]) -> str:
            text = _show(find(matched[1]))
            return json.dumps(text, ensure_ascii=False)[1:-1] if self.is_json else _LINE_BREAKS.sub(" ", text)

        return _VARIABLE.sub(value, self.format)


_LINE_BREAKS = re.compile(r"[\x00-\x1f\x7f]+")


def check_access_log(given: Mapping[str, Any] | None, account: str, *, destination: str, form: str) -> None:
    """`destination` and `form` are the names of the members. Raises CallerError `BadRequestException`."""
    if not given:
        return
    arn, text = given.get(destination) or "", given.get(form) or ""
    if not arn or not text:
        raise bad_request(f"Access logs need both {destination} and {form}.")
    group = parse_group_arn(arn)
    if group is None:
        raise bad_request(
            f"Invalid {destination} '{arn}': it must be the ARN of a log group, "
            "arn:aws:logs:REGION:ACCOUNT:log-group:NAME."
        )
    if group[0] != account:
        raise bad_request(f"Invalid {destination}: the log group must be of this account, {account}.")
    if len(text) > LARGEST_FORMAT:
        raise bad_request(f"Access Log format must not have more than {LARGEST_FORMAT} characters.")
    if "\n" in text.rstrip("\n"):
        raise bad_request(
            "Access Log format must be single line, new line character is allowed only at end of the format"
        )
    if not any(name in _IDS for name in _VARIABLE.findall(text)):
        raise bad_request("Access Log format must contain $context.requestId or $context.extendedRequestId.")


def read_access_log(
    given: Mapping[str, Any] | None, *, api_id: str, stage: str, destination: str, form: str
) -> AccessLog | None:
    """None for a stage without one."""
    if not given or not given.get(destination) or not given.get(form):
        return None
    group = parse_group_arn(given[destination])
    if group is None:
        return None
    text = given[form].rstrip("\n")
    stream = LogStream(account=group[0], function=log_key(group[1]), version=stage, environment_id=api_id)
    return AccessLog(text, stream, text.lstrip().startswith("{"))


class AccessWriter:
    """Writes what came of a request once its answer is complete."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def write(self, access: AccessLog, find: Callable[[str], Any], *, request_id: str) -> None:
        line = access.write_line(find)
        event = LogEvent(
            timestamp_ms=int(time.time() * 1000), request_id=request_id, message=line.encode(), kind="platform"
        )
        self._write(access.stream, [event])

    def follow(
        self, access: AccessLog, answer: HttpAnswer, find: Callable[[str], Any], *, request_id: str, began: float
    ) -> HttpAnswer:
        """The answer; one that comes in pieces is written down at its end. `began` by `time.perf_counter`."""

        def note(length: int) -> None:
            latency_ms = round((time.perf_counter() - began) * 1000)
            known = {"status": answer.status, "responseLength": length, "responseLatency": latency_ms}
            self.write(access, lambda name: known[name] if name in known else find(name), request_id=request_id)

        if isinstance(answer.body, bytes):
            note(len(answer.body))
            return answer

        async def pieces() -> AsyncIterator[bytes]:
            length = 0
            try:
                async for piece in answer.body:
                    length += len(piece)
                    yield piece
            finally:
                close = getattr(answer.body, "aclose", None)
                if close is not None:
                    await close()
                note(length)

        return msgspec.structs.replace(answer, body=pieces())


def find_in(context: Mapping[str, Any], name: str) -> Any:
    """A member of nested values by its path: `identity.sourceIp`."""
    value: Any = context
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _show(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()

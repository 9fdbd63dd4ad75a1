from __future__ import annotations

import json
import re
import sys
import time
from datetime import UTC, datetime

import click

from lambent.cli.failures import UNREACHABLE, USAGE, Failure
from lambent.cli.output import is_terminal, note, paint, say, wrap
from lambent.cli.session import complete_function, json_option, with_client
from lambent.client.client import Client
from lambent.client.shapes import LogLine

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_STAMP_COLUMNS = 14
_AGE = re.compile(r"(\d+)\s*([smhdw])")


@click.command("logs")
@click.argument("name", shell_complete=complete_function)
@click.option("--group", "is_group", is_flag=True, help="NAME is a log group: the access log of an API.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines as they come.")
@click.option("--since", metavar="AGE|TIME", help="Only lines since then: 30s, 10m, 2h, 7d, 2026-11-23T08:00.")
@click.option("-n", "--limit", metavar="N", type=click.IntRange(1, 10_000), default=200, help="How many lines. [200]")
@json_option
@with_client
def command(
    client: Client, *, name: str, is_group: bool, follow: bool, since: str | None, limit: int, as_json: bool
) -> int:
    """Show a function's log, or with --group that of a log group.

    With --json one JSON document a line.
    """
    since_ms = parse_since(since, now=time.time()) if since else 0
    if follow and not is_group:
        client.get_function(name)
    read = client.group_logs if is_group else client.logs
    shown, day = 0, datetime.now().astimezone().date()
    for line in read(name, since_ms=since_ms, limit=limit, follow=follow):
        shown += 1
        written_on = datetime.fromtimestamp(line["timestamp_ms"] / 1000).astimezone().date()
        if written_on != day and not as_json and is_terminal(sys.stdout):
            # Each line has the time alone.
            say(paint(written_on.isoformat(), stream=sys.stdout, bold=True))
        day = written_on
        say(json.dumps(line, ensure_ascii=False) if as_json else _show(line))
        sys.stdout.flush()
    if follow:
        raise Failure("The node ended the log stream; it is stopping.", code=UNREACHABLE)
    if not shown:
        if not is_group:
            # A function without lines is told from one that does not exist.
            client.get_function(name)
        note(f"{name} has written nothing{_show_since(since)}.")
    return 0


def parse_since(text: str, *, now: float) -> int:
    """Milliseconds since 1970 of an age or a time; a time without zone is this machine's. Raises Failure."""
    matched = _AGE.fullmatch(text.strip())
    if matched:
        return int((now - int(matched[1]) * _UNITS_S[matched[2]]) * 1000)
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Failure(
            f"--since {text} is neither an age (30s, 10m, 2h, 7d) nor a time (2026-11-23T08:00).", code=USAGE
        ) from None


def _show_since(since: str | None) -> str:
    if not since:
        return " yet"
    return f" in the last {since}" if _AGE.fullmatch(since.strip()) else f" since {since}"


def unfold(message: str, *, indent: int = 0) -> str:
    """Runtimes write the lines of one message with carriage returns between them; a terminal would overwrite them."""
    return message.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\n" + " " * indent)


def _show(line: LogLine) -> str:
    at = datetime.fromtimestamp(line["timestamp_ms"] / 1000, UTC)
    message = line["message"].rstrip("\n")
    if not is_terminal(sys.stdout):
        return f"{at.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}  {message}"
    stamp = paint(at.astimezone().strftime("%H:%M:%S.%f")[:-3], stream=sys.stdout, dim=True)
    if line["kind"] != "platform":
        return f"{stamp}  {unfold(message, indent=_STAMP_COLUMNS)}"
    # The platform's lines stand back behind the function's own.
    text = wrap(message.replace("\t", "  "), stream=sys.stdout, indent=_STAMP_COLUMNS)
    return f"{stamp}  {paint(text, stream=sys.stdout, dim=True)}"

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from lambent.cli.output import is_terminal, note, say, write_facts, write_json, write_table
from lambent.cli.session import json_option, with_client
from lambent.client.client import Client

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_STATES = click.Choice(["waiting", "running", "done", "failed", "dead"])


@click.group("events")
def command() -> None:
    """List, show, redrive and drop asynchronous events."""


def _filters(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--error", default="", help="Only those whose last error has this text."),
        click.option("--since", default="", help="Only those accepted since: 30m, 2h, 1d, or an ISO 8601 time."),
        click.option("--state", type=_STATES, default=None, help="Only those in this state."),
        click.option("--function", "name", default="", help="Only those of this function."),
    ):
        function = option(function)
    return function


@command.command("ls")
@_filters
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many.")
@json_option
@with_client
def list_events(
    client: Client, *, name: str, state: str | None, since: str, error: str, limit: int, as_json: bool
) -> None:
    """List events, the newest first."""
    chosen = _choose((), name, state, since, error)
    query = {key: str(value) for key, value in chosen.items() if value}
    events = client.list_events({**query, "limit": str(limit)})
    if as_json:
        write_json(events)
        return
    if not events:
        note("There are no such events.")
        return
    rows = [
        [
            event["request_id"],
            _name(event),
            event["state"],
            str(event["attempts"]),
            _show_when(event["accepted_at"]),
            event["error"],
        ]
        for event in events
    ]
    write_table(["REQUEST", "FUNCTION", "STATE", "ATTEMPTS", "ACCEPTED", "ERROR"], rows, right=["ATTEMPTS"])


@command.command("show")
@click.argument("request_id")
@json_option
@with_client
def show_event(client: Client, request_id: str, as_json: bool) -> None:
    """Show an event, its payload and its attempts."""
    event = client.get_event(request_id)
    if as_json:
        write_json(event)
        return
    write_facts(
        [
            ("Request", event["request_id"]),
            ("Function", _name(event)),
            ("State", event["state"]),
            ("Accepted", _show_time(event["accepted_at"])),
            *([("Error", event["error"])] if event["error"] else []),
        ]
    )
    say()
    rows = [[str(each["number"]), _show_time(each["started_at"]), each["outcome"]] for each in event["history"]]
    write_table(["ATTEMPT", "STARTED", "OUTCOME"], rows, right=["ATTEMPT"])
    say()
    write_json(event["payload"])


@command.command("redrive")
@click.argument("request_ids", metavar="[REQUEST_ID...]", nargs=-1)
@_filters
@click.option("--to", default="", help="Run them at this version or alias instead.")
@json_option
@with_client
def redrive_events(
    client: Client,
    *,
    request_ids: tuple[str, ...],
    name: str,
    state: str | None,
    since: str,
    error: str,
    to: str,
    as_json: bool,
) -> None:
    """Run ended events again: those named, or all dead and failed ones that the filters choose."""
    count = client.redrive_events({**_choose(request_ids, name, state, since, error), "to": to})
    _say(count, "redriven", as_json)


@command.command("drop")
@click.argument("request_ids", metavar="[REQUEST_ID...]", nargs=-1)
@_filters
@json_option
@with_client
def drop_events(
    client: Client, *, request_ids: tuple[str, ...], name: str, state: str | None, since: str, error: str, as_json: bool
) -> None:
    """Forget events that do not run: those named, or all dead ones (--state for others) that the filters choose."""
    count = client.drop_events(_choose(request_ids, name, state, since, error))
    _say(count, "dropped", as_json)


def _say(count: int, done: str, as_json: bool) -> None:
    if as_json:
        write_json({done: count})
    else:
        note(f"{count} event{'' if count == 1 else 's'} {done}.")


def _choose(ids: tuple[str, ...], name: str, state: str | None, since: str, error: str) -> dict[str, Any]:
    wanted: dict[str, Any] = {"ids": list(ids), "function": name, "state": state or "", "error": error}
    return wanted | ({"since": _parse_since(since)} if since else {})


def _parse_since(text: str) -> float:
    matched = re.fullmatch(r"(\d+)([smhd])", text)
    if matched is not None:
        return time.time() - int(matched[1]) * _UNITS[matched[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise click.BadParameter(
            f"'{text}' is neither like 30m, 2h, 1d nor an ISO 8601 time", param_hint="--since"
        ) from None


def _name(event: dict[str, Any]) -> str:
    return f"{event['function']}:{event['qualifier']}" if event["qualifier"] else str(event["function"])


def _show_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _show_when(seconds: float) -> str:
    """As short as a list on a terminal needs it: the time of what was today, the date of what was not."""
    if not is_terminal(sys.stdout):
        return _show_time(seconds)
    at = datetime.fromtimestamp(seconds).astimezone()
    return at.strftime("%H:%M:%S" if at.date() == datetime.now().astimezone().date() else "%Y-%m-%d")

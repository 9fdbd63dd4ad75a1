from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import click

from lambent.cli.failures import FUNCTION_FAILED, Failure
from lambent.cli.logs import unfold
from lambent.cli.output import is_terminal, note, paint, write_json
from lambent.cli.session import complete_function, json_option, with_client
from lambent.client.client import Client
from lambent.client.shapes import Invocation


@click.command("invoke")
@click.argument("name", shell_complete=complete_function)
@click.option("-d", "--data", metavar="JSON|@FILE|-", default="{}", help="The event; - reads stdin. [{}]")
@click.option("--qualifier", metavar="NAME", default="", help="A version or an alias. [$LATEST]")
@click.option("--async", "is_async", is_flag=True, help="Do not wait: the node keeps the event and runs it.")
@click.option("--tail", is_flag=True, help="Show the invocation's log lines on stderr.")
@click.option("--raw", is_flag=True, help="Print the payload byte for byte.")
@json_option
@with_client
def command(
    client: Client, *, name: str, data: str, qualifier: str, is_async: bool, tail: bool, raw: bool, as_json: bool
) -> int:
    """Invoke a function and print what it returns.

    The payload goes to stdout, everything else to stderr. Exit code 5 when the function failed.

    \b
      lambent invoke hello -d '{"name": "you"}'
      lambent invoke hello -d @event.json --tail
      cat event.json | lambent invoke hello -d -
    """
    kind = "Event" if is_async else "RequestResponse"
    result = client.invoke(name, read_event(data), kind=kind, qualifier=qualifier, tail=tail and not is_async)
    if as_json:
        write_json(_describe(result))
    elif is_async:
        note(f"Accepted as request {result.request_id}.\n  Its log: lambent logs {name}")
    else:
        _write_payload(result.payload, raw=raw)
    if result.log and not as_json:
        note(unfold(result.log.rstrip("\n")))
    if not result.function_error:
        return 0
    if not as_json:
        _explain(name, result)
    return FUNCTION_FAILED


def read_event(data: str) -> bytes:
    """The bytes of `-d`. Raises Failure for a file that cannot be read and for what is not JSON."""
    source = "-d"
    if data == "-":
        source, event = "stdin", sys.stdin.buffer.read()
    elif data.startswith("@"):
        source = data[1:]
        try:
            event = Path(source).read_bytes()
        except OSError as exc:
            raise Failure(f"{source} cannot be read: {exc.strerror}. Name a file after the @.", code=2) from exc
    else:
        event = data.encode()
    try:
        json.loads(event)
    except ValueError as exc:
        hint = """Quote it for the shell: -d '{"name": "you"}'""" if source == "-d" else ""
        raise Failure(f"{source} is not JSON: {exc}.", code=2, hint=hint) from exc
    return event


def _write_payload(payload: bytes, *, raw: bool) -> None:
    if not raw and is_terminal(sys.stdout):
        with contextlib.suppress(ValueError):
            payload = json.dumps(json.loads(payload), indent=2, ensure_ascii=False).encode()
    sys.stdout.flush()
    sys.stdout.buffer.write(payload if raw else payload.rstrip(b"\n") + b"\n")
    sys.stdout.buffer.flush()


def _describe(result: Invocation) -> dict[str, object]:
    try:
        payload = json.loads(result.payload) if result.payload else None
    except ValueError:
        payload = result.payload.decode(errors="replace")
    return {
        "status": result.status,
        "executed_version": result.executed_version or None,
        "function_error": result.function_error or None,
        "request_id": result.request_id,
        "payload": payload,
        "log": result.log.splitlines() or None,
    }


def _explain(name: str, result: Invocation) -> None:
    try:
        told = json.loads(result.payload)
    except ValueError:
        told = {}
    told = told if isinstance(told, dict) else {}
    kind, message = told.get("errorType"), told.get("errorMessage")
    text = ": ".join(str(part) for part in (kind, message) if part) or result.function_error
    note(paint(f"{name} failed: {text}", stream=sys.stderr, fg="red"))
    note(f"  Its log: lambent logs {name}   (request {result.request_id})")

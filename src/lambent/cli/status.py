from __future__ import annotations

import sys
from collections.abc import Mapping

import click

from lambent.cli.output import say, show_duration, wrap, write_facts, write_json, write_table
from lambent.cli.session import json_option, with_client
from lambent.client.client import Client
from lambent.client.shapes import EnvironmentStatus, Status

_MOST_ROWS = 50
_USUAL = ("invocations", "cold_starts", "errors", "timeouts", "billed_ms")
_COLD_STARTS, _REASON = "cold_starts", "cold_"
_WORDS = {"billed_ms": "ms billed"}


@click.command("status")
@json_option
@with_client
def command(client: Client, as_json: bool) -> None:
    """Show the node, its environments and its counters."""
    status = client.status()
    if as_json:
        write_json(status)
        return
    write_facts(_facts(client, status))
    environments = status.get("environments", [])
    say()
    if not environments:
        say("No environments: nothing was invoked lately.")
        return
    rows = [
        [
            environment["function"],
            environment["version"],
            _state(environment),
            str(environment.get("pid", "")),
            f"{environment.get('memory_mb', 0)} MB",
            str(environment.get("invocations", "")),
            show_duration(idle) if (idle := environment.get("idle_s")) is not None else "",
        ]
        for environment in environments[:_MOST_ROWS]
    ]
    columns = ["FUNCTION", "VERSION", "STATE", "PID", "MEMORY", "CALLS", "IDLE"]
    write_table(columns, rows, right=["PID", "MEMORY", "CALLS", "IDLE"])
    if len(environments) > _MOST_ROWS:
        say(f"... and {len(environments) - _MOST_ROWS} more; --json has them all")


def _state(environment: EnvironmentStatus) -> str:
    concurrency = environment.get("concurrency", 1)
    if concurrency == 1 or environment["state"] != "busy":
        return environment["state"]
    return f"busy, {environment['running']} of {concurrency}"


def _facts(client: Client, status: Status) -> list[tuple[str, str]]:
    concurrency = status.get("concurrency", {})
    counters = status.get("counters", {})
    facts = [
        ("Node", f"lambent {status.get('version', '')}, up {show_duration(status.get('uptime_s', 0))}"),
        ("Endpoint", client.connection.endpoint),
        ("Account", f"{status.get('account', '')} in {status.get('region', '')}"),
        ("Isolation", status.get("isolation", "")),
        ("Data", status.get("data_dir", "")),
        ("Running", f"{concurrency.get('in_use', 0)} of {concurrency.get('limit', 0)} invocations"),
    ]
    if shells := {name: count for name, count in status.get("shells", {}).items() if count}:
        facts.append(("Pre-warmed", ", ".join(f"{count} of {name}" for name, count in sorted(shells.items()))))
    if processes := status.get("processes"):
        serving = sum(process["state"] == "serving" for process in processes)
        facts.insert(1, ("Processes", f"{serving} of {len(processes)} serve"))
    if counters:
        facts.append(("Since start", wrap(_count(counters), stream=sys.stdout, indent=13)))
    return facts


def _count(counters: Mapping[str, int]) -> str:
    """The usual ones first, whatever else is counted after them; cold starts with their reasons."""
    reasons = {name: count for name, count in counters.items() if name.startswith(_REASON) and name != _COLD_STARTS}
    names = [name for name in _USUAL if name in counters]
    names += [name for name in counters if name not in _USUAL and name not in reasons]
    texts = [f"{counters[name]} {_word(name, counters[name])}" for name in names]
    if reasons and _COLD_STARTS in names:
        why = ", ".join(f"{count} {_word(name.removeprefix(_REASON), 2)}" for name, count in reasons.items())
        texts[names.index(_COLD_STARTS)] += f" ({why})"
    return ", ".join(texts)


def _word(name: str, count: int) -> str:
    word = _WORDS.get(name, name.replace("_", " "))
    return word.removesuffix("s") if count == 1 else word

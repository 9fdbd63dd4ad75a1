from __future__ import annotations

import click

from lambent.cli.output import say, show_duration, write_facts, write_json, write_table
from lambent.cli.session import json_option, with_client
from lambent.client.client import Client
from lambent.client.shapes import Status

_MOST_ROWS = 50


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
            environment["state"],
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
    if counters:
        facts.append(("Counters", "\n".join(f"{name.replace('_', ' ')}: {count}" for name, count in counters.items())))
    return facts

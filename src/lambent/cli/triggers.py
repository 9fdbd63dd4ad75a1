from __future__ import annotations

import click

from lambent.cli.failures import NOT_FOUND, Failure
from lambent.cli.output import note, say, write_json, write_table
from lambent.cli.session import json_option, with_client
from lambent.client.client import Client
from lambent.client.shapes import Document


@click.group("triggers")
def command() -> None:
    """Queues and streams that functions read (event source mappings).

    A trigger is named by the beginning of its UUID.
    """


@command.command("ls")
@json_option
@with_client
def list_triggers(client: Client, as_json: bool) -> None:
    """List the triggers and what came of their last records."""
    mappings = list(client.list_mappings())
    if as_json:
        write_json(mappings)
        return
    if not mappings:
        note("There are no triggers yet. CreateEventSourceMapping of any AWS SDK makes one; see docs/events.md.")
        return
    rows = [
        [mapping["UUID"][:8], _function(mapping), _source(mapping), mapping["State"], mapping["LastProcessingResult"]]
        for mapping in mappings
    ]
    write_table(["ID", "FUNCTION", "SOURCE", "STATE", "LAST RESULT"], rows)


@command.command("show")
@click.argument("uuid", metavar="ID")
@json_option
@with_client
def show_trigger(client: Client, uuid: str, as_json: bool) -> None:
    """Show all settings of a trigger."""
    mapping = _find(client, uuid)
    if as_json:
        write_json(mapping)
        return
    width = max(map(len, mapping))
    for name, value in sorted(mapping.items()):
        say(f"{name:<{width}}  {value}")


@command.command("pause")
@click.argument("uuid", metavar="ID")
@json_option
@with_client
def pause_trigger(client: Client, uuid: str, as_json: bool) -> None:
    """Stop reading, once the batches under way are done. What arrives meanwhile stays at the source."""
    _enable(client, uuid, enabled=False, as_json=as_json)


@command.command("resume")
@click.argument("uuid", metavar="ID")
@json_option
@with_client
def resume_trigger(client: Client, uuid: str, as_json: bool) -> None:
    """Read again, from where it was paused."""
    _enable(client, uuid, enabled=True, as_json=as_json)


def _enable(client: Client, uuid: str, *, enabled: bool, as_json: bool) -> None:
    mapping = client.enable_mapping(_find(client, uuid)["UUID"], enabled=enabled)
    if as_json:
        write_json(mapping)
        return
    note(f"{mapping['UUID']} is {mapping['State']}.")


def _find(client: Client, beginning: str) -> Document:
    found = [mapping for mapping in client.list_mappings() if mapping["UUID"].startswith(beginning)]
    if not found:
        raise Failure(f"There is no trigger '{beginning}'. `lambent triggers ls` lists them.", code=NOT_FOUND)
    if len(found) > 1:
        raise Failure(f"{len(found)} triggers begin with '{beginning}': give more of the UUID.", code=NOT_FOUND)
    return found[0]


def _function(mapping: Document) -> str:
    return str(mapping["FunctionArn"]).partition(":function:")[2]


def _source(mapping: Document) -> str:
    arn = str(mapping.get("EventSourceArn", ""))
    parts = arn.split(":", 5)
    if len(parts) == 6:
        return f"{parts[2]} {parts[5]}"
    return "kafka " + ", ".join(mapping.get("Topics", ()))

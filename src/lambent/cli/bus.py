from __future__ import annotations

import json

import click

from lambent.cli.failures import USAGE, Failure
from lambent.cli.output import note, write_json, write_table
from lambent.cli.session import json_option, with_client
from lambent.client.client import Client


@click.group("bus")
def command() -> None:
    """Event buses (EventBridge): list rules, put events."""


@command.command("ls")
@click.option("--bus", "name", default="default", show_default=True, help="Which bus.")
@json_option
@with_client
def list_rules(client: Client, name: str, as_json: bool) -> None:
    """List the rules of a bus."""
    rules = client.list_rules(name)
    if as_json:
        write_json(rules)
        return
    if not rules:
        note(f"The bus {name} has no rules yet. PutRule of any AWS SDK makes one; see docs/events.md.")
        return
    rows = [
        [rule["Name"], rule["State"], rule.get("ScheduleExpression") or rule.get("EventPattern", "")] for rule in rules
    ]
    write_table(["RULE", "STATE", "WHEN"], rows)


@command.command("put")
@click.option("--source", required=True, help="Who tells: shop.orders.")
@click.option("--type", "detail_type", required=True, help="What it is: OrderPlaced.")
@click.option("-d", "--detail", required=True, metavar="JSON", help="An object.")
@click.option("--bus", "name", default="default", show_default=True, help="Which bus.")
@json_option
@with_client
def put_event(client: Client, *, source: str, detail_type: str, detail: str, name: str, as_json: bool) -> None:
    """Put an event on a bus."""
    try:
        if not isinstance(json.loads(detail), dict):
            raise ValueError("it must be an object")
    except ValueError as exc:
        raise Failure(f"-d is not a JSON object: {exc}", code=USAGE) from exc
    entry = {"Source": source, "DetailType": detail_type, "Detail": detail, "EventBusName": name}
    answer = client.call_bus("PutEvents", Entries=[entry])["Entries"][0]
    if as_json:
        write_json(answer)
    elif "EventId" in answer:
        note(f"Put as {answer['EventId']}.")
    else:
        raise Failure(f"{answer.get('ErrorCode')}: {answer.get('ErrorMessage')}")

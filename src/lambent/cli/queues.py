from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from lambent.cli.failures import USAGE, Failure
from lambent.cli.output import is_terminal, note, say, write_json, write_table
from lambent.cli.session import json_option, with_client
from lambent.client.client import Client

_COUNTS = ("", "NotVisible", "Delayed")


@click.group("queues")
def command() -> None:
    """The node's own queues (SQS): list, send, look into, take dead letters back."""


@command.command("ls")
@json_option
@with_client
def list_queues(client: Client, as_json: bool) -> None:
    """List the queues and how many messages lie in them."""
    found = [(url, _attributes(client, url)) for url in client.list_queues()]
    if as_json:
        write_json([{"QueueUrl": url, **attributes} for url, attributes in found])
        return
    if not found:
        note("There are no queues yet. Any AWS SDK makes one, or: lambent queues send NAME --create -d TEXT")
        return
    rows = [[url.rpartition("/")[2], *_counts(attributes)] for url, attributes in found]
    columns = ["NAME", "VISIBLE", "IN FLIGHT", "DELAYED"]
    write_table(columns, rows, right=columns[1:])


@command.command("show")
@click.argument("name")
@json_option
@with_client
def show_queue(client: Client, name: str, as_json: bool) -> None:
    """Show a queue's settings and counts."""
    attributes = _attributes(client, client.queue_url(name))
    if as_json:
        write_json(attributes)
        return
    width = max(map(len, attributes))
    for key, value in sorted(attributes.items()):
        say(f"{key:<{width}}  {value}")


@command.command("send")
@click.argument("name")
@click.option("-d", "--data", required=True, metavar="TEXT|@FILE", help="The message; @FILE reads it, @- from stdin.")
@click.option("--group", metavar="ID", help="Of a FIFO queue's message.")
@click.option("--delay", type=click.IntRange(0, 900), metavar="SECONDS", help="Until it is visible.")
@click.option("--create", is_flag=True, help="Make the queue if there is none of that name.")
@json_option
@with_client
def send_message(
    client: Client, *, name: str, data: str, group: str | None, delay: int | None, create: bool, as_json: bool
) -> None:
    """Send a message."""
    url = client.call_queue("CreateQueue", QueueName=name)["QueueUrl"] if create else client.queue_url(name)
    given: dict[str, Any] = {"QueueUrl": url, "MessageBody": _read(data)}
    if group is not None:
        given["MessageGroupId"] = group
    if delay is not None:
        given["DelaySeconds"] = delay
    sent = client.call_queue("SendMessage", **given)
    if as_json:
        write_json(sent)
    else:
        note(f"Sent as {sent['MessageId']}.")


@command.command("peek")
@click.argument("name")
@click.option("-n", "count", type=click.IntRange(1, 10), default=10, show_default=True, help="At most so many.")
@json_option
@with_client
def peek(client: Client, name: str, count: int, as_json: bool) -> None:
    """Receive messages and make them visible again at once. It counts as a receive."""
    answer = client.call_queue(
        "ReceiveMessage",
        QueueUrl=client.queue_url(name),
        MaxNumberOfMessages=count,
        VisibilityTimeout=0,
        MessageSystemAttributeNames=["All"],
        MessageAttributeNames=["All"],
    )
    messages = answer.get("Messages", [])
    if as_json:
        write_json(messages)
        return
    if not messages:
        note("There is nothing to receive now.")
    for message in messages:
        note(f"{message['MessageId']}, received {message['Attributes']['ApproximateReceiveCount']} times:")
        say(message["Body"])


@command.command("purge")
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@with_client
def purge(client: Client, name: str, yes: bool) -> int:
    """Delete all messages of a queue."""
    url = client.queue_url(name)
    if not yes:
        if not is_terminal(sys.stdin):
            raise Failure("There is no terminal to ask at: add --yes to purge without asking.", code=USAGE)
        if not click.confirm(f"Delete all messages of {name}?", err=True):
            note("Nothing was deleted.")
            return 1
    client.call_queue("PurgeQueue", QueueUrl=url)
    note(f"Purged {name}.")
    return 0


@command.command("redrive")
@click.argument("name")
@click.option("--to", "target", metavar="QUEUE", help="Where to; else each message to where it came from.")
@click.option("--rate", type=click.IntRange(1, 500), metavar="PER-SECOND", help="At most so many a second.")
@json_option
@with_client
def redrive(client: Client, *, name: str, target: str | None, rate: int | None, as_json: bool) -> None:
    """Take the messages of a dead-letter queue back."""
    source = _attributes(client, client.queue_url(name))
    given: dict[str, Any] = {"SourceArn": source["QueueArn"]}
    if target is not None:
        given["DestinationArn"] = _attributes(client, client.queue_url(target))["QueueArn"]
    if rate is not None:
        given["MaxNumberOfMessagesPerSecond"] = rate
    started = client.call_queue("StartMessageMoveTask", **given)
    if as_json:
        write_json(started)
    else:
        note(
            f"{source['ApproximateNumberOfMessages']} messages are being taken back; `lambent queues ls` shows how far."
        )


def _attributes(client: Client, url: str) -> dict[str, str]:
    found: dict[str, str] = client.call_queue("GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return found


def _counts(attributes: dict[str, str]) -> list[str]:
    return [attributes[f"ApproximateNumberOfMessages{kind}"] for kind in _COUNTS]


def _read(data: str) -> str:
    if not data.startswith("@"):
        return data
    if data == "@-":
        return sys.stdin.read()
    try:
        return Path(data[1:]).read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise Failure(f"{data[1:]} cannot be read: {exc}", code=USAGE) from exc

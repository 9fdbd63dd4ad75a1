from __future__ import annotations

from datetime import datetime

import click

from lambent.cli.output import note, show_bytes, write_json, write_table
from lambent.cli.session import json_option, with_client
from lambent.client.client import Client


@click.command("ls")
@json_option
@with_client
def command(client: Client, as_json: bool) -> None:
    """List functions."""
    functions = sorted(client.list_functions(), key=lambda function: function["FunctionName"])
    if as_json:
        write_json(functions)
        return
    if not functions:
        note("There are no functions yet. Deploy one: lambent deploy PATH")
        return
    rows = [
        [
            function["FunctionName"],
            function.get("Runtime", ""),
            function.get("Handler", ""),
            f"{function.get('MemorySize', 0)} MB",
            f"{function.get('Timeout', 0)} s",
            show_bytes(function.get("CodeSize", 0)),
            show_time(function.get("LastModified", "")),
        ]
        for function in functions
    ]
    columns = ["NAME", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "SIZE", "MODIFIED"]
    write_table(columns, rows, right=["MEMORY", "TIMEOUT", "SIZE"])


def show_time(stamp: str) -> str:
    """To the minute, in this machine's time zone."""
    try:
        return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return stamp

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import cast

import click

from lambent.cli.output import note, say, wrap, write_json, write_table
from lambent.cli.session import json_option, with_client
from lambent.client.client import Client
from lambent.client.errors import Unreachable
from lambent.client.shapes import RuntimeStatus
from lambent.node.config import load_settings


@click.command("runtimes")
@json_option
@with_client
def command(client: Client, as_json: bool) -> None:
    """List the runtimes that the node can run, and how to get the others.

    Without a running node: those that a node on this machine would have.
    """
    try:
        found: Sequence[RuntimeStatus] = client.runtimes()
    except Unreachable as exc:
        note(f"{exc}; these are this machine's own:")
        found = _look_here()
    if as_json:
        write_json({"runtimes": found})
        return
    rows = [
        [runtime["name"], "yes" if runtime["available"] else "no", runtime.get("version", ""), runtime["executable"]]
        for runtime in found
    ]
    write_table(["RUNTIME", "HERE", "VERSION", "EXECUTABLE"], rows)
    missing = [runtime["hint"] for runtime in found if not runtime["available"]]
    for hint in missing:
        say("\n" + wrap(hint, stream=sys.stdout, indent=2, first=0))


def _look_here() -> list[RuntimeStatus]:
    # Not at the top: no other command pays for it.
    from lambent.node.runtimes import Runtimes  # noqa: PLC0415

    return cast("list[RuntimeStatus]", asyncio.run(Runtimes(load_settings().runtimes).describe()))

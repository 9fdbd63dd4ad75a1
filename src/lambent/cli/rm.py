from __future__ import annotations

import sys

import click

from lambent.cli.failures import USAGE, Failure
from lambent.cli.output import is_terminal, note, write_json
from lambent.cli.session import complete_function, json_option, with_client
from lambent.client.client import Client


@click.command("rm")
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_function)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@with_client
def command(client: Client, names: tuple[str, ...], yes: bool, as_json: bool) -> int:
    """Delete functions, with all their versions, aliases and code."""
    for name in names:
        client.get_function(name)
    if not yes and not _confirm(names):
        note("Nothing was deleted.")
        return 1
    for name in names:
        client.delete_function(name)
        note(f"Deleted {name}.")
    if as_json:
        write_json({"deleted": list(names)})
    return 0


def _confirm(names: tuple[str, ...]) -> bool:
    if not is_terminal(sys.stdin):
        raise Failure("There is no terminal to ask at: add --yes to delete without asking.", code=USAGE)
    what = names[0] if len(names) == 1 else f"{len(names)} functions ({', '.join(names)})"
    try:
        return click.confirm(f"Delete {what}, with all versions and aliases?", err=True)
    except click.Abort:
        note("")
        raise

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from lambent.cli.failures import NOT_ALLOWED, Failure
from lambent.cli.output import is_terminal, note, say, write_json
from lambent.cli.session import json_option, with_client
from lambent.client.client import Client
from lambent.client.connection import Connection

SHELLS = ("bash", "zsh", "fish", "powershell")
_IN_THE_WAY = ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
"""Would make tools use something else than the key and the endpoint below: AWS itself, at worst."""
_OF_ONE_SERVICE = "AWS_ENDPOINT_URL_"
"""Goes before the endpoint of all services."""


@click.command("env")
@click.option("--shell", type=click.Choice(SHELLS), help="The shell to write for. [that of $SHELL]")
@json_option
@with_client
def command(client: Client, shell: str | None, as_json: bool) -> None:
    """Print the variables that AWS tools need to talk to the node.

    \b
      eval "$(lambent env)"                                bash, zsh
      lambent env --shell fish | source                    fish
      lambent env --shell powershell | Out-String | iex    powershell
    """
    variables = variables_for(client.connection)
    if as_json:
        write_json(variables)
        return
    chosen = shell or guess_shell(os.environ)
    for name in os.environ:
        if name in _IN_THE_WAY or name.startswith(_OF_ONE_SERVICE):
            say(_unset(name, chosen))
    for name, value in variables.items():
        say(_export(name, value, chosen))
    if is_terminal(sys.stdout) and chosen in ("bash", "zsh"):
        note('# To set them in this shell: eval "$(lambent env)"')


def variables_for(connection: Connection) -> dict[str, str]:
    """Raises Failure when there is no access key to give."""
    if connection.credentials is None:
        raise Failure(
            "There is no access key to print: no node has been started with this data folder yet.",
            code=NOT_ALLOWED,
            hint="Start one with `lambent up`, or name its folder with --data-dir DIR.",
        )
    return {
        "AWS_ENDPOINT_URL": connection.endpoint,
        "AWS_ACCESS_KEY_ID": connection.credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": connection.credentials.secret,
        "AWS_DEFAULT_REGION": connection.region,
        "AWS_REGION": connection.region,
        # Some operations go to a host of their own (sync-HOST, stream-HOST), which 127.0.0.1 has not.
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        "SAM_CLI_TELEMETRY": "0",
    }


def guess_shell(environ: Mapping[str, str]) -> str:
    name = Path(environ.get("SHELL", "")).name
    if name in SHELLS:
        return name
    return "powershell" if name in ("pwsh", "pwsh.exe") else "bash"


def _export(name: str, value: str, shell: str) -> str:
    if shell == "powershell":
        escaped = value.replace("'", "''")
        return f"$env:{name} = '{escaped}'"
    if shell == "fish":
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"set -gx {name} '{escaped}'"
    escaped = value.replace("'", "'\\''")
    return f"export {name}='{escaped}'"


def _unset(name: str, shell: str) -> str:
    if shell == "powershell":
        return f"Remove-Item Env:{name}"
    return f"set -e {name}" if shell == "fish" else f"unset {name}"

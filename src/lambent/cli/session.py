"""The options that every command shares, and the client they lead to."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from lambent.client.client import Client
from lambent.client.connection import Connection, resolve_connection
from lambent.node.config import RUNTIME_NAMES, load_settings

SYSTEM_DATA_DIR = Path("/var/lib/lambent")
_PROFILE = "credentials"

Command = Callable[..., Any]


def json_option(function: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def with_client(function: Command) -> Command:
    """Give the command a `Client` as its first argument, and the options that choose the node."""

    @functools.wraps(function)
    def wrapped(*args: Any, endpoint: str | None, region: str | None, data_dir: str | None, **options: Any) -> Any:
        connection = find_connection(endpoint=endpoint, region=region, data_dir=data_dir)
        return function(Client(connection), *args, **options)

    for option in (
        click.option("--data-dir", metavar="DIR", type=click.Path(), help="The data folder of a node of this machine."),
        click.option("--region", metavar="NAME", help="The node's region, when not the profile's."),
        click.option("--endpoint", metavar="URL", help="The node to talk to; else LAMBENT_ENDPOINT, AWS_ENDPOINT_URL."),
    ):
        wrapped = option(wrapped)
    return wrapped


def find_connection(
    *,
    endpoint: str | None = None,
    region: str | None = None,
    data_dir: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Connection:
    """Raises BadConnection, OperatorError."""
    environ = os.environ if environ is None else environ
    settings = load_settings(flags={"data_dir": data_dir}, environ=environ)
    profiles = [Path(settings.data_dir) / _PROFILE]
    if data_dir is None:
        profiles.append(SYSTEM_DATA_DIR / _PROFILE)
    return resolve_connection(endpoint=endpoint, region=region, environ=environ, profiles=profiles)


def complete_function(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of functions for the shell; none when no node answers."""
    try:
        options = {name: ctx.params.get(name) for name in ("endpoint", "region", "data_dir")}
        names = [item["FunctionName"] for item in Client(find_connection(**options)).list_functions()]
    # The shell shows what is printed here in the middle of a line: better nothing than an error.
    except Exception:
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_runtime(_ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in RUNTIME_NAMES if name.startswith(incomplete)]

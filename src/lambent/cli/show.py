from __future__ import annotations

from collections.abc import Sequence

import click

from lambent.cli.ls import show_time
from lambent.cli.output import say, show_bytes, write_facts, write_json, write_table
from lambent.cli.session import complete_function, json_option, with_client
from lambent.client.client import Client
from lambent.client.shapes import AliasConfiguration, Function, FunctionConfiguration


@click.command("show")
@click.argument("name", shell_complete=complete_function)
@json_option
@with_client
def command(client: Client, name: str, as_json: bool) -> None:
    """Show a function: settings, versions, aliases."""
    function = client.get_function(name)
    plain_name = function["Configuration"]["FunctionName"]
    versions = [version for version in client.list_versions(plain_name) if version["Version"] != "$LATEST"]
    aliases = list(client.list_aliases(plain_name))
    if as_json:
        write_json({**function, "Versions": versions, "Aliases": aliases})
        return
    write_facts(_facts(function))
    if versions:
        say()
        _write_versions(versions)
    if aliases:
        say()
        rows = [[alias["Name"], _weights(alias), alias.get("Description", "")] for alias in aliases]
        write_table(["ALIAS", "VERSION", "DESCRIPTION"], rows)


def _write_versions(versions: Sequence[FunctionConfiguration]) -> None:
    headers = ["VERSION", "PUBLISHED", "DESCRIPTION"]
    rows = [
        [version["Version"], show_time(version.get("LastModified", "")), version.get("Description", "")]
        for version in versions
    ]
    if any(_snapstart(version) for version in versions):
        headers.insert(2, "SNAPSTART")
        for row, version in zip(rows, versions, strict=True):
            row.insert(2, _snapstart(version))
    write_table(headers, rows)


def _snapstart(version: FunctionConfiguration) -> str:
    """Whether environments start from a snapshot, and why not where they should; empty where nobody asked for it."""
    settings = version.get("SnapStart", {})
    if settings.get("ApplyOn", "None") == "None":
        return ""
    status, reason = settings.get("OptimizationStatus", "Off").lower(), version.get("StateReason", "")
    return f"{status}: {reason}" if reason else status


def _facts(function: Function) -> list[tuple[str, str]]:
    configuration = function["Configuration"]
    reserved = function.get("Concurrency", {}).get("ReservedConcurrentExecutions")
    facts = [
        ("Name", configuration["FunctionName"]),
        ("State", _state(configuration)),
        ("Runtime", configuration.get("Runtime", "")),
        ("Handler", configuration.get("Handler", "")),
        ("Memory", f"{configuration.get('MemorySize', 0)} MB"),
        ("Timeout", f"{configuration.get('Timeout', 0)} s"),
        ("Disk", f"{configuration.get('EphemeralStorage', {}).get('Size', 512)} MB in /tmp"),
        ("Code", f"{show_bytes(configuration.get('CodeSize', 0))}, sha256 {configuration.get('CodeSha256', '')}"),
        ("Modified", show_time(configuration.get("LastModified", ""))),
        ("Concurrency", "the account's" if reserved is None else f"{reserved} reserved"),
        ("ARN", configuration.get("FunctionArn", "")),
    ]
    for title, lines in (
        ("Description", [configuration.get("Description", "")]),
        ("Variables", _pairs(configuration.get("Environment", {}).get("Variables", {}))),
        ("Layers", [layer["Arn"] for layer in configuration.get("Layers", [])]),
        ("Tags", _pairs(function.get("Tags", {}))),
    ):
        if any(lines):
            facts.append((title, "\n".join(lines)))
    return facts


def _state(configuration: FunctionConfiguration) -> str:
    state, update = configuration.get("State", "Active"), configuration.get("LastUpdateStatus", "Successful")
    reason = configuration.get("StateReason") or configuration.get("LastUpdateStatusReason")
    text = state if update == "Successful" else f"{state}, last update {update}"
    return f"{text}: {reason}" if reason else text


def _pairs(values: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in sorted(values.items())]


def _weights(alias: AliasConfiguration) -> str:
    others = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
    if not others:
        return alias["FunctionVersion"]
    rest = 1 - sum(others.values())
    return ", ".join(
        [f"{alias['FunctionVersion']} ({rest:.0%})", *(f"{name} ({share:.0%})" for name, share in others.items())]
    )

from __future__ import annotations

import importlib.metadata

import click


def installed_version() -> str:
    return importlib.metadata.version("lambent")


@click.command("version")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Print the version."""
    if as_json:
        click.echo(f'{{"version": "{installed_version()}"}}')
        return
    click.echo(f"lambent {installed_version()}")

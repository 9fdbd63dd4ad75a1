from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lambent.node.config import load_settings


@click.command("up")
@click.option(
    "--data-dir",
    metavar="DIR",
    type=click.Path(),
    help="Where state lies. [/var/lib/lambent as root, ~/.local/share/lambent]",
)
@click.option("--host", metavar="HOST", help="The address to listen on. [127.0.0.1]")
@click.option("--port", metavar="PORT", type=int, help="The port to listen on; 0 takes a free one. [8700]")
@click.option("--dev", is_flag=True, default=None, help="Accept any signature; only on loopback.")
@click.option("--processes", metavar="N", type=int, help="Node processes behind the port. [1]")
@click.option(
    "--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings. [lambent.toml of this folder]"
)
@click.option("--region", metavar="NAME", help="The region that this node answers for. [us-east-1]")
@click.option("--isolation", metavar="TIER", help="auto, namespace or process (none at all). [auto]")
@click.option("--account-concurrency", metavar="N", type=int, help="Invocations at once. [1000]")
@click.option("--keep-alive", "keep_alive_seconds", metavar="SECONDS", type=int, help="Of idle environments. [600]")
@click.option(
    "--drain-timeout",
    "drain_timeout_seconds",
    metavar="SECONDS",
    type=int,
    help="How long running invocations may go on after SIGTERM. [30]",
)
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error. [info]")
def command(config: Path | None, **flags: Any) -> int:
    """Start a node on this machine.

    It runs until Ctrl-C or SIGTERM, then lets running invocations finish; a second one does not wait. Settings come
    from lambent.toml, then LAMBENT_* variables, then these options.
    """
    settings = load_settings(flags=flags, config=config)
    # Only here: no other command pays for importing the server.
    from lambent.node.assemble import run  # noqa: PLC0415

    return run(settings)

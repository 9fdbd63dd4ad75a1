from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import click

from lambent.cli.output import say, wrap, write_json, write_table
from lambent.cli.session import json_option
from lambent.node.config import load_settings


@click.command("doctor")
@click.option("--data-dir", metavar="DIR", type=click.Path(), help="As of `lambent up`.")
@click.option("--host", metavar="HOST", help="As of `lambent up`.")
@click.option("--port", metavar="PORT", type=int, help="As of `lambent up`.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="As of `lambent up`.")
@json_option
def command(config: Path | None, as_json: bool, **flags: Any) -> int:
    """Say what this machine can do for a node, and how to mend what is missing.

    Everything is tried, nothing is changed. Exit code 1 when a node could not start.
    """
    # Only here: no other command pays for importing what it examines.
    from lambent.node.doctor import examine  # noqa: PLC0415

    checks = list(examine(load_settings(flags=flags, config=config)))
    failed = [check for check in checks if check.status == "fail"]
    if as_json:
        write_json([dataclasses.asdict(check) for check in checks])
        return 1 if failed else 0
    write_table(["CHECK", "", "FOUND"], [[check.name, check.status, check.detail] for check in checks])
    mends = [check for check in checks if check.mend]
    if mends:
        say("\nTo mend:")
    for check in mends:
        say("  " + wrap(f"{check.name}: {check.mend}", stream=sys.stdout, indent=4, first=2))
    say()
    if failed:
        say(f"A node cannot start here yet: {', '.join(check.name for check in failed)}.")
        return 1
    say("A node can start here: lambent up")
    return 0

"""The command `lambent`: a table of commands, each imported when it is run."""

from __future__ import annotations

import difflib
import importlib
import io
import sys
from collections.abc import Sequence
from typing import NoReturn, cast

import click

SECTIONS: dict[str, dict[str, str]] = {
    "Run a node": {
        "up": "Start a node on this machine.",
        "doctor": "Say what this machine can do, and how to mend what is missing.",
        "runtimes": "List the runtimes that the node can run.",
        "status": "Show the node, its environments and its counters.",
    },
    "Deploy and run functions": {
        "deploy": "Deploy a file or a folder as a function.",
        "invoke": "Invoke a function and print what it returns.",
        "url": "Give a function an HTTP address.",
        "logs": "Show a function's log.",
        "ls": "List functions.",
        "show": "Show a function: settings, versions, aliases.",
        "rm": "Delete functions.",
    },
    "Events": {
        "events": "List, show, redrive and drop asynchronous events.",
        "queues": "The node's own queues: list, send, look into, redrive.",
        "bus": "Event buses: list rules, put events.",
        "schedules": "Schedules: list.",
        "triggers": "Queues and streams that functions read.",
        "hooks": "URLs at which git hosts and others report what happened.",
    },
    "Around it": {
        "env": "Print the variables that AWS tools need to talk to the node.",
        "front": "Print the configuration of a proxy before the node.",
        "completion": "Print the completion script of a shell.",
        "version": "Print the version.",
    },
}
_ALIASES = {"serve": "up", "tail": "logs", "ps": "status", "list": "ls", "delete": "rm", "help": ""}


class LazyGroup(click.Group):
    """Shows its help from SECTIONS alone, so that help costs no command's imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for commands in SECTIONS.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        return cast(click.Command, importlib.import_module(f"lambent.cli.{cmd_name}").command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        names = self.list_commands(ctx)
        if name not in names and not name.startswith("-"):
            close = _ALIASES.get(name) or next(iter(difflib.get_close_matches(name, names, n=1)), None)
            fix = f"Did you mean `lambent {close}`?" if close else "`lambent --help` lists the commands."
            raise click.UsageError(f"There is no command '{name}'. {fix}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl(list(commands.items()), col_max=12)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from lambent.cli.version import installed_version  # noqa: PLC0415 - help must not pay for it

        click.echo(f"lambent {installed_version()}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 not allowed, 5 the function failed, "
    "6 no node answers. LAMBENT_DEBUG=1 shows tracebacks.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
@click.pass_context
def root(ctx: click.Context) -> None:
    """Your own serverless platform, in AWS Lambda's words.

    \b
    First steps:
      lambent up                          start a node (stop it with Ctrl-C)
      lambent deploy hello.py             deploy a function
      lambent invoke hello -d '{"a": 1}'  run it
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; an error is one line on stderr that says what to do."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A log line that the terminal cannot show must not end the command.
            stream.reconfigure(errors="replace")
    try:
        result = root.main(args=list(arguments), prog_name="lambent", standalone_mode=False)
    except click.exceptions.Abort:
        return 130
    except Exception as exc:
        from lambent.cli.failures import report  # noqa: PLC0415 - help must not pay for it

        return report(exc)
    return result if isinstance(result, int) else 0


def main() -> NoReturn:
    sys.exit(run(sys.argv[1:]))

from __future__ import annotations

import stat
from importlib import resources
from pathlib import Path

import click

from lambent.cli.failures import USAGE, Failure
from lambent.cli.output import note, say, write_json, write_table
from lambent.cli.session import complete_function, json_option, with_client
from lambent.client.client import Client

KINDS = ("github", "gitea", "gitlab", "git", "stripe", "slack", "standard", "hmac", "cloudevents", "s3")


@click.group("hooks")
def command() -> None:
    """URLs at which others report what happened: git hosts, payment services, runtimes.

    \b
      lambent hooks add ci --kind github --function build --type push --ref main
      lambent hooks add ci --kind git --function build
      lambent hooks script ci --secret-file secret > repository.git/hooks/post-receive
    """


@command.command("ls")
@json_option
@with_client
def list_hooks(client: Client, as_json: bool) -> None:
    """List the hooks."""
    hooks = client.list_hooks()
    if as_json:
        write_json(hooks)
        return
    if not hooks:
        note("There are no hooks yet. Make one: lambent hooks add NAME --kind github --function FUNCTION")
        return
    rows = [
        [
            hook["name"],
            hook["kind"],
            hook["target"].rpartition(":")[2],
            ", ".join([*hook["types"], *hook["refs"]]) or "everything",
            hook["url"],
        ]
        for hook in hooks
    ]
    write_table(["NAME", "KIND", "TARGET", "TAKES", "URL"], rows)


@command.command("add")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="Who reports.")
@click.option("--function", "function", metavar="NAME", shell_complete=complete_function, help="What runs then.")
@click.option("--target", metavar="ARN", help="A queue, topic or event bus instead of a function.")
@click.option("--secret-file", type=click.Path(exists=True, dir_okay=False), help="The secret that the sender has.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Take events of this type alone: push, tag, ...")
@click.option("--ref", "refs", multiple=True, metavar="GLOB", help="Take this branch or tag alone: main, 'release/*'.")
@json_option
@with_client
def add_hook(  # noqa: PLR0917 - click calls it by name
    client: Client,
    name: str,
    kind: str,
    function: str | None,
    target: str | None,
    secret_file: str | None,
    types: tuple[str, ...],
    refs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a hook, or change the one of that name."""
    if (function is None) == (target is None):
        raise Failure("Say where the events go: --function NAME or --target ARN.", code=USAGE)
    if function is not None:
        target = client.get_function(function)["Configuration"]["FunctionArn"]
    settings = {"kind": kind, "target": target, "types": types, "refs": refs}
    if secret_file is not None:
        settings["secret"] = Path(secret_file).read_text().strip()
    hook = client.put_hook(name, settings)
    if as_json:
        write_json(hook)
        return
    say(hook["url"])
    if "secret" in hook:
        note(f"Secret, told this once: {hook['secret']}")
    note("Give the sender this URL and the secret; it sends JSON.")


@command.command("rm")
@click.argument("name")
@with_client
def remove_hook(client: Client, name: str) -> None:
    """End a hook: its URL is no longer there."""
    client.delete_hook(name)
    note(f"Deleted the hook {name}.")


@command.command("script")
@click.argument("name")
@click.option("--secret-file", required=True, type=click.Path(exists=True, dir_okay=False), help="The hook's secret.")
@with_client
def print_script(client: Client, name: str, secret_file: str) -> None:
    """Print a post-receive script for a git repository, which reports pushes to a hook of the kind git."""
    hook = next((hook for hook in client.list_hooks() if hook["name"] == name), None)
    if hook is None:
        raise Failure(f"There is no hook '{name}'. `lambent hooks ls` lists them.", code=3)
    if hook["kind"] != "git":
        raise Failure(f"The hook '{name}' is of the kind {hook['kind']}: that host reports by itself.", code=USAGE)
    mode = Path(secret_file).stat().st_mode
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        note(f"Others can read {secret_file}: chmod 600 {secret_file}")
    script = resources.files("lambent.cli").joinpath("post-receive.sh").read_text("utf-8")
    say(script.replace("@URL@", hook["url"]).replace("@SECRET_FILE@", str(Path(secret_file).resolve())).rstrip())

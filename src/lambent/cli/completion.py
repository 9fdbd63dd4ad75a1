from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_LAMBENT_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
      bash   echo 'eval "$(lambent completion bash)"' >> ~/.bashrc
      zsh    echo 'eval "$(lambent completion zsh)"' >> ~/.zshrc
      fish   lambent completion fish > ~/.config/fish/completions/lambent.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "lambent", _VARIABLE).source())

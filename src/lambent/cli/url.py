from __future__ import annotations

import click

from lambent.cli.output import note, say, write_json
from lambent.cli.session import json_option, with_client
from lambent.client.client import Client
from lambent.client.shapes import Document

EVERYBODY = "FunctionURLAllowPublicAccess"
"""The statement that AWS's own tools name so."""


@click.command("url")
@click.argument("function")
@click.option("--iam", is_flag=True, help="Only requests signed for the account. [everybody]")
@click.option("--stream", is_flag=True, help="Send the answer while the function writes it.")
@click.option("--qualifier", metavar="ALIAS", default="", help="Of an alias instead of the newest code.")
@click.option("--rm", "remove", is_flag=True, help="Take the URL away.")
@json_option
@with_client
def command(
    client: Client, *, function: str, iam: bool, stream: bool, qualifier: str, remove: bool, as_json: bool
) -> None:
    """Give a function an HTTP address, or change or show the one it has.

    \b
      lambent url hello
      lambent url chat --stream
      lambent url reports --iam
    """
    if remove:
        client.delete_url(function, qualifier=qualifier)
        client.forbid(function, EVERYBODY, qualifier=qualifier)
        note(f"{function} has no URL any more.")
        return
    config = open_url(client, function, is_public=not iam, streams=stream, qualifier=qualifier)
    if as_json:
        write_json(config)
        return
    say(config["FunctionUrl"])


def open_url(client: Client, function: str, *, is_public: bool, streams: bool, qualifier: str = "") -> Document:
    """The function has this URL from now on; everybody may use it, or the account alone."""
    members = {
        "AuthType": "NONE" if is_public else "AWS_IAM",
        "InvokeMode": "RESPONSE_STREAM" if streams else "BUFFERED",
    }
    config = client.put_url(function, members, qualifier=qualifier)
    if is_public:
        client.allow(
            function,
            {
                "StatementId": EVERYBODY,
                "Action": "lambda:InvokeFunctionUrl",
                "Principal": "*",
                "FunctionUrlAuthType": "NONE",
            },
            qualifier=qualifier,
        )
    else:
        client.forbid(function, EVERYBODY, qualifier=qualifier)
    return config

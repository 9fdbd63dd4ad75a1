from __future__ import annotations

import re
from pathlib import Path

import click

from lambent.cli.output import say

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")
_CADDY = """\
# Caddy before Lambent: HTTP/2 and HTTP/3, certificates, and answers that leave while they are written.
# In lambent.toml: public_url = "https://{name}" and, below [http], trusted_proxies = ["127.0.0.1", "::1"].
{sites} {{
\treverse_proxy {upstream} {{
\t\t# Pieces of a streamed answer are handed on as they come.
\t\tflush_interval -1
\t}}
{tls}}}
"""
_TLS = "\ttls {certificate} {key}\n"
_ISSUED = "\t# Certificates of names with a star take a DNS challenge: tls { dns PROVIDER ... }\n"


@click.command("front")
@click.argument("program", type=click.Choice(["caddy"]))
@click.option("--name", metavar="NAME", required=True, help="Under which people reach the node, such as example.com.")
@click.option("--domain", "domains", metavar="NAME", multiple=True, help="A domain of an API; more than once.")
@click.option("--region", metavar="NAME", default="us-east-1", help="The node's. [us-east-1]")
@click.option("--upstream", metavar="HOST:PORT", default="127.0.0.1:8700", help="The node. [127.0.0.1:8700]")
@click.option("--certificate", metavar="FILE", type=click.Path(path_type=Path), help="In PEM. [Caddy gets one]")
@click.option("--key", metavar="FILE", type=click.Path(path_type=Path), help="Of the certificate.")
def command(
    *,
    program: str,
    name: str,
    domains: tuple[str, ...],
    region: str,
    upstream: str,
    certificate: Path | None,
    key: Path | None,
) -> None:
    """Print the configuration of a proxy before the node, for HTTP/2 and HTTP/3.

    \b
      lambent front caddy --name example.com > Caddyfile
    """
    for given in (name, *domains):
        if _NAME.fullmatch(given) is None:
            raise click.BadParameter(f"'{given}' is not a name like example.com.")
    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate and --key go together.")
    host, colon, port = name.partition(":")
    below = [f"*.{kind}.{region}.{host}{colon}{port}" for kind in ("lambda-url", "execute-api")]
    sites = ",\n".join(f"https://{site}" for site in (name, *below, *domains))
    tls = _TLS.format(certificate=certificate, key=key) if certificate is not None else _ISSUED
    say(_CADDY.format(name=name, sites=sites, upstream=upstream, tls=tls).rstrip("\n"))

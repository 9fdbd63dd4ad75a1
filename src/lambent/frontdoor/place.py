"""Where a request wants to go: read off its host, or off its path below `/_lambent/`.

ID.lambda-url.REGION.DOMAIN/PATH            /_lambent/url/ID/PATH
ID.execute-api.REGION.DOMAIN/STAGE/PATH     /_lambent/api/ID/STAGE/PATH
a custom domain                             (frontdoor/domains)
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec

URLS, APIS = "lambda-url", "execute-api"
_HOST = re.compile(r"([a-z0-9]{4,64})\.(lambda-url|execute-api)\.[a-z0-9-]+\.[a-z0-9.-]+")
_PATH = re.compile(rb"/_lambent/(url|api)/([a-z0-9]{4,64})(/.*)?", re.S)
_KINDS = {b"url": URLS, b"api": APIS}


class Place(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    """`lambda-url` or `execute-api`."""
    id: str
    prefix: bytes = b""
    """What of the request's path only led here."""
    stage: str | None = None
    """Of an API, where the address names it without the path: a mapping of a custom domain."""
    domain: str = ""
    """The custom domain; empty for none."""


def find_place(host: str, raw_path: bytes) -> Place | None:
    """`host` without port, in lower case."""
    matched = _HOST.fullmatch(host)
    if matched is not None:
        return Place(kind=matched[2], id=matched[1])
    if raw_path.startswith(b"/_lambent/") and (path := _PATH.fullmatch(raw_path)) is not None:
        return Place(kind=_KINDS[path[1]], id=path[2].decode(), prefix=raw_path[: path.end(2)])
    return None


def split_host(header: str, scheme: str) -> tuple[str, int]:
    """A Host header as name in lower case and port."""
    default = 443 if scheme == "https" else 80
    name, colon, port = header.rpartition(":")
    if not colon or not port.isdigit() or header.endswith("]"):
        return header.lower().rstrip("."), default
    return name.lower().rstrip("."), int(port)


def write_address(kind: str, id_: str, region: str, *, host: str, public_url: str) -> str:
    """The URL of a place: below the public name of the node, else below `localhost`, whose names lead to this machine.

    `host` is the Host header of whoever asks: the address has its port.
    """
    if public_url:
        parts = urlsplit(public_url)
        return f"{parts.scheme}://{id_}.{kind}.{region}.{parts.netloc}/"
    _, port = split_host(host, "http")
    shown = "" if port == 80 else f":{port}"
    return f"http://{id_}.{kind}.{region}.localhost{shown}/"

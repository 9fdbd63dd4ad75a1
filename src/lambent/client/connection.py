"""Where the node is and who calls it: flags, environment, or the profile that `lambent up` wrote."""

from __future__ import annotations

import configparser
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from lambent.client.errors import BadConnection

DEFAULT_ENDPOINT = "http://127.0.0.1:8700"
DEFAULT_REGION = "us-east-1"
_SECTION = "lambent"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    access_key: str
    secret: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """`credentials` None: requests go unsigned, which only a `--dev` node accepts."""

    endpoint: str
    region: str
    credentials: Credentials | None
    source: str
    """Where the endpoint was found, for messages."""


def resolve_connection(
    *,
    endpoint: str | None = None,
    region: str | None = None,
    environ: Mapping[str, str],
    profiles: Sequence[Path] = (),
) -> Connection:
    """The endpoint from the flag, LAMBENT_ENDPOINT, AWS_ENDPOINT_URL_LAMBDA, AWS_ENDPOINT_URL, or the first profile.

    AWS_ACCESS_KEY_ID belongs to the AWS_ENDPOINT_URL beside it. A node that is named otherwise and has a profile is
    called with the profile's key, for that in the environment may well be one for AWS. Raises BadConnection.
    """
    profile = _read_first(profiles)
    for source, candidate in (
        ("--endpoint", endpoint),
        ("LAMBENT_ENDPOINT", environ.get("LAMBENT_ENDPOINT")),
        ("AWS_ENDPOINT_URL_LAMBDA", environ.get("AWS_ENDPOINT_URL_LAMBDA")),
        ("AWS_ENDPOINT_URL", environ.get("AWS_ENDPOINT_URL")),
    ):
        if candidate:
            return _connect_to(_check_url(candidate, source), source, region, environ, profile)
    if profile is None:
        return Connection(
            endpoint=DEFAULT_ENDPOINT,
            region=region or _region_of(environ) or DEFAULT_REGION,
            credentials=_key_of(environ),
            source="the default",
        )
    return dataclasses.replace(profile, region=region or profile.region)


def _connect_to(
    endpoint: str, source: str, region: str | None, environ: Mapping[str, str], profile: Connection | None
) -> Connection:
    is_profile = profile is not None and profile.endpoint.rstrip("/") == endpoint and not source.startswith("AWS_")
    if profile is not None and (is_profile or _key_of(environ) is None):
        return Connection(
            endpoint=endpoint, region=region or profile.region, credentials=profile.credentials, source=source
        )
    return Connection(
        endpoint=endpoint,
        region=region or _region_of(environ) or DEFAULT_REGION,
        credentials=_key_of(environ),
        source=source,
    )


def _check_url(url: str, source: str) -> str:
    if not url.startswith(("http://", "https://")) or len(url.split("//", 1)[1]) == 0:
        raise BadConnection(f"{source} must be a URL such as {DEFAULT_ENDPOINT}, not {url!r}.")
    return url.rstrip("/")


def _key_of(environ: Mapping[str, str]) -> Credentials | None:
    access_key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    return Credentials(access_key=access_key, secret=secret) if access_key and secret else None


def _region_of(environ: Mapping[str, str]) -> str | None:
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")


def _read_first(paths: Sequence[Path]) -> Connection | None:
    for path in paths:
        profile = _read_profile(path)
        if profile is not None:
            return profile
    return None


def _read_profile(path: Path) -> Connection | None:
    """None where there is none, or where it is another user's."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        section = parser[_SECTION]
        return Connection(
            endpoint=section["endpoint_url"],
            region=section.get("region", DEFAULT_REGION),
            credentials=Credentials(access_key=section["aws_access_key_id"], secret=section["aws_secret_access_key"]),
            source=str(path),
        )
    except OSError:
        return None
    except (configparser.Error, KeyError, UnicodeDecodeError) as exc:
        raise BadConnection(f"{path} is not a profile that `lambent up` wrote: restart the node to renew it.") from exc

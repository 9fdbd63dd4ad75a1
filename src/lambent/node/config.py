"""A node's settings: defaults < `lambent.toml` < `LAMBENT_*` < flags. Read once, when the node starts."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

import msgspec
from msgspec import Meta

from lambent.model import limits
from lambent.model.errors import OperatorError

FILE_NAME = "lambent.toml"
PYTHONS = tuple(f"python3.{minor}" for minor in range(9, 15))
NODES = ("nodejs20.x", "nodejs22.x", "nodejs24.x")
PROVIDED = ("provided.al2", "provided.al2023")
RUNTIME_NAMES = (*PYTHONS, *NODES, *PROVIDED)
_PREFIX = "LAMBENT_"
_CLIENT_VARIABLES = frozenset({"ENDPOINT", "DEBUG", "CONFIG"})
"""Of the command line, not of the node."""
_LOOPBACK_NAMES = frozenset({"localhost", "::1"})


def default_data_dir(environ: Mapping[str, str]) -> str:
    """`/var/lib/lambent` for root, the user's own data folder otherwise: where state lies must not hang on the
    folder that a node happens to be started in."""
    if os.geteuid() == 0:
        return "/var/lib/lambent"
    home = environ.get("HOME") or str(Path.home())
    return str(Path(environ.get("XDG_DATA_HOME") or f"{home}/.local/share") / "lambent")


# What a value must be stands in its description: messages and docs say it in the same words.
_Text = Annotated[str, Meta(description="text", min_length=1)]
_MaybeText = Annotated[str, Meta(description="text")]
_Flag = Annotated[bool, Meta(description="true or false")]
_Positive = Annotated[int, Meta(description="a whole number of at least 1", ge=1)]
_Count = Annotated[int, Meta(description="a whole number of at least 0", ge=0)]
_Processes = Annotated[int, Meta(description="a whole number of processes from 1 to 64", ge=1, le=64)]
_Seconds = Annotated[int, Meta(description="a whole number of seconds, at least 0", ge=0)]
_Megabytes = Annotated[int, Meta(description="a whole number of megabytes, at least 0", ge=0)]
_InitSeconds = Annotated[int, Meta(description="seconds from 1 to 900", ge=1, le=900)]
_Port = Annotated[int, Meta(description="a port from 0 (any free one) to 65535", ge=0, le=65_535)]
_Region = Annotated[str, Meta(description="a region name such as us-east-1", pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
_Url = Annotated[str, Meta(description="a URL that starts with http:// or https://", pattern=r"^https?://[^/\s]+")]
_Texts = Annotated[list[str], Meta(description='a list of texts, ["...", "..."]')]
_Paths = Annotated[dict[str, str], Meta(description='a table of paths, "python3.12" = "/path/to/python3.12"')]
_Connections = Annotated[
    dict[str, dict[str, str]], Meta(description='a table of connections, [connections.NAME] with url = "..."')
]
_Folders = Annotated[
    dict[str, dict[str, str]], Meta(description='a table of folders, [folders.NAME] with path and bucket = "..."')
]
_Isolation = Annotated[Literal["auto", "namespace", "process"], Meta(description="auto, namespace or process")]
_Scratch = Annotated[Literal["auto", "tmpfs"], Meta(description="auto (disk images where they can be had) or tmpfs")]
_Missed = Annotated[Literal["once", "all", "skip"], Meta(description="once, all or skip")]
_KeepAlive = Annotated[Literal["fixed", "adaptive"], Meta(description="fixed or adaptive")]
_Level = Annotated[Literal["debug", "info", "warning", "error"], Meta(description="debug, info, warning or error")]


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """Where environments with outgoing network may connect to."""

    allow_private: _Flag = False
    allow_hosts: _Texts = []
    """`ADDRESS[:PORT]` or `CIDR[:PORT]`, allowed whatever else says no."""
    pool_size: _Positive = 4
    """Network namespaces kept ready."""


class Http(msgspec.Struct, frozen=True, kw_only=True):
    """What a client of the HTTP server may take."""

    header_timeout_seconds: _Positive = 20
    """For the head of a request."""
    body_timeout_seconds: _Positive = 60
    """Without a byte of a body that was promised."""
    idle_timeout_seconds: _Positive = 65
    """Between requests."""
    write_timeout_seconds: _Positive = 60
    """Without a byte of the answer being taken."""
    max_header_bytes: _Positive = 65_536
    max_connections: _Positive = 20_000
    """Of each process; one more is answered 503."""
    trusted_proxies: _Texts = []
    """Addresses or CIDRs of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed."""


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """A port with TLS beside the plain one."""

    port: _Port = 0
    """0: none."""
    certificate: _MaybeText = ""
    """Path of a chain in PEM."""
    key: _MaybeText = ""
    client_ca: _MaybeText = ""
    """Path of the certificates that clients' own are checked against; empty: clients are not asked for one."""
    domains: _Folders = {}
    """By name (`www.example.com`, `*.example.com`): `certificate` and `key` for those who ask for it."""


class WebSockets(msgspec.Struct, frozen=True, kw_only=True):
    """How long the connections of WebSocket APIs live."""

    idle_seconds: _Positive = 600
    longest_seconds: _Positive = 7_200


class Prewarm(msgspec.Struct, frozen=True, kw_only=True):
    """Environments that wait without code."""

    shells: _Count = 2
    """Of each runtime that is in use; 0: none."""


class Events(msgspec.Struct, frozen=True, kw_only=True):
    """Asynchronous events that have ended: how long, and how many, they can be shown and replayed."""

    keep_seconds: _Seconds = 86_400
    keep: _Count = 100_000


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """Sending and receiving mail."""

    relay: _MaybeText = ""
    """smtp://[USER:PASSWORD@]HOST[:PORT] or smtps://...; empty: none is sent, but written to files with `dev`."""
    sender: _Text = "lambent@localhost"
    """Who writes when the node itself does."""
    host: _MaybeText = ""
    """Where mail is received; empty: at the node's own host."""
    port: _Port = 0
    """0: none is received."""
    hostname: _Text = "localhost"
    """What the receiver calls itself."""
    max_bytes: _Positive = 41_943_040
    certificate: _MaybeText = ""
    """Path of a certificate chain in PEM, for STARTTLS."""
    certificate_key: _MaybeText = ""

    def __repr__(self) -> str:
        """Without the relay, which has a password in it."""
        return f"Mail(sender={self.sender!r}, port={self.port})"


class Containers(msgspec.Struct, frozen=True, kw_only=True):
    """Events of a container runtime of this machine."""

    socket: _MaybeText = ""
    """Of Docker or Podman, such as /var/run/docker.sock; empty: none are read."""
    target: _MaybeText = ""
    """ARN of the function, queue, topic or bus that they go to."""


class Logs(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept of each function's log."""

    max_file_bytes: _Positive = 16 * 1_048_576
    files: _Positive = 4


class S3(msgspec.Struct, frozen=True, kw_only=True):
    """Where `Code.S3Bucket` is read from. All four or none."""

    endpoint_url: _Url = ""
    access_key_id: _Text = ""
    secret_access_key: _Text = ""
    region: _Text = "us-east-1"

    def __repr__(self) -> str:
        """Without the secret, so that no log or traceback can show it."""
        return f"S3(endpoint_url={self.endpoint_url!r}, region={self.region!r})"


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    s3: S3 | None = None


class BulkS3(msgspec.Struct, frozen=True, kw_only=True):
    """The S3-compatible store in which the objects of some buckets lie. The first four or none."""

    endpoint_url: _Url = ""
    access_key_id: _Text = ""
    secret_access_key: _Text = ""
    buckets: _Texts = []
    """Names, or patterns such as `bulk-*`."""
    region: _Text = "us-east-1"

    def __repr__(self) -> str:
        """Without the secret, so that no log or traceback can show it."""
        return f"BulkS3(endpoint_url={self.endpoint_url!r}, buckets={self.buckets!r})"


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    s3: BulkS3 | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a node is told. docs/cli.md, "Settings", says what each one means."""

    data_dir: _Text
    host: _Text = "127.0.0.1"
    port: _Port = 8700
    dev: _Flag = False
    public_url: _MaybeText = ""
    """How others reach the node, for links in messages; empty: by the address that it listens on."""
    processes: _Processes = 1
    region: _Region = "us-east-1"
    account_concurrency: _Positive = limits.DEFAULT_ACCOUNT_CONCURRENCY
    keep_alive: _KeepAlive = "fixed"
    keep_alive_seconds: _Seconds = 600
    init_timeout_seconds: _InitSeconds = limits.INIT_TIMEOUT_MS // 1000
    drain_timeout_seconds: _Seconds = 30
    max_environments: _Positive = 1_000
    memory_budget_mb: _Megabytes = 0
    """For all environments together; 0: four fifths of the machine's memory."""
    max_parallel_starts: _Count = 0
    """0: two for each processor."""
    queue_seconds: _Seconds = 10
    """How long an invocation waits for room on a full node."""
    missed_runs: _Missed = "once"
    """What becomes of the due times of schedules that passed while the node was down."""
    isolation: _Isolation = "auto"
    cpu_quota: _Flag = False
    scratch_disks: _Scratch = "auto"
    snapstart_memory_mb: _Megabytes = 2_048
    """For SnapStart templates, all together; 0 makes none."""
    log_level: _Level = "info"
    network: Network = msgspec.field(default_factory=Network)
    http: Http = msgspec.field(default_factory=Http)
    tls: Tls = msgspec.field(default_factory=Tls)
    web_sockets: WebSockets = msgspec.field(default_factory=WebSockets)
    prewarm: Prewarm = msgspec.field(default_factory=Prewarm)
    events: Events = msgspec.field(default_factory=Events)
    containers: Containers = msgspec.field(default_factory=Containers)
    mail: Mail = msgspec.field(default_factory=Mail)
    logs: Logs = msgspec.field(default_factory=Logs)
    runtimes: _Paths = {}
    connections: _Connections = {}
    """Sources beyond this node that event source mappings may read; docs/events.md says what each kind takes."""
    folders: _Folders = {}
    """Folders of this machine that are taken into buckets; docs/events.md, "Watched folders"."""
    upstream: Upstream = msgspec.field(default_factory=Upstream)
    storage: Storage = msgspec.field(default_factory=Storage)

    def __repr__(self) -> str:
        """Without connections, which have passwords in them."""
        return f"Settings(data_dir={self.data_dir!r}, host={self.host!r}, port={self.port})"


class _Source(NamedTuple):
    name: str
    """As messages call it."""
    values: Mapping[tuple[str, ...], Any]
    spelled: Mapping[tuple[str, ...], str]
    """How each key is written there."""
    is_text: bool = False
    """Every value is text and is read as what its setting wants."""


def load_settings(
    *,
    flags: Mapping[str, Any] | None = None,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Settings from everywhere. `flags` by setting name, None for those not given; `config` must exist when given.

    Raises OperatorError: a file that cannot be read, an unknown key, a value of the wrong type, `--dev` off loopback.
    """
    environ = os.environ if environ is None else environ
    sources = [_read_environment(environ), _read_flags(flags or {})]
    path = _find_file(config, environ, folder or Path.cwd())
    if path is not None:
        sources.insert(0, _read_file(path))
    merged: dict[str, Any] = {"data_dir": default_data_dir(environ)}
    for source in sources:
        _merge(merged, source)
    _absolute(merged, environ)
    settings = msgspec.convert(merged, Settings)
    _check(settings)
    return settings


def is_loopback(host: str) -> bool:
    return host in _LOOPBACK_NAMES or (host.startswith("127.") and host.count(".") == 3)


def setting_names() -> list[str]:
    """Every setting by its dotted name, as docs/cli.md lists them."""
    return [".".join(key) for key in _LEAVES]


_OPTIONAL: dict[Any, Any] = {S3 | None: S3, BulkS3 | None: BulkS3}
"""Tables that may be missing as a whole."""


def _leaves(struct: type[msgspec.Struct], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, hint in get_type_hints(struct, include_extras=True).items():
        inner = _OPTIONAL.get(hint, hint)
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            yield from _leaves(inner, (*prefix, name))
        else:
            yield (*prefix, name), hint


_LEAVES: dict[tuple[str, ...], Any] = dict(_leaves(Settings))


def _find_file(config: Path | None, environ: Mapping[str, str], folder: Path) -> Path | None:
    if config is None and environ.get("LAMBENT_CONFIG"):
        config = Path(environ["LAMBENT_CONFIG"])
    if config is not None:
        return config
    found = folder / FILE_NAME
    return found if os.access(found, os.F_OK) else None


def _read_file(path: Path) -> _Source:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise OperatorError(
            f"{path} cannot be read: {exc.strerror}; correct it or name another with --config."
        ) from exc
    except UnicodeDecodeError as exc:
        raise OperatorError(f"{path} is not UTF-8 text; save it as UTF-8.") from exc
    except tomllib.TOMLDecodeError as exc:
        raise OperatorError(f"{path} is not valid TOML: {exc}; correct that line.") from exc
    values = dict(_flatten(table, str(path)))
    return _Source(str(path), values, {key: ".".join(key) for key in values})


def _flatten(
    table: Mapping[str, Any], path: str, prefix: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in table.items():
        key = (*prefix, name)
        if key in _LEAVES:
            yield key, value
        elif not any(leaf[: len(key)] == key for leaf in _LEAVES):
            raise OperatorError(f"{path}: there is no setting {'.'.join(key)}{_suggest(key)}")
        elif isinstance(value, Mapping):
            yield from _flatten(value, path, key)
        else:
            raise OperatorError(f"{path}: {'.'.join(key)} must be a table, not {_show(value)}: write [{'.'.join(key)}]")


def _suggest(key: tuple[str, ...]) -> str:
    siblings = {leaf[len(key) - 1] for leaf in _LEAVES if leaf[: len(key) - 1] == key[:-1] and len(leaf) >= len(key)}
    close = difflib.get_close_matches(key[-1], siblings, n=1)
    if close:
        return f"; did you mean {'.'.join((*key[:-1], close[0]))}?"
    elsewhere = [leaf for leaf in _LEAVES if leaf[-1] == key[-1]]
    if elsewhere:
        return f"; did you mean {'.'.join(elsewhere[0])}?"
    return f"; remove it. There are: {', '.join(sorted(siblings))}."


def _read_environment(environ: Mapping[str, str]) -> _Source:
    by_variable = {"_".join(key).upper(): key for key in _LEAVES}
    values: dict[tuple[str, ...], Any] = {}
    spelled: dict[tuple[str, ...], str] = {}
    for variable, text in environ.items():
        name = variable.removeprefix(_PREFIX)
        if name == variable or name in _CLIENT_VARIABLES or not text:
            continue
        key = by_variable.get(name)
        if key is not None:
            values[key], spelled[key] = text, variable
            continue
        # What merely starts like ours may be another's (Kubernetes sets NAME_SERVICE_HOST); a slip of ours is not.
        close = difflib.get_close_matches(name, by_variable, n=1, cutoff=0.7)
        if close:
            raise OperatorError(f"{variable}: there is no such setting; did you mean {_PREFIX}{close[0]}?")
    return _Source("the environment", values, spelled, is_text=True)


def _read_flags(flags: Mapping[str, Any]) -> _Source:
    given: dict[tuple[str, ...], Any] = {(name,): value for name, value in flags.items() if value is not None}
    spelled = {key: "--" + key[0].removesuffix("_seconds").replace("_", "-") for key in given}
    return _Source("the command line", given, spelled)


def _merge(merged: dict[str, Any], source: _Source) -> None:
    for key, given in source.values.items():
        value = _parse_text(key, given) if source.is_text else given
        try:
            valid = msgspec.convert(value, _LEAVES[key], strict=not source.is_text)
        except msgspec.ValidationError:
            spelled = source.spelled[key]
            where = f"{source.name}: {spelled}" if source.name != "the command line" else spelled
            shown = "***" if "secret" in key[-1] or key[-1] == "connections" else _show(given)
            raise OperatorError(f"{where} must be {_describe(_LEAVES[key])}, not {shown}.") from None
        table = merged
        for name in key[:-1]:
            table = table.setdefault(name, {})
        table[key[-1]] = valid


def _parse_text(key: tuple[str, ...], text: str) -> Any:
    """`a,b` for a list, `name=path,name=path` for a table."""
    kind = _LEAVES[key].__origin__
    if kind == list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]
    if kind == dict[str, str]:
        return dict(part.strip().partition("=")[::2] for part in text.split(",") if part.strip())
    if kind is bool:
        return {"on": "true", "yes": "true", "off": "false", "no": "false"}.get(text.lower(), text.lower())
    return text


def _describe(hint: Any) -> str:
    description: str = hint.__metadata__[0].description
    return description


def _show(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _absolute(merged: dict[str, Any], environ: Mapping[str, str]) -> None:
    text = str(merged["data_dir"])
    if text == "~" or text.startswith("~/"):
        text = (environ.get("HOME") or str(Path.home())) + text[1:]
    merged["data_dir"] = str(Path(text).absolute())


def _check(settings: Settings) -> None:
    if settings.dev and not is_loopback(settings.host):
        raise OperatorError(
            f"--dev accepts any signature, so it must not listen on {settings.host}: "
            "leave out --host (127.0.0.1), or leave out --dev."
        )
    for runtime in settings.runtimes:
        if runtime not in (*PYTHONS, *NODES):
            close = difflib.get_close_matches(runtime, (*PYTHONS, *NODES), n=1)
            fix = f"did you mean {close[0]}?" if close else f"there are {', '.join((*PYTHONS, *NODES))}."
            raise OperatorError(f'runtimes: "{runtime}" has no interpreter to name; {fix}')
    for table, s3, names in (
        ("upstream.s3", settings.upstream.s3, ()),
        ("storage.s3", settings.storage.s3, ("buckets",)),
    ):
        for name in ("endpoint_url", "access_key_id", "secret_access_key", *names) if s3 is not None else ():
            if not getattr(s3, name):
                raise OperatorError(f"{table}.{name} is missing; set it beside the others of [{table}].")

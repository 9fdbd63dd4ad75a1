"""The only place that knows everything: builds a node of its parts and runs it."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvloop

from lambent.awsapi.context import RequestContext
from lambent.awsapi.sigv4 import presign
from lambent.controlplane.operations import operations
from lambent.controlplane.packages import merged_name
from lambent.controlplane.plane import ControlPlane, open_plane
from lambent.dataplane.dispatch.books import Books
from lambent.dataplane.dispatch.directory import Directory
from lambent.dataplane.dispatch.dispatcher import Dispatcher
from lambent.dataplane.dispatch.keepalive.adaptive import AdaptiveKeepAlive
from lambent.dataplane.dispatch.keepalive.policy import FixedKeepAlive, KeepAlive
from lambent.dataplane.dispatch.starts import Starts
from lambent.dataplane.dispatch.templates import Templates
from lambent.dataplane.gateway.app import Gateway, StreamingApi
from lambent.dataplane.gateway.guarded_http import HttpLimits
from lambent.dataplane.gateway.invoke import InvokeEdge
from lambent.dataplane.gateway.streaming import StreamingInvokeEdge
from lambent.dataplane.jail import syscalls
from lambent.dataplane.sandbox import cgroups, scratch
from lambent.dataplane.sandbox.cgroups import EnvironmentLimits
from lambent.dataplane.sandbox.environment import Environment
from lambent.dataplane.sandbox.launcher import Launcher, Placement
from lambent.dataplane.sandbox.network.egress_link import Egress
from lambent.dataplane.sandbox.network.maker import NamespaceMaker
from lambent.dataplane.sandbox.network.networks import EnvironmentNetworks
from lambent.dataplane.sandbox.network.policy import AllowedHost, EgressPolicy
from lambent.dataplane.sandbox.runtime_api import RuntimeApiChannel
from lambent.dataplane.sandbox.scratch import ScratchDisks
from lambent.dataplane.sandbox.shells import Shells
from lambent.dataplane.sandbox.states import State
from lambent.dataplane.sandbox.zygotes import Zygotes
from lambent.events.storage.edge import StorageEdge
from lambent.frontdoor.place import URLS, write_address
from lambent.frontdoor.rest_apis.quotas import Quotas
from lambent.identity.accounts import AccessKey, Account, Accounts
from lambent.identity.authentication import OpenAuthenticator, SignatureAuthenticator
from lambent.identity.profile import write_profile
from lambent.identity.sessions import Sessions
from lambent.model.errors import OperatorError, PlatformError
from lambent.model.invocation import Invocation, Target
from lambent.model.provisioned import Share
from lambent.node.api import LambentApi, uptime_s
from lambent.node.config import Settings
from lambent.node.event_plane import EventPlane, join_services, open_event_plane
from lambent.node.folder import DataFolder
from lambent.node.front_door import SIGNING_NAMES, front_door_operations, open_front_door
from lambent.node.function_credentials import FunctionCredentials, own_address
from lambent.node.place import OnlyProcess, Place
from lambent.node.runtimes import Runtimes
from lambent.node.server import HttpServer, bind, make_server, serve
from lambent.node.tier import choose_confinement
from lambent.node.tls import Certificates, Pair
from lambent.node.upstream import CodeBuckets, UpstreamS3
from lambent.substrate.ports import Documents
from lambent.telemetry.log_files import LogFiles
from lambent.telemetry.log_segments import LogLimits
from lambent.telemetry.logging import set_up_logging
from lambent.telemetry.records import CountingRecorder

log = logging.getLogger(__name__)

STARTS_OF_A_PROCESSOR = 2
"""Starts at the same time: with more, those that work (imports) only take longer, and the first is ready later."""

PROFILE = "credentials"
_CODE_URL_S = 600
SWITCH_INTERVAL_S = 0.000_5
"""How long the log's thread may keep the loop's waiting: at Python's 5 ms it decides the slowest percent."""
GC_THRESHOLD = 50_000
"""Allocations between collections of young objects; an invocation leaves no cycles behind."""

KEEP_ALIVES: dict[str, Callable[[float], KeepAlive]] = {"fixed": FixedKeepAlive, "adaptive": AdaptiveKeepAlive}


def run(settings: Settings) -> int:
    """Run a node until it is told to stop. Returns the exit status; an operator's mistake is one line on stderr."""
    if settings.processes > 1:
        from lambent.node.processes.supervisor import run_many  # noqa: PLC0415 - a single process does without it

        return run_many(settings)
    set_up_logging(settings.log_level)
    # Zygotes leave their parent to become the first of a pid namespace; the node adopts them.
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    try:
        uvloop.run(_run(settings))
    except OperatorError as exc:
        print(f"Error: {exc}", file=sys.stderr)
        return 1
    return 0


async def _run(settings: Settings) -> None:
    async with contextlib.AsyncExitStack() as stack:
        folder = DataFolder(Path(settings.data_dir))
        stack.callback(folder.close)
        listener = bind(settings.host, settings.port)
        stack.callback(listener.close)
        confine = choose_confinement(settings.isolation)
        node = await build(settings, folder, confine, listener, stack, place=OnlyProcess())
        await node.serve(listener)


class Node:
    """A running node: what it serves with and what it tells of itself."""

    def __init__(
        self,
        *,
        settings: Settings,
        account: Account,
        confine: str,
        directory: Directory,
        dispatcher: Dispatcher,
        recorder: CountingRecorder,
        zygotes: Zygotes,
        templates: Templates,
        shells: Shells | None,
        runtimes: Any,
        profile: Path,
        place: Place,
    ) -> None:
        self._place = place
        self._settings = settings
        self._account = account
        self._confine = confine
        self._directory = directory
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._zygotes = zygotes
        self._templates = templates
        self._shells = shells
        self._runtimes = runtimes
        self._profile = profile
        self._started_at = time.monotonic()
        self._draining = False
        self.app: Any = None
        self.on_drain: Callable[[], None] = lambda: None

    def health(self) -> Mapping[str, Any]:
        return {"status": "draining" if self._draining else "ok", "version": version()}

    async def status(self, account: str) -> Mapping[str, Any]:
        return await self._place.status(account, self.local_status)

    def local_status(self, account: str) -> Mapping[str, Any]:
        admission = self._directory.admission(account)
        now = time.monotonic()
        return {
            "version": version(),
            "uptime_s": uptime_s(self._started_at),
            "pid": os.getpid(),
            "isolation": self._confine,
            "data_dir": str(self._settings.data_dir),
            "account": account,
            "region": self._settings.region,
            "environments": [
                _show_environment(environment, now)
                for environment in self._dispatcher.environments()
                if environment.version.account == account
            ],
            "concurrency": {"limit": admission.limit, "in_use": admission.running},
            "counters": self._recorder.snapshot(),
            "zygotes": self._zygotes.statistics(),
            "templates": self._templates.statistics(),
            "shells": self._shells.statistics() if self._shells is not None else {},
        }

    async def runtimes(self) -> list[Mapping[str, Any]]:
        shown: list[Mapping[str, Any]] = await self._runtimes.describe()
        return shown

    async def serve(self, listener: socket.socket) -> None:
        """Until SIGTERM or SIGINT; a second one does not wait."""
        server = make_server(
            self.app, drain_timeout_s=self._settings.drain_timeout_seconds, limits=_http_limits(self._settings)
        )

        def stop() -> None:
            if self._draining:
                log.warning("second signal: stopping at once", extra={"action": "stop_now"})
                server.force_exit = True
                self._dispatcher.cut_short()
                self._zygotes.kill()
            self._draining = True
            if self._shells is not None:
                self._shells.drain()
            self.on_drain()
            server.should_exit = True

        self._place.begin(stop, lambda: announce(self._settings, self._confine, self._profile, listener))
        # What stands now stays: never looked at again by the collector, which then runs rarely.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 5, 5)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        async with contextlib.AsyncExitStack() as stack:
            await _open_tls(self._settings, server, stack)
            await serve(server, listener)
        log.info("drained", extra={"action": "drained"})
        await self._place.wait_others()


async def _open_tls(settings: Settings, server: HttpServer, stack: contextlib.AsyncExitStack) -> None:
    tls = settings.tls
    if not tls.port:
        return
    if not (tls.certificate and tls.key):
        raise OperatorError("tls.port needs tls.certificate and tls.key: paths of a certificate in PEM and its key.")
    domains = {}
    for name, given in tls.domains.items():
        if set(given) != {"certificate", "key"}:
            raise OperatorError(f'tls.domains."{name}" needs certificate and key, and nothing else.')
        domains[name] = Pair(given["certificate"], given["key"])
    certificates = Certificates(Pair(tls.certificate, tls.key), domains, client_ca=tls.client_ca)
    listener = bind(settings.host, tls.port, is_shared=settings.processes > 1)
    stack.callback(listener.close)
    certificates.start()
    stack.push_async_callback(certificates.stop)
    server.encrypted = (listener, certificates.context)


def _http_limits(settings: Settings) -> HttpLimits:
    http = settings.http
    return HttpLimits(
        header_timeout_s=http.header_timeout_seconds,
        body_timeout_s=http.body_timeout_seconds,
        idle_timeout_s=http.idle_timeout_seconds,
        write_timeout_s=http.write_timeout_seconds,
        max_header_bytes=http.max_header_bytes,
        max_connections=http.max_connections,
    )


def announce(settings: Settings, confine: str, profile: Path, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"Lambent {version()} serves on http://{shown}:{port}  (isolation: {confine})", flush=True)
    if settings.tls.port:
        print(f"With TLS on https://{shown}:{settings.tls.port}", flush=True)
    print(f"Credentials: {profile}", flush=True)
    if settings.dev:
        print("--dev: any signature is accepted.", flush=True)


def _open_logs(settings: Settings, folder: DataFolder) -> LogFiles:
    file_bytes, files = settings.logs.max_file_bytes, settings.logs.files
    limits = LogLimits(file_bytes=file_bytes, files=files, total_bytes=file_bytes * files)
    return LogFiles(folder.folder("logs"), limits=limits)


async def build(
    settings: Settings,
    folder: DataFolder,
    confine: str,
    listener: socket.socket,
    stack: contextlib.AsyncExitStack,
    *,
    place: Place,
) -> Node:
    documents = await place.open_documents(folder.path / "state.db", stack)
    accounts, sessions = await _open_identity(documents, stack)
    account, key = await _first_account(accounts, settings)
    profile = folder.path / PROFILE
    if place.owns_state:
        write_profile(profile, key, region=settings.region, endpoint_url=_endpoint(settings, listener))
    logs = _open_logs(settings, folder)
    stack.push_async_callback(logs.close)
    recorder = CountingRecorder()

    code_buckets = CodeBuckets(UpstreamS3(settings.upstream.s3) if settings.upstream.s3 is not None else None)
    plane = open_plane(
        documents,
        place.open_blobs(folder.folder("blobs")),
        folder.folder("code"),
        code_url=lambda context, record: _code_url(accounts, context, record.digest),
        function_url=lambda context, url: write_address(
            URLS, url.url_id, url.region, host=context.host, public_url=settings.public_url
        ),
        fetch_s3=code_buckets,
        tree_in_use=lambda name: uses_tree(name),  # noqa: PLW0108 - bound below
        account_concurrency=settings.account_concurrency,
        optimize=place.optimize(lambda published, network: templates.optimize(published, network)),  # noqa: PLW0108 - bound below
        allocations=place.allocations(lambda function: dispatcher.fleets.allocations(function)),  # noqa: PLW0108 - bound below
    )

    runtimes = Runtimes(settings.runtimes)
    base = folder.folder("root")
    zygotes = Zygotes(runtimes, confine=confine, base=base, trees=plane.code.trees)
    stack.push_async_callback(zygotes.stop)
    networks = await _open_networks(settings, confine, listener, stack)
    limits = _open_limits(settings, place.node_id(folder), stack)
    shells = _open_shells(settings, confine, networks, limits, stack, has_room=lambda: dispatcher.has_room())  # noqa: PLW0108 - bound below
    launcher = Launcher(
        Placement(
            confine=confine,
            region=settings.region,
            trees=plane.code.trees,
            credentials=FunctionCredentials(sessions, settings, listener, isolated=networks is not None),
        ),
        zygotes,
        networks=networks,
        scratches=await _open_scratches(settings, confine, place.scratch(folder), stack),
        limits=limits,
        shells=shells,
        layer_tree=merged_name,
        open_runtime_api=RuntimeApiChannel,
        emit_log=lambda environment, lines: dispatcher.emit_log(environment, lines),  # noqa: PLW0108 - bound below
        uids=place.uids(),
    )
    directory = Directory(
        documents, account_concurrency=settings.account_concurrency, new_admission=place.new_admission
    )
    books = Books(logs, recorder)
    dispatcher = Dispatcher(
        launcher=launcher,
        books=books,
        admission_of=directory.admission,
        keep_alive=KEEP_ALIVES[settings.keep_alive](settings.keep_alive_seconds),
        starts=Starts(
            max_environments=place.share(settings.max_environments),
            memory_budget_mb=place.share(settings.memory_budget_mb or _machine_memory_mb() * 4 // 5),
            max_parallel=settings.max_parallel_starts or STARTS_OF_A_PROCESSOR * (os.cpu_count() or 1),
        ),
        queue_s=settings.queue_seconds,
        init_limit_ms=settings.init_timeout_seconds * 1000,
    )
    stack.push_async_callback(dispatcher.stop)
    templates = _open_templates(settings, confine, launcher, books, memory_mb=place.share(settings.snapstart_memory_mb))
    uses_tree = place.uses_tree(
        lambda name: dispatcher.uses_tree(name) or templates.uses_tree(name),
        lambda: [*dispatcher.used_trees(), *templates.used_trees()],
    )
    if place.owns_state:
        await place.know_trees()
        await plane.start()
        stack.push_async_callback(plane.stop)
    # Before the plane, which waits for versions that are being initialised.
    stack.push_async_callback(templates.stop)
    templates.start()

    await _follow_functions(directory, dispatcher, templates, place, stack)
    dispatch = await place.dispatch(dispatcher, directory, stack)
    event_plane = None
    if place.owns_state:
        event_plane = await open_event_plane(
            settings,
            folder,
            stack,
            directory=directory,
            invoker=dispatch,
            documents=documents,
            own_url=_endpoint(settings, listener),
            account=account.id,
        )
        code_buckets.storage = event_plane.storage
    quotas = Quotas(documents)
    if place.owns_state:
        stack.push_async_callback(quotas.stop)
    services = join_services(operations(plane), event_plane, front_door_operations(settings, documents, quotas))
    api = place.api(services)
    node = Node(
        settings=settings,
        account=account,
        confine=confine,
        directory=directory,
        dispatcher=dispatcher,
        recorder=recorder,
        zygotes=zygotes,
        templates=templates,
        shells=shells,
        runtimes=runtimes,
        profile=profile,
        place=place,
    )
    read_code = place.read_code(lambda owner, digest: _read_code(plane, owner, digest))
    all_logs = place.logs(logs)
    lambent_api = LambentApi(node, all_logs, read_code, api.handle)
    node.on_drain = lambent_api.end_followers
    authenticator = _authenticator(settings, accounts, sessions, account, services.signing_names | SIGNING_NAMES)
    invoke = InvokeEdge(
        directory, dispatch, place.enqueue(event_plane.accept if event_plane is not None else _refuse_event, directory)
    )
    node.app = Gateway(
        authenticator=authenticator,
        invoke=invoke,
        streaming_invoke=StreamingInvokeEdge(invoke.parse_streamed, dispatch),
        api=api,
        node_api=lambent_api,
        streaming=(
            # First: its hosts would be taken for names of buckets.
            await open_front_door(
                settings,
                documents,
                directory,
                invoker=dispatch,
                authenticator=authenticator,
                connections=place.connections(),
                take_quota=place.quotas(quotas.take),
                write_log=all_logs.write,
                stack=stack,
            ),
            await place.buckets(_open_buckets(authenticator, event_plane), stack),
        ),
    )
    return node


async def _follow_functions(
    directory: Directory,
    dispatcher: Dispatcher,
    templates: Templates,
    place: Place,
    stack: contextlib.AsyncExitStack,
) -> None:
    """From now on what is deployed decides what can be invoked, and what is kept ready for it."""

    def follow_version(version_arn: str, revision_id: str | None) -> None:
        dispatcher.follow_version(version_arn, revision_id)
        templates.follow_version(version_arn, revision_id)

    def follow_shares(function: str, shares: Sequence[Share]) -> None:
        if place.is_home(function):
            dispatcher.fleets.follow(function, shares)

    directory.on_version, directory.on_shares = follow_version, follow_shares
    await directory.start()
    stack.push_async_callback(directory.stop)
    optimized = directory.optimized()
    templates.rebuild(
        [target for target in optimized if place.is_home(f"{target.version.account}/{target.version.name}")]
    )
    place.serve_home(dispatcher.fleets.allocations, templates.optimize)


def _open_buckets(
    authenticator: OpenAuthenticator | SignatureAuthenticator, plane: EventPlane | None
) -> StreamingApi | None:
    if plane is None:
        return None
    return StorageEdge(authenticator, plane.storage.files, plane.storage.operations, plane.storage.front)


async def _refuse_event(_target: Target, _invocation: Invocation) -> None:
    """Of a process that does not own the node's state; those that ask get the owner's."""
    raise PlatformError("This process does not take events.", retry_safe=True)


def _machine_memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_048_576


def _open_shells(
    settings: Settings,
    confine: str,
    networks: EnvironmentNetworks | None,
    limits: EnvironmentLimits | None,
    stack: contextlib.AsyncExitStack,
    *,
    has_room: Callable[[], bool],
) -> Shells | None:
    if networks is None or not settings.prewarm.shells:
        return None
    shells = Shells(count=settings.prewarm.shells, confine=confine, networks=networks, limits=limits, has_room=has_room)
    stack.push_async_callback(shells.close)
    return shells


def _open_templates(settings: Settings, confine: str, launcher: Launcher, books: Books, *, memory_mb: int) -> Templates:
    templates = Templates(
        launcher,
        unavailable=_why_no_templates(settings, confine),
        memory_mb=memory_mb,
        journal_of=books.journal_of,
        forget=books.close,
    )
    launcher.templates = templates
    return templates


def _why_no_templates(settings: Settings, confine: str) -> str:
    if confine != "root":
        return "the node has to run as root for it, in the namespace tier"
    return "" if settings.snapstart_memory_mb else "snapstart_memory_mb is 0"


async def _open_networks(
    settings: Settings, confine: str, listener: socket.socket, stack: contextlib.AsyncExitStack
) -> EnvironmentNetworks | None:
    """Namespaces made ahead and the process through which their connections leave; none in the process tier."""
    if confine == "process":
        return None
    try:
        allowed = tuple(AllowedHost.parse(text) for text in settings.network.allow_hosts)
    except ValueError as exc:
        raise OperatorError(f"network.allow_hosts: {exc}") from exc
    egress = Egress(log_level=settings.log_level)
    await egress.start()
    stack.push_async_callback(egress.stop)
    maker = NamespaceMaker() if confine == "root" else None
    if maker is not None:
        stack.push_async_callback(maker.stop)
    networks = EnvironmentNetworks(
        egress,
        maker=maker,
        policy=EgressPolicy(
            allow_private=settings.network.allow_private, allow_hosts=allowed, api=own_address(settings, listener)
        ),
        spare={"outgoing": settings.network.pool_size, "none": 1},
    )
    stack.push_async_callback(networks.close)
    try:
        await networks.start()
    except PlatformError as exc:
        raise OperatorError(
            f"Network namespaces cannot be made here: {exc}. `lambent doctor` says how to mend it."
        ) from exc
    return networks


def _open_limits(settings: Settings, node_id: str, stack: contextlib.AsyncExitStack) -> EnvironmentLimits | None:
    """Control groups where this user may make them; None leaves rlimits."""
    driver = cgroups.discover()
    problem = "none can be used by this user"
    if driver is not None:
        try:
            driver.start(node_id)
        except OSError as exc:
            problem = str(exc)
        else:
            stack.callback(driver.stop)
            return EnvironmentLimits(driver, cpu_quota=settings.cpu_quota)
    log.warning(
        "no control groups: memory is limited by rlimits alone, CPU not at all",
        extra={"action": "no_cgroups", "reason": problem},
    )
    return None


async def _open_scratches(
    settings: Settings, confine: str, folder: Path, stack: contextlib.AsyncExitStack
) -> ScratchDisks | None:
    """Disk images behind /tmp where this machine can make them; None leaves a tmpfs, counted as memory."""
    if confine != "root" or settings.scratch_disks == "tmpfs":
        return None
    problem = scratch.probe()
    if problem is None:
        disks = ScratchDisks(folder)
        try:
            await disks.start()
        except OSError as exc:
            problem = str(exc)
        else:
            stack.push_async_callback(disks.close)
            return disks
    log.warning(
        "the scratch disk is a tmpfs and counts as memory", extra={"action": "no_scratch_disks", "reason": problem}
    )
    return None


async def _open_identity(documents: Documents, stack: contextlib.AsyncExitStack) -> tuple[Accounts, Sessions]:
    accounts = await Accounts.load(documents)
    stack.push_async_callback(accounts.stop)
    return accounts, await Sessions.load(documents)


async def _first_account(accounts: Accounts, settings: Settings) -> tuple[Account, AccessKey]:
    existing = accounts.accounts()
    if existing:
        return existing[0], accounts.keys_of(existing[0].id)[0]
    return await accounts.create_account("default", concurrency=settings.account_concurrency)


def _authenticator(
    settings: Settings, accounts: Accounts, sessions: Sessions, account: Account, services: Collection[str]
) -> OpenAuthenticator | SignatureAuthenticator:
    if settings.dev:
        return OpenAuthenticator(account=account.id, region=settings.region)
    return SignatureAuthenticator(accounts, sessions, region=settings.region, services=services)


def _endpoint(settings: Settings, listener: socket.socket) -> str:
    host, port = own_address(settings, listener)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _code_url(accounts: Accounts, context: RequestContext, digest: str) -> str:
    key = accounts.keys_of(context.account)[0]
    return presign(
        url=f"http://{context.host}/_lambent/code/{digest}",
        access_key=key.access_key_id,
        secret=key.secret,
        region=context.region,
        expires_s=_CODE_URL_S,
    )


async def _read_code(plane: ControlPlane, account: str, digest: str) -> bytes:
    if not await plane.owns_code(account, digest):
        raise KeyError(digest)
    return await plane.code.read(digest)


def _show_environment(environment: Environment, now: float) -> dict[str, Any]:
    idle = environment.state is State.IDLE
    return {
        "id": environment.id,
        "function": environment.version.name,
        "version": environment.version.version,
        "state": environment.state.value,
        "pid": environment.pid,
        "memory_mb": environment.peak_memory_mb(),
        "provisioned": environment.provisioned,
        "invocations": environment.invocations,
        "running": environment.running,
        "concurrency": environment.concurrency,
        "idle_s": round(now - environment.idle_since, 1) if idle else None,
    }


def version() -> str:
    return importlib.metadata.version("lambent")

"""The event plane of a node: its tables, its modules, and the operations that they serve.

Only the process that owns the node's state runs it; the others forward what is asked of it (`Place.api`).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Mapping

from lambent.awsapi.context import Operation
from lambent.awsapi.services import OwnEndpoint, Services
from lambent.dataplane.dispatch.directory import Directory
from lambent.events import outbox
from lambent.events.async_invoke import lineage
from lambent.events.async_invoke import store as async_store
from lambent.events.async_invoke.api import EventInvokeOperations
from lambent.events.async_invoke.endpoint import PATH as EVENTS_PATH
from lambent.events.async_invoke.endpoint import EventsEndpoint
from lambent.events.async_invoke.invoker import AsyncInvoker
from lambent.events.async_invoke.migration import migrate
from lambent.events.buses import store as bus_store
from lambent.events.buses.buses import BusService
from lambent.events.deliveries import Deliveries, Delivery
from lambent.events.folders import store as folder_store
from lambent.events.folders.mirror import FolderMirror, WatchedFolder
from lambent.events.intakes import containers
from lambent.events.intakes import store as intake_store
from lambent.events.intakes.api import HookSettings
from lambent.events.intakes.containers import ContainerEvents
from lambent.events.intakes.hooks import INTAKE_PATH, SETTINGS_PATH
from lambent.events.intakes.intake import Intake
from lambent.events.intakes.store import HookStore
from lambent.events.mail import store as mail_store
from lambent.events.mail.api import MailOperations
from lambent.events.mail.desk import MailDesk
from lambent.events.mail.sending import MailRoom, Relay
from lambent.events.mail.smtp import SmtpReceiver
from lambent.events.mappings import store as mapping_store
from lambent.events.mappings.api import MappingsApi
from lambent.events.mappings.model import Mapping as SourceMapping
from lambent.events.mappings.runtime import Runtime
from lambent.events.mappings.sources.kinds import make_kinds
from lambent.events.queues import moves as queue_moves
from lambent.events.queues import store as queue_store
from lambent.events.queues.queues import QueueService
from lambent.events.schedules import store as schedule_store
from lambent.events.schedules import timers
from lambent.events.schedules.schedules import ScheduleService
from lambent.events.storage import store as storage_store
from lambent.events.storage.bulk_store import BulkStore, StoreSettings
from lambent.events.storage.storage import StorageService
from lambent.events.topics import store as topic_store
from lambent.events.topics.forms import Links
from lambent.events.topics.topics import TopicService
from lambent.model.errors import CallerError, OperatorError
from lambent.model.identifiers import new_request_id, new_trace_id
from lambent.model.invocation import Invocation, Invoker, Outcome, Target
from lambent.node.config import Settings
from lambent.node.folder import DataFolder
from lambent.node.front_door import open_outgoing
from lambent.node.mail_relay import MailFiles, SmtpRelay
from lambent.substrate.ports import Documents, Schema, Tables
from lambent.substrate.sqlite.tables import open_tables

Accept = Callable[[Target, Invocation], Awaitable[None]]
"""Returns when the event is durable."""

FILE = "events.db"
SERVICES: tuple[str, ...] = ("lambda", "ses", "sns", "sqs", "events", "scheduler", "s3")
"""By botocore's names, what the plane serves; its operations of `lambda` join the control plane's."""
SCHEMAS: tuple[Schema, ...] = (
    outbox.SCHEMA,
    queue_store.SCHEMA,
    queue_moves.SCHEMA,
    async_store.SCHEMA,
    intake_store.SCHEMA,
    containers.SCHEMA,
    mail_store.SCHEMA,
    topic_store.SCHEMA,
    timers.SCHEMA,
    schedule_store.SCHEMA,
    bus_store.SCHEMA,
    mapping_store.SCHEMA,
    storage_store.SCHEMA,
    folder_store.SCHEMA,
)
"""Of every module, in the order in which they may refer to each other."""


@dataclasses.dataclass(slots=True, kw_only=True)
class EventPlane:
    """`operations` by the names in SERVICES."""

    deliveries: Deliveries
    accept: Accept
    """Takes an event for a function."""
    operations: dict[str, Mapping[str, Operation]]
    own: dict[bytes, OwnEndpoint]
    """Lambent's own endpoints, by the prefix of their paths."""
    storage: StorageService
    """Served beside the other services, since it streams."""


async def open_event_plane(
    settings: Settings,
    folder: DataFolder,
    stack: contextlib.AsyncExitStack,
    *,
    directory: Directory,
    invoker: Invoker,
    documents: Documents,
    own_url: str,
    account: str,
) -> EventPlane:
    """Build and start every module; `stack` stops them in reverse order. Raises OperatorError.

    `documents` may hold events of earlier versions; `own_url` is where this machine reaches the node; `account` has
    what the settings give to none.
    """
    tables = open_tables(folder.path / FILE, SCHEMAS)
    stack.push_async_callback(tables.close)
    deliveries = Deliveries()
    storage = await open_storage(settings, folder, tables, deliveries, stack)
    events = AsyncInvoker(
        tables,
        invoker,
        directory.resolve,
        deliveries,
        kept_s=settings.events.keep_seconds,
        kept_events=settings.events.keep,
    )
    plane = EventPlane(deliveries=deliveries, accept=events.accept, operations={}, own={}, storage=storage)
    plane.operations["lambda"] = EventInvokeOperations(tables, deliveries, directory.resolve).operations()
    plane.own[EVENTS_PATH.encode()] = EventsEndpoint(tables, events, directory.resolve).serve
    await migrate(documents, tables)
    await events.recover()
    open_functions(plane, directory, events.accept)
    await open_queues(plane, tables, stack)
    open_hooks(plane, tables)
    open_containers(plane, settings, tables, stack)
    room = await open_mail(plane, settings, folder, tables, stack)
    await open_topics(plane, settings, tables, room, stack, base_url=settings.public_url or own_url)
    await open_clockwork(plane, settings, tables, stack)
    await open_mappings(plane, settings, tables, stack, directory=directory, invoker=invoker)
    # Last: what waits may have to be delivered to any of the above.
    await events.start()
    stack.push_async_callback(events.stop)
    await open_folders(plane, settings, tables, stack, account=account)
    return plane


async def open_storage(
    settings: Settings,
    folder: DataFolder,
    tables: Tables,
    deliveries: Deliveries,
    stack: contextlib.AsyncExitStack,
) -> StorageService:
    s3 = settings.storage.s3
    bulk = None
    if s3 is not None:
        given = (s3.endpoint_url, s3.access_key_id, s3.secret_access_key, s3.region, s3.buckets)
        bulk = BulkStore(StoreSettings(*given))
    storage = StorageService(tables, deliveries, folder.path / "storage", bulk=bulk)
    try:
        await storage.start()
    except OSError as exc:
        raise OperatorError(f"The objects in {folder.path / 'storage'} cannot be read: {exc}") from exc
    stack.push_async_callback(storage.stop)
    return storage


async def open_folders(
    plane: EventPlane, settings: Settings, tables: Tables, stack: contextlib.AsyncExitStack, *, account: str
) -> None:
    for name, given in settings.folders.items():
        folder = read_folder(name, given, account=account)
        try:
            if not await plane.storage.has_bucket(folder.account, folder.bucket):
                await plane.storage.create_bucket(folder.account, settings.region, folder.bucket)
        except CallerError as exc:
            raise OperatorError(f"folders.{name}.bucket: {folder.bucket!r} cannot be made: {exc.message}") from exc
        mirror = FolderMirror(folder, tables, plane.storage)
        await mirror.start()
        stack.push_async_callback(mirror.stop)


def read_folder(name: str, given: Mapping[str, str], *, account: str) -> WatchedFolder:
    """Raises OperatorError."""
    known = {"path", "bucket", "prefix", "account"}
    for key in given:
        if key not in known:
            raise OperatorError(
                f"folders.{name}.{key}: there is no such setting; there are {', '.join(sorted(known))}."
            )
    for key in ("path", "bucket"):
        if not given.get(key):
            raise OperatorError(f'folders.{name}.{key} is missing: write {key} = "..." below [folders.{name}].')
    if not given["path"].startswith("/"):
        raise OperatorError(f"folders.{name}.path must begin with a slash, not be {given['path']!r}.")
    return WatchedFolder(
        name=name,
        path=given["path"],
        bucket=given["bucket"],
        prefix=given.get("prefix", ""),
        account=given.get("account", account),
    )


def open_functions(plane: EventPlane, directory: Directory, accept: Accept) -> None:
    """Functions as targets: what is delivered to them is an event of an asynchronous invocation."""

    async def deliver(delivery: Delivery) -> None:
        target = _resolve(directory, delivery.account, delivery.target)
        invocation = Invocation(
            request_id=new_request_id(), payload=delivery.body, trace_id=delivery.trace_id or new_trace_id()
        )
        await accept(target, invocation)

    async def exists(account: str, arn: str) -> bool:
        try:
            _resolve(directory, account, arn)
        except CallerError:
            return False
        return True

    plane.deliveries.serve("lambda", deliver, exists)


def _resolve(directory: Directory, account: str, arn: str) -> Target:
    _, _, _, region, _, _, name, *qualifier = arn.split(":") + [""] * max(0, 7 - arn.count(":"))
    return directory.resolve(account, region, name, qualifier[0] if qualifier else "")


async def open_queues(plane: EventPlane, tables: Tables, stack: contextlib.AsyncExitStack) -> None:
    queues = QueueService(tables, plane.deliveries)
    await queues.start()
    stack.push_async_callback(queues.stop)
    plane.operations["sqs"] = queues.operations


def open_hooks(plane: EventPlane, tables: Tables) -> None:
    hooks = HookStore(tables)
    plane.own[INTAKE_PATH.encode()] = Intake(hooks, plane.deliveries).serve
    plane.own[SETTINGS_PATH.encode()] = HookSettings(hooks, plane.deliveries).serve


def open_containers(plane: EventPlane, settings: Settings, tables: Tables, stack: contextlib.AsyncExitStack) -> None:
    socket, target = settings.containers.socket, settings.containers.target
    if not socket:
        return
    parts = target.split(":")
    if len(parts) < 6:
        raise OperatorError("containers.target must be the ARN of what the events go to.")
    reader = ContainerEvents(tables, plane.deliveries, socket=socket, account=parts[4], region=parts[3], target=target)
    reader.start()
    stack.push_async_callback(reader.stop)


async def open_mail(
    plane: EventPlane, settings: Settings, folder: DataFolder, tables: Tables, stack: contextlib.AsyncExitStack
) -> MailRoom:
    mail = settings.mail
    relay: Relay | None = MailFiles(folder.path / "mail") if settings.dev else None
    room = MailRoom(tables, SmtpRelay(mail.relay) if mail.relay else relay, sender=mail.sender)
    await room.start()
    stack.push_async_callback(room.stop)
    plane.operations["ses"] = MailOperations(tables, room, plane.deliveries).operations()
    if mail.port:
        receiver = SmtpReceiver(
            MailDesk(tables, plane.deliveries, plane.storage.put_object),
            host=mail.host or settings.host,
            port=mail.port,
            hostname=mail.hostname,
            max_bytes=mail.max_bytes,
            certificate=(mail.certificate, mail.certificate_key) if mail.certificate else None,
        )
        await receiver.start()
        stack.push_async_callback(receiver.stop)
    return room


async def open_topics(
    plane: EventPlane,
    settings: Settings,
    tables: Tables,
    room: MailRoom,
    stack: contextlib.AsyncExitStack,
    *,
    base_url: str,
) -> None:
    outgoing = open_outgoing(settings)
    stack.push_async_callback(outgoing.close)
    topics = TopicService(tables, plane.deliveries, outgoing, room.write_to, base_url=base_url)
    await topics.start()
    stack.push_async_callback(topics.stop)
    plane.operations["sns"] = topics.operations
    plane.own[Links.PATH.encode()] = topics.serve_link


async def open_clockwork(
    plane: EventPlane, settings: Settings, tables: Tables, stack: contextlib.AsyncExitStack
) -> None:
    """Buses and schedules, and the timers of both, which start last."""
    clock, missed = timers.Timers(tables), timers.Missed(settings.missed_runs)
    buses = BusService(tables, plane.deliveries, clock, missed=missed)
    schedules = ScheduleService(tables, plane.deliveries, clock, missed=missed)
    for module in (buses, schedules, clock):
        await module.start()
        stack.push_async_callback(module.stop)
    plane.operations["events"] = buses.operations
    plane.operations["scheduler"] = schedules.operations


async def open_mappings(
    plane: EventPlane,
    settings: Settings,
    tables: Tables,
    stack: contextlib.AsyncExitStack,
    *,
    directory: Directory,
    invoker: Invoker,
) -> None:
    """The last of the modules: its pollers read what the others keep."""

    async def invoke(mapping: SourceMapping, payload: bytes, trace_id: str) -> Outcome:
        target = directory.resolve(mapping.account, mapping.region, mapping.function, mapping.qualifier)
        traced = lineage.extend(trace_id or new_trace_id(), target.version.function_arn)
        return await invoker.invoke(target, Invocation(request_id=new_request_id(), payload=payload, trace_id=traced))

    async def is_loop(mapping: SourceMapping, trace_id: str) -> bool:
        arn = f"arn:aws:lambda:{mapping.region}:{mapping.account}:function:{mapping.function}"
        if lineage.count_rounds(trace_id, arn) < lineage.MAX_ROUNDS:
            return False
        mode = await tables.read(
            lambda connection: async_store.get_recursion(connection, mapping.account, mapping.function)
        )
        return mode != "Allow"

    async def has_queue(account: str, arn: str) -> bool:
        try:
            await plane.deliveries.check(account, arn)
        except CallerError:
            return False
        return True

    kinds = make_kinds(plane.operations.get("sqs", {}), has_queue)
    runtime = Runtime(
        tables,
        kinds,
        invoke=invoke,
        deliver=plane.deliveries.deliver,
        is_loop=is_loop,
        connections=settings.connections,
    )
    api = MappingsApi(
        tables,
        kinds,
        runtime,
        resolve=directory.resolve,
        deliveries=plane.deliveries,
        connections=settings.connections,
    )
    plane.operations["lambda"] = {**plane.operations.get("lambda", {}), **api.operations()}
    await runtime.start()
    stack.push_async_callback(runtime.stop, settings.drain_timeout_seconds)


def join_services(
    control: Mapping[str, Operation], plane: EventPlane | None, others: Mapping[str, Mapping[str, Operation]]
) -> Services:
    """All that the port serves. Without a plane the services are known but not served here."""
    served = {name: dict[str, Operation]() for name in SERVICES}
    served["lambda"].update(control)
    served |= {name: dict(operations) for name, operations in others.items()}
    for name, added in plane.operations.items() if plane is not None else ():
        assert not served[name].keys() & added.keys(), f"served twice: {served[name].keys() & added.keys()}"
        served[name].update(added)
    return Services(served, plane.own if plane is not None else None)

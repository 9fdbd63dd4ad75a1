"""The event plane of a node: its tables, its modules, and the operations that they serve.

Only the process that owns the node's state runs it; the others forward what is asked of it (`Place.api`).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping

from lambent.awsapi.context import Operation
from lambent.awsapi.services import OwnEndpoint, Services
from lambent.dataplane.dispatch.directory import Directory
from lambent.events import outbox
from lambent.events.deliveries import Deliveries
from lambent.events.intakes import store as intakes
from lambent.events.intakes.api import HookSettings
from lambent.events.intakes.hooks import INTAKE_PATH, SETTINGS_PATH
from lambent.events.intakes.intake import Intake
from lambent.model.invocation import Invoker
from lambent.node.config import Settings
from lambent.node.folder import DataFolder
from lambent.substrate.ports import Documents, Schema
from lambent.substrate.sqlite.tables import open_tables

FILE = "events.db"
SERVICES: tuple[str, ...] = ("lambda",)
"""By botocore's names, what the plane serves; its operations of `lambda` join the control plane's."""
SCHEMAS: tuple[Schema, ...] = (outbox.SCHEMA, intakes.SCHEMA)
"""Of every module, in the order in which they may refer to each other."""


@dataclasses.dataclass(slots=True, kw_only=True)
class EventPlane:
    """`operations` by the names in SERVICES."""

    deliveries: Deliveries
    operations: dict[str, Mapping[str, Operation]]
    own: dict[bytes, OwnEndpoint]
    """Lambent's own endpoints, by the prefix of their paths."""


async def open_event_plane(
    settings: Settings,
    folder: DataFolder,
    stack: contextlib.AsyncExitStack,
    *,
    documents: Documents,
    directory: Directory,
    invoker: Invoker,
) -> EventPlane:
    """Build and start every module; `stack` stops them in reverse order. Raises OperatorError."""
    tables = open_tables(folder.path / FILE, SCHEMAS)
    stack.push_async_callback(tables.close)
    deliveries = Deliveries()
    operations: dict[str, Mapping[str, Operation]] = {}
    hooks = intakes.HookStore(tables)
    own: dict[bytes, OwnEndpoint] = {
        INTAKE_PATH.encode(): Intake(hooks, deliveries).serve,
        SETTINGS_PATH.encode(): HookSettings(hooks, deliveries).serve,
    }
    return EventPlane(deliveries=deliveries, operations=operations, own=own)


def join_services(control: Mapping[str, Operation], plane: EventPlane | None) -> Services:
    """All that the port serves. Without a plane the services are known but not served here."""
    served = {name: dict[str, Operation]() for name in SERVICES}
    served["lambda"].update(control)
    for name, added in plane.operations.items() if plane is not None else ():
        assert not served[name].keys() & added.keys(), f"served twice: {served[name].keys() & added.keys()}"
        served[name].update(added)
    return Services(served, plane.own if plane is not None else None)

"""What differs between a node that is one process and a process that is one of several."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from lambent.awsapi.context import RequestContext
from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.dataplane.dispatch.admission import AccountAdmission
from lambent.dataplane.dispatch.directory import Directory
from lambent.dataplane.dispatch.home import LocalDispatch
from lambent.dataplane.gateway.app import StreamingApi
from lambent.dataplane.sandbox.launcher import UserIds
from lambent.frontdoor.rest_apis.quotas import TakeQuota
from lambent.frontdoor.web_sockets.connections import Connections
from lambent.model.function import Version
from lambent.model.invocation import Invocation, Target
from lambent.model.optimization import Optimization
from lambent.model.provisioned import Allocation
from lambent.node.folder import DataFolder
from lambent.substrate.blobs import FileBlobs
from lambent.substrate.ports import Blobs, Documents
from lambent.substrate.sqlite.documents import open_documents
from lambent.telemetry.function_logs import LogStore
from lambent.telemetry.log_files import LogFiles

Enqueue = Callable[[Target, Invocation], Awaitable[None]]
ReadCode = Callable[[str, str], Awaitable[bytes]]
Status = Callable[[str], Mapping[str, Any]]
Allocations = Callable[[str], Mapping[str, Allocation]]
"""By qualifier, of a function (ACCOUNT/NAME)."""
Optimize = Callable[[Version, str], Awaitable[Optimization]]
"""See `controlplane.activation.Optimize`."""
AskAllocations = Callable[[str], Awaitable[Mapping[str, Allocation]]]


class Api(Protocol):
    async def handle(self, request: HttpRequest, context: RequestContext) -> HttpResponse: ...

    def write_error(self, exc: Exception, request: HttpRequest | None, request_id: str) -> HttpResponse: ...


class Place(Protocol):
    """Each method hands a part of the node through, as it is or with the other processes behind it."""

    @property
    def owns_state(self) -> bool:
        """Whether this process writes: documents, code, events."""
        ...

    def node_id(self, folder: DataFolder) -> str: ...

    def scratch(self, folder: DataFolder) -> Path: ...

    def uids(self) -> UserIds: ...

    def share(self, of_all: int) -> int: ...

    def new_admission(self, limit: int, account: str) -> AccountAdmission: ...

    async def open_documents(self, path: Path, stack: contextlib.AsyncExitStack) -> Documents: ...

    def open_blobs(self, root: Path) -> Blobs: ...

    async def dispatch(
        self, local: LocalDispatch, directory: Directory, stack: contextlib.AsyncExitStack
    ) -> LocalDispatch: ...

    def is_home(self, function: str) -> bool:
        """Whether the environments of a function (ACCOUNT/NAME) are in this process."""
        ...

    def allocations(self, local: Allocations) -> AskAllocations:
        """What is provisioned for a function, wherever it is."""
        ...

    def optimize(self, local: Optimize) -> Optimize:
        """Has a version initialised where its environments will be."""
        ...

    def serve_home(self, allocations: Allocations, optimize: Optimize) -> None:
        """From now on answer what others ask of this process as a home of functions; till then it waits."""
        ...

    def enqueue(self, local: Enqueue, directory: Directory) -> Enqueue: ...

    def api(self, local: Api) -> Api: ...

    async def buckets(self, local: StreamingApi | None, stack: contextlib.AsyncExitStack) -> StreamingApi:
        """`local` is there in the process that owns the state."""
        ...

    def connections(self) -> Connections:
        """The open connections of WebSocket APIs, wherever they are."""
        ...

    def quotas(self, local: TakeQuota) -> TakeQuota:
        """`local` counts in the process that owns the state."""
        ...

    def logs(self, local: LogFiles) -> LogStore: ...

    def read_code(self, local: ReadCode) -> ReadCode: ...

    def uses_tree(self, local: Callable[[str], bool], used: Callable[[], list[str]]) -> Callable[[str], bool]:
        """Whether a living environment of any process uses a tree, and what this process tells of its own."""
        ...

    async def know_trees(self) -> None:
        """Before code is collected for the first time."""
        ...

    async def status(self, account: str, local: Status) -> Mapping[str, Any]: ...

    def begin(self, stop: Callable[[], None], announce: Callable[[], None]) -> None:
        """The process serves from now on, and calls `stop` when it shall not: a second time when at once."""
        ...

    async def wait_others(self) -> None:
        """No connection is left here; those of the other processes may need this one still."""
        ...


class OnlyProcess:
    """Implements `Place`: everything is here."""

    owns_state = True

    def node_id(self, folder: DataFolder) -> str:
        return folder.node_id

    def scratch(self, folder: DataFolder) -> Path:
        return folder.folder("scratch")

    def uids(self) -> UserIds:
        return UserIds()

    def share(self, of_all: int) -> int:
        return of_all

    def new_admission(self, limit: int, account: str) -> AccountAdmission:
        return AccountAdmission(limit)

    async def open_documents(self, path: Path, stack: contextlib.AsyncExitStack) -> Documents:
        documents = open_documents(path)
        stack.push_async_callback(documents.close)
        return documents

    def open_blobs(self, root: Path) -> Blobs:
        return FileBlobs(root)

    async def dispatch(
        self, local: LocalDispatch, directory: Directory, stack: contextlib.AsyncExitStack
    ) -> LocalDispatch:
        return local

    def is_home(self, function: str) -> bool:
        return True

    def allocations(self, local: Allocations) -> AskAllocations:
        async def ask(function: str) -> Mapping[str, Allocation]:
            return local(function)

        return ask

    def optimize(self, local: Optimize) -> Optimize:
        return local

    def serve_home(self, allocations: Allocations, optimize: Optimize) -> None: ...

    def enqueue(self, local: Enqueue, directory: Directory) -> Enqueue:
        return local

    def api(self, local: Api) -> Api:
        return local

    async def buckets(self, local: StreamingApi | None, stack: contextlib.AsyncExitStack) -> StreamingApi:
        assert local is not None
        return local

    def connections(self) -> Connections:
        return Connections()

    def quotas(self, local: TakeQuota) -> TakeQuota:
        return local

    def logs(self, local: LogFiles) -> LogStore:
        return local

    def read_code(self, local: ReadCode) -> ReadCode:
        return local

    def uses_tree(self, local: Callable[[str], bool], used: Callable[[], list[str]]) -> Callable[[str], bool]:
        return local

    async def know_trees(self) -> None: ...

    async def status(self, account: str, local: Status) -> Mapping[str, Any]:
        return local(account)

    def begin(self, stop: Callable[[], None], announce: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        announce()

    async def wait_others(self) -> None: ...

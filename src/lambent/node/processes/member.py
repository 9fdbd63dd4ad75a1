"""One of the processes of a node of several: the first writes state, all take requests and run environments."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from lambent.awsapi.context import RequestContext
from lambent.awsapi.http import Headers, HttpRequest, HttpResponse
from lambent.dataplane.dispatch import home as homes
from lambent.dataplane.dispatch.admission import AccountAdmission
from lambent.dataplane.dispatch.directory import Directory
from lambent.dataplane.dispatch.home import HomeDispatch, LocalDispatch
from lambent.dataplane.dispatch.ledger import Ledger
from lambent.dataplane.dispatch.shared_admission import SharedAdmission
from lambent.dataplane.gateway.app import StreamingApi
from lambent.dataplane.jail import syscalls
from lambent.dataplane.sandbox.launcher import FIRST_UID, LAST_UID, UserIds
from lambent.frontdoor.rest_apis.quotas import Asked, TakeQuota
from lambent.frontdoor.web_sockets.connections import Command, Connections, Known, gone
from lambent.members import streamed
from lambent.members.membership import FixedMembership
from lambent.members.transport import Done, MemberGone
from lambent.members.unix_transport import UnixTransport
from lambent.model.errors import CallerError, OperatorError, PlatformError
from lambent.model.function import Version
from lambent.model.invocation import Invocation, Target
from lambent.model.optimization import Optimization
from lambent.model.provisioned import Allocation
from lambent.model.streams import ResponseStream
from lambent.node.assemble import build
from lambent.node.folder import DataFolder
from lambent.node.place import Allocations, Api, AskAllocations, Enqueue, Optimize, ReadCode, Status
from lambent.node.processes.boot import DRAIN, DRAINED, FINISH, NOW, READY, Boot, receive_boot
from lambent.node.processes.bucket_relay import BucketRelay, BucketServer
from lambent.node.processes.home_logs import HomeLogs
from lambent.node.processes.overview import merge
from lambent.substrate.blobs import FileBlobs
from lambent.substrate.following import FedDocuments, Feed, FollowedDocuments
from lambent.substrate.memory.blobs import MemoryBlobs
from lambent.substrate.ports import Blobs, Documents
from lambent.substrate.sqlite.documents import open_documents
from lambent.telemetry.function_logs import LogStore
from lambent.telemetry.log_files import LogFiles
from lambent.telemetry.logging import set_up_logging

TREES_EVERY_S = 15.0
"""How often the owner asks which code the others use; well below the grace of the sweeper."""
OPTIMIZE_TIMES = 3
"""How often a version is initialised ahead whose process ends meanwhile."""
ASK_S = 2.0
"""How long a process that does not answer may hold up what is asked of all."""


class OneOfSeveral:
    """Implements `Place`."""

    def __init__(self, boot: Boot, folder: DataFolder, control: socket.socket, ledger: Ledger) -> None:
        self._boot = boot
        self._folder = folder
        self._control = control
        self._ledger = ledger
        self._membership = FixedMembership(str(boot.index), [str(index) for index in range(boot.count)])
        self._transport = UnixTransport(folder.folder("processes"), self._membership.me)
        self._feed: Feed | None = None
        self._used_trees: Callable[[], list[str]] = list
        self._trees_elsewhere: dict[str, set[str]] = {}
        self._stop: Callable[[], None] | None = None
        self._stops = 0
        self._finish = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def owns_state(self) -> bool:
        return self._membership.me == self._membership.owner

    async def start(self, stack: contextlib.AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        # Whoever stops the node stops the supervisor, which says when.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _ignore)
        self._control.setblocking(False)
        loop.add_reader(self._control.fileno(), self._take_order)
        loop.add_reader(self._ledger.wake_fd, self._ledger.take_wake)
        stack.callback(loop.remove_reader, self._ledger.wake_fd)
        stack.callback(loop.remove_reader, self._control.fileno())
        self._transport.serve("trees", lambda _body, done: done(msgspec.json.encode(self._used_trees())))
        stack.push_async_callback(self._transport.stop)
        await self._transport.start()
        stack.push_async_callback(self._end_tasks)

    def serve_status(self, status: Status) -> None:
        self._transport.serve("status", lambda body, done: done(msgspec.json.encode(status(body.decode()))))

    def node_id(self, folder: DataFolder) -> str:
        return process_id(folder.node_id, self._boot.index)

    def scratch(self, folder: DataFolder) -> Path:
        return folder.folder(f"scratch-{self._boot.index}")

    def uids(self) -> UserIds:
        share = (LAST_UID - FIRST_UID + 1) // self._boot.count
        first = FIRST_UID + self._boot.index * share
        return UserIds(first, first + share - 1)

    def share(self, of_all: int) -> int:
        return max(1, of_all // self._boot.count)

    def new_admission(self, limit: int, account: str) -> AccountAdmission:
        return SharedAdmission(limit, account, self._ledger)

    async def open_documents(self, path: Path, stack: contextlib.AsyncExitStack) -> Documents:
        if not self.owns_state:
            followed = FollowedDocuments()
            stack.push_async_callback(followed.close)
            self._transport.serve_task("follow", followed.apply)
            self._tasks.append(asyncio.create_task(self._ask_for_copy(), name="ask for a copy"))
            return followed
        documents = open_documents(path)
        self._feed = feed = Feed(documents, self._membership.others, self._send_update)
        fed = FedDocuments(documents, feed)
        stack.push_async_callback(fed.close)
        stack.push_async_callback(feed.stop)
        return fed

    def open_blobs(self, root: Path) -> Blobs:
        return FileBlobs(root) if self.owns_state else MemoryBlobs()

    async def dispatch(
        self, local: LocalDispatch, directory: Directory, stack: contextlib.AsyncExitStack
    ) -> LocalDispatch:
        transport = self._transport

        async def ask_streamed(member: str, question: bytes, stream: ResponseStream) -> bytes:
            return await streamed.ask_streamed(transport.streams_path_of(member), member, question, stream)

        dispatch = HomeDispatch(local, self._membership, transport, directory.resolve, ask_streamed=ask_streamed)
        transport.serve(homes.KIND, dispatch.take)
        streams = streamed.StreamServer(transport.streams_path_of(self._membership.me), dispatch.take_streamed)
        await streams.start()
        stack.push_async_callback(streams.stop)
        return dispatch

    def is_home(self, function: str) -> bool:
        return self._membership.home_of(function) == self._membership.me

    def allocations(self, local: Allocations) -> AskAllocations:
        async def ask(function: str) -> Mapping[str, Allocation]:
            home = self._membership.home_of(function)
            if home == self._membership.me:
                return local(function)
            answer = await self._transport.ask(home, "allocations", function.encode())
            return msgspec.json.decode(answer, type=dict[str, Allocation])

        return ask

    def optimize(self, local: Optimize) -> Optimize:
        async def ask(version: Version, network: str) -> Optimization:
            home = self._membership.home_of(f"{version.account}/{version.name}")
            if home == self._membership.me:
                return await local(version, network)
            for _ in range(OPTIMIZE_TIMES):
                try:
                    answer = await self._transport.ask(home, "optimize", msgspec.json.encode((version, network)))
                except PlatformError:
                    if self._stops:
                        return Optimization(abandoned=True)
                else:
                    return msgspec.json.decode(answer, type=Optimization)
            return Optimization(
                reason="SnapStart is off: the process that was to hold the template ended again and again"
            )

        return ask

    def serve_home(self, allocations: Allocations, optimize: Optimize) -> None:
        async def serve(body: bytes) -> bytes:
            version, network = msgspec.json.decode(body, type=tuple[Version, str])
            return msgspec.json.encode(await optimize(version, network))

        self._transport.serve("allocations", lambda body, done: done(msgspec.json.encode(allocations(body.decode()))))
        self._transport.serve_task("optimize", serve)

    def enqueue(self, local: Enqueue, directory: Directory) -> Enqueue:
        async def serve(body: bytes) -> bytes:
            call = homes.decode_call(body)
            await local(directory.resolve(call.account, call.region, call.name, call.qualifier), call.invocation)
            return b""

        async def forward(target: Target, invocation: Invocation) -> None:
            await self._ask_owner("event", homes.encode_call(target, invocation))

        if not self.owns_state:
            return forward
        self._transport.serve_task("event", serve)
        return local

    def api(self, local: Api) -> Api:
        if not self.owns_state:
            return _OwnersApi(local, self._ask_owner)

        async def serve(body: bytes) -> bytes:
            method, path, query, headers, request_body, context = msgspec.msgpack.decode(body, type=_ApiCall)
            request = HttpRequest(method=method, raw_path=path, query_string=query, headers=headers, body=request_body)
            try:
                response = await local.handle(request, context)
            except Exception as exc:
                response = local.write_error(exc, request, context.request_id)
            return msgspec.msgpack.encode(response)

        self._transport.serve_task("api", serve)
        return local

    async def buckets(self, local: StreamingApi | None, stack: contextlib.AsyncExitStack) -> StreamingApi:
        folder = self._folder.folder("processes")
        if local is None:
            return BucketRelay(folder)
        server = BucketServer(local, folder)
        await server.start()
        stack.push_async_callback(server.stop)
        return local

    def connections(self) -> Connections:
        async def forward(member: int, command: Command) -> Known | None:
            if member >= self._boot.count:
                raise gone()
            answer = await self._transport.ask(str(member), "connection", msgspec.msgpack.encode(command))
            return msgspec.msgpack.decode(answer, type=Known | None)

        connections = Connections(self._boot.index, forward)

        async def serve(body: bytes) -> bytes:
            command = msgspec.msgpack.decode(body, type=Command)
            return msgspec.msgpack.encode(await connections.carry_out_here(command))

        self._transport.serve_task("connection", serve)
        return connections

    def quotas(self, local: TakeQuota) -> TakeQuota:
        async def serve(body: bytes) -> bytes:
            return msgspec.msgpack.encode(await local(msgspec.msgpack.decode(body, type=Asked)))

        async def forward(asked: Asked) -> bool:
            answer = await self._ask_owner("quota", msgspec.msgpack.encode(asked))
            return msgspec.msgpack.decode(answer, type=bool)

        if not self.owns_state:
            return forward
        self._transport.serve_task("quota", serve)
        return local

    def logs(self, local: LogFiles) -> LogStore:
        return HomeLogs(local, self._membership, self._transport)

    def read_code(self, local: ReadCode) -> ReadCode:
        async def serve(body: bytes) -> bytes:
            account, digest = msgspec.json.decode(body, type=tuple[str, str])
            try:
                return await local(account, digest)
            except KeyError:
                raise CallerError("ResourceNotFoundException", "There is no such package.", status=404) from None

        async def forward(account: str, digest: str) -> bytes:
            return await self._ask_owner("code", msgspec.json.encode((account, digest)))

        if not self.owns_state:
            return forward
        self._transport.serve_task("code", serve)
        return local

    def uses_tree(self, local: Callable[[str], bool], used: Callable[[], list[str]]) -> Callable[[str], bool]:
        self._used_trees = used
        return lambda name: local(name) or any(name in trees for trees in self._trees_elsewhere.values())

    async def know_trees(self) -> None:
        assert self._feed is not None
        feed = self._feed
        # By now there is an account, so the others find all they need in their first copy.

        def renew(body: bytes, done: Done) -> None:
            feed.renew(body.decode())
            done(b"")

        self._transport.serve("copy", renew)
        feed.start()
        await self._ask_trees()
        self._tasks.append(asyncio.create_task(self._keep_knowing_trees(), name="know trees"))

    async def status(self, account: str, local: Status) -> Mapping[str, Any]:
        answers = await self._ask_others("status", account.encode())
        shown = {index: msgspec.json.decode(answer) if answer else None for index, answer in answers.items()}
        shown[self._membership.me] = dict(local(account))
        return merge([shown[member] for member in self._membership.members], pid=self._boot.supervisor_pid)

    def begin(self, stop: Callable[[], None], announce: Callable[[], None]) -> None:
        self._stop = stop
        for _ in range(self._stops):
            stop()
        self._tell(READY)

    async def wait_others(self) -> None:
        self._tell(DRAINED)
        await self._finish.wait()

    async def _ask_owner(self, kind: str, body: bytes) -> bytes:
        return await self._transport.ask(self._membership.owner, kind, body)

    async def _send_update(self, follower: str, body: bytes) -> bytes:
        return await self._transport.ask(follower, "follow", body, patience_s=0.0)

    async def _ask_for_copy(self) -> None:
        while True:
            try:
                await self._ask_owner("copy", self._membership.me.encode())
            except PlatformError:
                continue
            return

    async def _ask_others(self, kind: str, body: bytes) -> dict[str, bytes | None]:
        """None for those that do not answer."""
        others = self._membership.others
        answers = await asyncio.gather(*(self._ask_soon(member, kind, body) for member in others))
        return dict(zip(others, answers, strict=True))

    async def _ask_soon(self, member: str, kind: str, body: bytes) -> bytes | None:
        try:
            async with asyncio.timeout(ASK_S):
                return await self._transport.ask(member, kind, body, patience_s=0.0)
        except (TimeoutError, PlatformError):
            return None

    async def _ask_trees(self) -> None:
        for member in self._membership.others:
            try:
                async with asyncio.timeout(ASK_S):
                    answer = await self._transport.ask(member, "trees", b"", patience_s=0.0)
            except MemberGone:
                # Its environments ended with it.
                self._trees_elsewhere.pop(member, None)
            except (TimeoutError, PlatformError):
                continue
            else:
                self._trees_elsewhere[member] = set(msgspec.json.decode(answer, type=list[str]))

    async def _keep_knowing_trees(self) -> None:
        while True:
            await asyncio.sleep(TREES_EVERY_S)
            await self._ask_trees()

    def _take_order(self) -> None:
        try:
            orders = self._control.recv(64)
        except BlockingIOError:
            return
        if not orders:
            # The supervisor is gone, and the kernel is about to end this process too.
            asyncio.get_running_loop().remove_reader(self._control.fileno())
        for order in (orders[at : at + 1] for at in range(len(orders))):
            if order == FINISH:
                self._finish.set()
            elif order in (DRAIN, NOW):
                self._stops += 1
                if self._stop is not None:
                    self._stop()

    def _tell(self, word: bytes) -> None:
        with contextlib.suppress(OSError):
            self._control.send(word)

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


_ApiCall = tuple[str, bytes, bytes, Headers, bytes, RequestContext]


class _OwnersApi:
    """The control plane where it lives."""

    def __init__(self, local: Api, ask_owner: Callable[[str, bytes], Awaitable[bytes]]) -> None:
        self._local = local
        self._ask_owner = ask_owner

    async def handle(self, request: HttpRequest, context: RequestContext) -> HttpResponse:
        call: _ApiCall = (
            request.method,
            request.raw_path,
            request.query_string,
            request.headers,
            request.body,
            context,
        )
        answer = await self._ask_owner("api", msgspec.msgpack.encode(call))
        return msgspec.msgpack.decode(answer, type=HttpResponse)

    def write_error(self, exc: Exception, request: HttpRequest | None, request_id: str) -> HttpResponse:
        return self._local.write_error(exc, request, request_id)


def process_id(node_id: str, index: int) -> str:
    """Names what one process owns outside of the data folder."""
    return f"{node_id}-{index}"


def run(control: socket.socket) -> int:
    boot = receive_boot(control)
    # It must not outlive its supervisor: nobody would stop it, and the next node would find the folder in use.
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != boot.supervisor_pid:
        return 1
    _keep([control.fileno(), *boot.fds])
    set_up_logging(boot.settings.log_level)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    try:
        uvloop.run(_run(boot, control))
    except OperatorError as exc:
        print(f"Error: {exc}", file=sys.stderr)
        return 1
    return 0


async def _run(boot: Boot, control: socket.socket) -> None:
    async with contextlib.AsyncExitStack() as stack:
        folder = DataFolder.inherited(Path(boot.settings.data_dir), boot.lock_fd)
        listener = socket.socket(fileno=boot.listener_fd)
        listener.setblocking(False)
        stack.callback(listener.close)
        place = OneOfSeveral(boot, folder, control, Ledger(boot.ledger_fd, boot.wake_fds, boot.index))
        await place.start(stack)
        node = await build(boot.settings, folder, boot.confine, listener, stack, place=place)
        place.serve_status(node.local_status)
        await node.serve(listener)


def _keep(fds: Iterable[int]) -> None:
    """For this process, not for those it starts."""
    for fd in fds:
        os.set_inheritable(fd, False)


def _ignore() -> None:
    """A signal that is not for this process."""


if __name__ == "__main__":
    # DATA_DIR and INDEX are for people who look at the list of processes.
    _, _data_dir, _index, _fd = sys.argv
    sys.exit(run(socket.socket(fileno=int(_fd))))

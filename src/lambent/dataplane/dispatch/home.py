"""Takes an invocation to the home of its function: here, or another member of the node."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from lambent.members.membership import Membership
from lambent.members.transport import Done, Transport
from lambent.model.invocation import Invocation, Outcome, Target
from lambent.model.streams import ResponseStream

KIND = "invoke"

OutcomeDone = Callable[[Outcome | Exception], None]
AskStreamed = Callable[[str, bytes, ResponseStream], Awaitable[bytes]]
"""(member, question, where the pieces go) to the answer."""
Resolve = Callable[[str, str, str, str], Target]
"""(account, region, name, qualifier) to what is to be invoked now. Raises CallerError."""


class LocalDispatch(Protocol):
    """See `dispatcher.Dispatcher`."""

    async def invoke(self, target: Target, invocation: Invocation, stream: ResponseStream | None = None) -> Outcome: ...

    def submit(self, target: Target, invocation: Invocation, done: OutcomeDone) -> None: ...


class Forwarded(msgspec.Struct, array_like=True):
    account: str
    region: str
    name: str
    qualifier: str
    invocation: Invocation


def encode_call(target: Target, invocation: Invocation) -> bytes:
    version = target.version
    qualifier = target.invoked_arn[len(version.function_arn) + 1 :]
    return _encode(Forwarded(version.account, version.region, version.name, qualifier, invocation))


_encode = msgspec.msgpack.Encoder().encode
decode_call = msgspec.msgpack.Decoder(Forwarded).decode


class HomeDispatch:
    """Implements `Invoker`. Of a function only its name travels: the home knows its own version of it."""

    def __init__(
        self,
        local: LocalDispatch,
        membership: Membership,
        transport: Transport,
        resolve: Resolve,
        *,
        ask_streamed: AskStreamed,
    ) -> None:
        self._local = local
        self._membership = membership
        self._transport = transport
        self._resolve = resolve
        self._ask_streamed = ask_streamed
        self._read_outcome = msgspec.msgpack.Decoder(Outcome).decode
        self._waiting: set[asyncio.Task[None]] = set()

    async def invoke(self, target: Target, invocation: Invocation, stream: ResponseStream | None = None) -> Outcome:
        home = self._home_of(target)
        if home == self._membership.me:
            return await self._local.invoke(target, invocation, stream)
        if stream is not None:
            return self._read_outcome(await self._ask_streamed(home, encode_call(target, invocation), stream))
        return self._read_outcome(await self._transport.ask(home, KIND, encode_call(target, invocation)))

    def submit(self, target: Target, invocation: Invocation, done: OutcomeDone) -> None:
        home = self._home_of(target)
        if home == self._membership.me:
            self._local.submit(target, invocation, done)
        else:
            self._transport.submit(home, KIND, encode_call(target, invocation), functools.partial(self._finish, done))

    def take(self, body: bytes, done: Done) -> None:
        """Serve what another member forwards. Raises what the dispatcher raises before anything runs."""
        call = decode_call(body)
        target = self._resolve(call.account, call.region, call.name, call.qualifier)
        if target.max_wait_ms:
            task = asyncio.get_running_loop().create_task(self._wait(target, call.invocation, done))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
        else:
            self._local.submit(target, call.invocation, functools.partial(self._answer, done))

    async def take_streamed(self, body: bytes, stream: ResponseStream) -> bytes:
        """`take` for an answer that comes in pieces."""
        call = decode_call(body)
        try:
            target = self._resolve(call.account, call.region, call.name, call.qualifier)
        except BaseException:
            stream.end()
            raise
        return _encode(await self._local.invoke(target, call.invocation, stream))

    def _home_of(self, target: Target) -> str:
        version = target.version
        return self._membership.home_of(f"{version.account}/{version.name}")

    async def _wait(self, target: Target, invocation: Invocation, done: Done) -> None:
        try:
            outcome = await self._local.invoke(target, invocation)
        except Exception as exc:
            done(exc)
        else:
            self._answer(done, outcome)

    def _answer(self, done: Done, result: Outcome | Exception) -> None:
        done(result if isinstance(result, Exception) else _encode(result))

    def _finish(self, done: OutcomeDone, result: bytes | Exception) -> None:
        done(result if isinstance(result, Exception) else self._read_outcome(result))

"""Taking in what is reported at a hook: verify, read, leave out repeats and what nobody asked for, hand over."""

from __future__ import annotations

import asyncio
import fnmatch
import re
import time
import weakref
from collections.abc import Callable

import msgspec

from lambent.awsapi.context import RequestContext
from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.events.deliveries import Deliveries, Delivery
from lambent.events.intakes.hooks import INTAKE_PATH, Hook, Incoming, write_event
from lambent.events.intakes.kinds import KINDS
from lambent.events.intakes.store import HookStore
from lambent.model.errors import CallerError

_PATH = re.compile(INTAKE_PATH + r"/([0-9]{12})/([A-Za-z0-9_-]{1,64})/?")
_JSON = (b"content-type", b"application/json")


class Intake:
    """Serves INTAKE_PATH. Answers 202 when every event of the request is durable at the hook's target."""

    def __init__(self, store: HookStore, deliveries: Deliveries, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._deliveries = deliveries
        self._now = now
        self._turns: weakref.WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = weakref.WeakValueDictionary()

    async def serve(self, request: HttpRequest, _context: RequestContext) -> HttpResponse:
        """Raises CallerError (nothing more to try) and PlatformError (the sender should try again)."""
        hook = await self._find(request)
        kind = KINDS[hook.kind]
        if request.method != "POST":
            raise CallerError("MethodNotAllowed", "A hook takes POST.", status=405, headers={"allow": "POST"})
        kind.verify(hook, request, self._now())
        reported = kind.read(hook, request)
        if isinstance(reported, HttpResponse):
            return reported
        counts = {"accepted": 0, "repeated": 0, "filtered": 0}
        for incoming in reported:
            counts[await self._take(hook, incoming)] += 1
        return HttpResponse(status=202, headers=[_JSON], body=msgspec.json.encode(counts))

    async def _find(self, request: HttpRequest) -> Hook:
        path = _PATH.fullmatch(request.raw_path.decode("latin-1"))
        hook = await self._store.get(path[1], path[2]) if path is not None else None
        if hook is None:
            raise CallerError("ResourceNotFoundException", "There is no such hook.", status=404)
        return hook

    async def _take(self, hook: Hook, incoming: Incoming) -> str:
        if not passes(hook, incoming):
            return "filtered"
        key = (hook.account, hook.name, incoming.id)
        turn = self._turns.setdefault(key, asyncio.Lock())
        # A sender that lost patience repeats what is still being handed over.
        async with turn:
            if await self._store.has_seen(hook, incoming.id):
                return "repeated"
            await self._deliveries.deliver(self._address(hook, incoming))
            # After, not before: a node that dies in between takes it twice rather than never.
            await self._store.see(hook, incoming.id, self._now())
        return "accepted"

    def _address(self, hook: Hook, incoming: Incoming) -> Delivery:
        to_bus = hook.target.split(":")[2] == "events"
        body = incoming.detail if to_bus else write_event(hook, incoming, self._now())
        return Delivery(
            account=hook.account,
            region=hook.region,
            target=hook.target,
            body=msgspec.json.encode(body),
            source_arn=hook.arn,
            attributes={"Source": incoming.source, "DetailType": incoming.type or "webhook"},
        )


def passes(hook: Hook, incoming: Incoming) -> bool:
    """Whether the hook's filters let an event through."""
    if hook.types and incoming.type not in hook.types:
        return False
    return not (hook.refs and incoming.ref) or any(fnmatch.fnmatchcase(incoming.ref, glob) for glob in hook.refs)

"""Function URLs: an HTTP address of one function (Lambda developer guide, "Lambda function URLs")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from lambent.frontdoor import cors
from lambent.frontdoor.authorizers import iam
from lambent.frontdoor.authorizers.decision import Forbidden
from lambent.frontdoor.authorizers.iam import Authenticator
from lambent.frontdoor.call import HttpAnswer, HttpCall, answer_json
from lambent.frontdoor.payloads import v2
from lambent.frontdoor.place import URLS, Place
from lambent.frontdoor.records import Followed
from lambent.frontdoor.streamed_functions import stream_function
from lambent.model import limits
from lambent.model.errors import CallerError
from lambent.model.function import LATEST, FunctionUrl, Policy
from lambent.model.invocation import Invocation, Invoker, Outcome, Target
from lambent.substrate.ports import Documents

COLLECTION, POLICIES = "function_urls", "policies"
RESPONSE_BYTES = 6_291_556

_NOT_PUBLIC = answer_json(
    403,
    b'{"Message":"Forbidden: the function has no permission for everybody to use this URL. Its owner gives it by '
    b'AddPermission with Action lambda:InvokeFunctionUrl, Principal * and FunctionUrlAuthType NONE."}',
    [("x-amzn-errortype", "AccessDeniedException")],
)
_BAD_GATEWAY = answer_json(502, b"Internal Server Error")
_THROTTLED = answer_json(
    429, b'{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}'
)

Resolve = Callable[[str, str, str, str], Target]
"""(account, region, name, qualifier) to what is to be invoked now. Raises CallerError."""


class FunctionUrls:
    """Implements the door's `Site`."""

    max_body_bytes = limits.SYNC_PAYLOAD_BYTES

    def __init__(
        self,
        documents: Documents,
        *,
        resolve: Resolve,
        invoker: Invoker,
        authenticator: Authenticator,
    ) -> None:
        self._by_id: dict[str, FunctionUrl] = {}
        self._records = Followed(documents, COLLECTION, FunctionUrl, on_change=self._note)
        self._policies = Followed(documents, POLICIES, Policy)
        self._resolve = resolve
        self._invoker = invoker
        self._authenticator = authenticator

    async def start(self) -> None:
        await self._policies.start()
        await self._records.start()

    async def stop(self) -> None:
        await self._records.stop()
        await self._policies.stop()

    def has(self, place: Place) -> bool:
        return place.kind == URLS and place.id in self._by_id

    async def answer(self, place: Place, call: HttpCall) -> HttpAnswer:
        url = self._by_id[place.id]
        if url.cors is None:
            return await self._answer(url, call)
        preflight = cors.answer_preflight(url.cors, call, status=200)
        return preflight or cors.apply(url.cors, call, await self._answer(url, call))

    async def _answer(self, url: FunctionUrl, call: HttpCall) -> HttpAnswer:
        authorizer: dict[str, Any] | None = None
        account_id = "anonymous"
        if url.auth_type == "AWS_IAM":
            try:
                allowed = iam.authorize(self._authenticator, call, service="lambda", account=url.account)
            except Forbidden as exc:
                return _forbid(str(exc))
            account_id, authorizer = allowed.account_id, allowed.context
        elif not self._is_public(url):
            return _NOT_PUBLIC
        event = v2.build_event(
            call,
            path=call.raw_path.decode("latin-1"),
            api_id=url.url_id,
            account_id=account_id,
            domain_name=call.host,
            authorizer=authorizer,
        )
        payload = msgspec.json.encode(event)
        if len(payload) > limits.SYNC_PAYLOAD_BYTES:
            return answer_json(413, b'{"Message":"Request Entity Too Large"}')
        qualifier = "" if url.qualifier == LATEST else url.qualifier
        invocation = Invocation(request_id=call.request_id, payload=payload, trace_id=call.trace_id)
        try:
            target = self._resolve(url.account, url.region, url.function, qualifier)
            if url.invoke_mode == "RESPONSE_STREAM":
                streamed = await stream_function(self._invoker, target, invocation)
                return streamed if isinstance(streamed, HttpAnswer) else _read_outcome(streamed)
            outcome = await self._invoker.invoke(target, invocation)
        except CallerError as exc:
            return explain(exc)
        except v2.Malformed:
            return _BAD_GATEWAY
        return _read_outcome(outcome)

    def _is_public(self, url: FunctionUrl) -> bool:
        policy = self._policies.get(f"{url.account}/{url.function}/{url.qualifier}")
        return policy is not None and policy.allows_public_url()

    def _note(self, _key: str, before: FunctionUrl | None, after: FunctionUrl | None) -> None:
        if before is not None:
            self._by_id.pop(before.url_id, None)
        if after is not None:
            self._by_id[after.url_id] = after


def _forbid(message: str) -> HttpAnswer:
    document = msgspec.json.encode({"Message": message})
    return answer_json(403, document, [("x-amzn-errortype", "AccessDeniedException")])


def explain(exc: CallerError) -> HttpAnswer:
    """What a caller by HTTP is told of an invocation that did not begin."""
    if exc.code == "TooManyRequestsException":
        return _THROTTLED
    if exc.code == "ResourceNotFoundException":
        return _forbid("Forbidden")
    return answer_json(exc.status if exc.status >= 500 else 502, msgspec.json.encode({"Message": exc.message}))


def _read_outcome(outcome: Outcome) -> HttpAnswer:
    if outcome.function_error:
        return _BAD_GATEWAY
    try:
        return v2.read_answer(outcome.payload)
    except v2.Malformed:
        return _BAD_GATEWAY

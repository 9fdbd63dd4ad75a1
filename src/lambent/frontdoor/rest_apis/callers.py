"""Who calls: resource policy, authorizer, API key, usage plan. Each raises Refused for whom it does not let in."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from lambent.frontdoor.authorizers import iam
from lambent.frontdoor.authorizers.decision import Forbidden, Unauthorized
from lambent.frontdoor.authorizers.functions import AuthorizerFailed, Verdicts, flatten_context
from lambent.frontdoor.authorizers.iam import Authenticator
from lambent.frontdoor.authorizers.identity_sources import read_sources
from lambent.frontdoor.functions import EventTooLarge, Functions, TimedOut
from lambent.frontdoor.http_apis.stage_variables import fill
from lambent.frontdoor.outgoing import NotReached, Outgoing
from lambent.frontdoor.references import function_reference
from lambent.frontdoor.rest_apis.directory import RestApiDirectory
from lambent.frontdoor.rest_apis.gateway_responses import Refused
from lambent.frontdoor.rest_apis.model import Members
from lambent.frontdoor.rest_apis.policies import judge, read_statements
from lambent.frontdoor.rest_apis.quotas import Asked, TakeQuota
from lambent.frontdoor.rest_apis.request import Admitted, Request
from lambent.frontdoor.rest_apis.schemas import matches
from lambent.frontdoor.throttling import Throttle
from lambent.model.errors import CallerError, PlatformError

if TYPE_CHECKING:
    from lambent.frontdoor.authorizers.jwt import IssuerKeys

BuildEvent = Callable[[Request], dict[str, Any]]
_AUTHORIZER_TIMEOUT_MS = 10_000
_POOL = "https://cognito-idp.{region}.amazonaws.com/{pool}"


class Callers:
    def __init__(
        self,
        directory: RestApiDirectory,
        *,
        functions: Functions,
        authenticator: Authenticator,
        outgoing: Outgoing,
        throttle: Throttle,
        take_quota: TakeQuota,
        build_event: BuildEvent,
    ) -> None:
        self._directory = directory
        self._functions = functions
        self._authenticator = authenticator
        self._outgoing = outgoing
        self._throttle = throttle
        self._take_quota = take_quota
        self._build_event = build_event
        self._verdicts: dict[str, Verdicts] = {}
        self._keys: IssuerKeys | None = None

    def forget(self, api_id: str) -> None:
        """It has changed: what its authorizers said is not good any more."""
        self._verdicts.pop(api_id, None)

    async def admit(self, request: Request) -> Admitted:
        """Raises Refused."""
        admitted = await self._authorize(request)
        self._check_policy(request, admitted)
        await self._check_key(request, admitted)
        return admitted

    # Authorizers

    async def _authorize(self, request: Request) -> Admitted:
        kind = request.method["authorizationType"]
        if kind == "NONE":
            return Admitted()
        if kind == "AWS_IAM":
            return self._authorize_signature(request)
        authorizer = request.served.configuration.authorizers.get(request.method.get("authorizerId", ""))
        if authorizer is None:
            raise Refused("AUTHORIZER_CONFIGURATION_ERROR")
        try:
            if kind == "COGNITO_USER_POOLS":
                return await self._authorize_token(request, authorizer)
            return await self._authorize_by_function(request, authorizer)
        except Unauthorized:
            raise Refused("UNAUTHORIZED") from None
        except AuthorizerFailed as exc:
            raise Refused("AUTHORIZER_FAILURE") from exc

    def _authorize_signature(self, request: Request) -> Admitted:
        if request.call.header("authorization") is None and b"X-Amz-Signature" not in request.call.query_string:
            raise Refused("MISSING_AUTHENTICATION_TOKEN")
        account = request.served.api.account
        try:
            allowed = iam.authorize(self._authenticator, request.call, service="execute-api", account=account)
        except Forbidden as exc:
            raise Refused("INVALID_SIGNATURE", str(exc)) from exc
        shown = allowed.context["iam"]
        return Admitted(
            identity={
                "accessKey": shown["accessKey"],
                "accountId": shown["accountId"],
                "caller": shown["callerId"],
                "user": shown["userId"],
                "userArn": shown["userArn"],
            }
        )

    async def _authorize_token(self, request: Request, authorizer: Members) -> Admitted:
        """A token of a user pool of Cognito, whose keys are asked for at AWS."""
        values = self._read_identity(request, authorizer, "method.request.header.Authorization")
        if values is None:
            raise Unauthorized
        from lambent.frontdoor.authorizers import jwt  # noqa: PLC0415

        if self._keys is None:
            self._keys = jwt.IssuerKeys(self._fetch)
        for arn in authorizer["providerARNs"]:
            issuer = _POOL.format(region=arn.split(":")[3], pool=arn.rpartition("/")[2])
            scopes = request.method.get("authorizationScopes") or []
            try:
                allowed = await jwt.authorize(values[0], issuer=issuer, audiences=[], scopes=scopes, keys=self._keys)
            except Unauthorized:
                continue
            except Forbidden:
                raise Unauthorized from None
            return Admitted(authorizer={"claims": allowed.context["jwt"]["claims"]})
        raise Unauthorized

    async def _authorize_by_function(self, request: Request, authorizer: Members) -> Admitted:
        values = self._read_identity(request, authorizer, "")
        if values is None:
            raise Unauthorized
        is_token = authorizer["type"] == "TOKEN"
        expression = authorizer.get("identityValidationExpression")
        if is_token and expression and not matches(expression, values[0]):
            raise Unauthorized

        async def ask() -> bytes:
            if is_token:
                event = {"type": "TOKEN", "methodArn": request.arn, "authorizationToken": values[0]}
            else:
                event = {**self._build_event(request), "type": "REQUEST", "methodArn": request.arn}
                event.pop("body", None)
                event.pop("isBase64Encoded", None)
            arn = fill(function_reference(authorizer["authorizerUri"]), request.served.variables)
            try:
                outcome = await self._functions.invoke(
                    request.served.api.account,
                    arn,
                    event,
                    timeout_ms=_AUTHORIZER_TIMEOUT_MS,
                    trace_id=request.call.trace_id,
                )
            except (CallerError, PlatformError, EventTooLarge, TimedOut) as exc:
                raise AuthorizerFailed("the authorizer was not invoked") from exc
            if outcome.function_error:
                if b'"Unauthorized"' in outcome.payload:
                    raise Unauthorized
                raise AuthorizerFailed("the authorizer failed")
            return outcome.payload

        verdicts = self._verdicts.setdefault(request.served.api.api_id, Verdicts())
        ttl_s = authorizer["authorizerResultTtlInSeconds"] if values else 0
        key = (authorizer["id"], request.served.stage, *values)
        verdict = await verdicts.find(key, ttl_s, ask, simple=False)
        try:
            verdict.check(request.arn)
        except Forbidden:
            is_explicit = any(statement.get("Effect") == "Deny" for statement in verdict.statements)
            message = "User is not authorized to access this resource"
            raise Refused("ACCESS_DENIED", message + " with an explicit deny" * is_explicit) from None
        shown = {"principalId": verdict.principal_id, **flatten_context(verdict.context)}
        return Admitted(authorizer=shown, usage_key=verdict.usage_key)

    def _read_identity(self, request: Request, authorizer: Members, default: str) -> list[str] | None:
        sources = (authorizer.get("identitySource") or default).split(",")
        context = {name: value for name, value in request.context.items() if isinstance(value, str)}
        return read_sources(
            [source for source in sources if source.strip()],
            request.call,
            context=context,
            stage_variables=request.served.variables,
        )

    # Policy, key and plan

    def _check_policy(self, request: Request, admitted: Admitted) -> None:
        policy = request.served.configuration.settings.get("policy")
        if not policy:
            return
        account = admitted.identity.get("accountId") or ""
        statements = read_statements(policy)
        if not judge(statements, arn=request.arn, source_ip=request.call.source_ip, account=account):
            who = admitted.identity.get("userArn") or "anonymous"
            raise Refused(
                "ACCESS_DENIED",
                f"User: {who} is not authorized to perform: execute-api:Invoke on resource: {request.arn}",
            )

    async def _check_key(self, request: Request, admitted: Admitted) -> None:
        if not request.method.get("apiKeyRequired"):
            return
        api, stage = request.served.api, request.served.stage
        by_authorizer = request.served.configuration.settings.get("apiKeySource") == "AUTHORIZER"
        value = admitted.usage_key if by_authorizer else request.call.header("x-api-key")
        key = self._directory.find_key(api.account, value or "")
        plan = self._directory.find_plan(key, api.api_id, stage) if key is not None else None
        if key is None or plan is None or not key.members.get("enabled"):
            raise Refused("INVALID_API_KEY")
        admitted.identity |= {"apiKey": key.value, "apiKeyId": key.key_id}
        entry = plan.find_stage(api.api_id, stage) or {}
        name = f"{request.resource['path']}/{request.method['httpMethod']}"
        limits: list[tuple[Hashable, Members | None]] = [
            ((plan.plan_id, key.key_id, stage, name), (entry.get("throttle") or {}).get(name)),
            ((plan.plan_id, key.key_id), plan.members.get("throttle")),
        ]
        for place, throttle in limits:
            if throttle and not self._throttle.take_limits(
                place, throttle.get("rateLimit"), throttle.get("burstLimit")
            ):
                raise Refused("THROTTLED")
        if not await self._take_quota(Asked(api.account, plan.plan_id, key.key_id, plan.quota)):
            raise Refused("QUOTA_EXCEEDED")

    async def _fetch(self, url: str) -> bytes:
        try:
            fetched = await self._outgoing.request(
                "GET", url, [("accept", "application/json")], b"", timeout_s=5.0, max_bytes=1_048_576
            )
        except NotReached as exc:
            raise OSError(str(exc)) from exc
        if fetched.status != 200:
            raise OSError(f"{url} answered {fetched.status}")
        return fetched.body

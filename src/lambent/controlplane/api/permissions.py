"""AddPermission, RemovePermission, GetPolicy: who else may use a function; and GetFunctionCodeSigningConfig.

A statement is kept as the contract writes it (developer guide, "Resource-based policies"). So far it decides who may
use a function URL; the account itself and its services need no permission.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import msgspec

from lambent.awsapi import arns
from lambent.awsapi.context import RequestContext
from lambent.controlplane.lookups import Found, find_function, find_version
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.refusals import conflict, invalid, no_resource, not_found, stale_revision, update_in_progress
from lambent.controlplane.registry import ABSENT, drop, put, repeat
from lambent.model.errors import CallerError
from lambent.model.function import LATEST, Policy
from lambent.substrate.ports import Conflict

Params = dict[str, Any]

POLICY_BYTES = 20_480
_ACCOUNT = re.compile(r"[0-9]{12}")
_SERVICE = re.compile(r"[a-z0-9.-]+\.amazonaws\.com(?:\.[a-z]+)?")


class _Place(NamedTuple):
    found: Found
    qualifier: str
    arn: str


class Permissions:
    """A policy is written together with its function, unchanged: so it never is of what is just deleted."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def add(self, context: RequestContext, params: Params) -> Params:
        async def attempt() -> Params:
            place = await self._find(context, params)
            name = place.found.function.value.name
            stored = await self._plane.registry.policy(context.account, name, place.qualifier)
            policy = (
                stored.value
                if stored is not None
                else Policy(
                    account=context.account, function=name, qualifier=place.qualifier, statements=[], revision_id=""
                )
            )
            _check_revision(params, policy)
            statement = _make_statement(params, place.arn)
            if any(known["Sid"] == statement["Sid"] for known in policy.statements):
                raise conflict(
                    f"The statement id ({statement['Sid']}) provided already exists. Please provide a new statement "
                    "id, or remove the existing statement."
                )
            await self._write(place, policy, [*policy.statements, statement], stored.revision if stored else ABSENT)
            return statement

        return {"Statement": _write_json(await _guarded(attempt, params))}

    async def remove(self, context: RequestContext, params: Params) -> Params:
        async def attempt() -> None:
            place = await self._find(context, params)
            name = place.found.function.value.name
            stored = await self._plane.registry.policy(context.account, name, place.qualifier)
            known = stored.value.statements if stored is not None else []
            left = [statement for statement in known if statement["Sid"] != params["StatementId"]]
            if stored is None or len(left) == len(known):
                raise not_found(f"Statement {params['StatementId']} is not found in resource policy.")
            _check_revision(params, stored.value)
            if left:
                await self._write(place, stored.value, left, stored.revision)
            else:
                await self._plane.registry.commit(drop(stored))

        await _guarded(attempt, params)
        return {}

    async def get_policy(self, context: RequestContext, params: Params) -> Params:
        """Raises CallerError `ResourceNotFoundException` for one that nobody gave a statement."""
        place = await self._find(context, params)
        name = place.found.function.value.name
        stored = await self._plane.registry.policy(context.account, name, place.qualifier)
        if stored is None:
            raise no_resource()
        document = {"Version": "2012-10-17", "Id": "default", "Statement": stored.value.statements}
        return {"Policy": _write_json(document), "RevisionId": stored.value.revision_id}

    async def get_code_signing(self, context: RequestContext, params: Params) -> Params:
        found = await find_function(self._plane.registry, context, params["FunctionName"])
        return {"CodeSigningConfigArn": "", "FunctionName": found.function.value.name}

    async def _find(self, context: RequestContext, params: Params) -> _Place:
        reference, given = params["FunctionName"], params.get("Qualifier")
        found, _, arn = await find_version(self._plane.registry, context, reference, given)
        qualifier = arns.parse_function(reference, given, context=context).qualifier or LATEST
        if given == LATEST:
            raise invalid("We currently do not support adding policies for $LATEST.")
        return _Place(found, qualifier, arn)

    async def _write(self, place: _Place, policy: Policy, statements: list[Params], expect: int) -> None:
        changed = msgspec.structs.replace(policy, statements=statements, revision_id=self._plane.new_id())
        if len(_write_json(statements)) > POLICY_BYTES:
            raise CallerError(
                "PolicyLengthExceededException",
                f"The final policy size is bigger than the limit ({POLICY_BYTES}).",
                members={"Type": "User"},
            )
        function = place.found.function
        await self._plane.registry.commit(put(function.value, expect=function.revision), put(changed, expect=expect))


def _make_statement(params: Params, arn: str) -> Params:
    statement: Params = {
        "Sid": params["StatementId"],
        "Effect": "Allow",
        "Principal": _make_principal(params["Principal"]),
        "Action": params["Action"],
        "Resource": arn,
    }
    equals = {
        key: params[member]
        for member, key in (
            ("SourceAccount", "AWS:SourceAccount"),
            ("EventSourceToken", "lambda:EventSourceToken"),
            ("PrincipalOrgID", "aws:PrincipalOrgID"),
            ("FunctionUrlAuthType", "lambda:FunctionUrlAuthType"),
        )
        if params.get(member)
    }
    condition: Params = {"StringEquals": equals} if equals else {}
    if params.get("SourceArn"):
        condition["ArnLike"] = {"AWS:SourceArn": params["SourceArn"]}
    if params.get("InvokedViaFunctionUrl") is not None:
        condition["Bool"] = {"lambda:InvokedViaFunctionUrl": str(params["InvokedViaFunctionUrl"]).lower()}
    if condition:
        statement["Condition"] = condition
    return statement


def _make_principal(given: str) -> Any:
    if given == "*":
        return "*"
    if _ACCOUNT.fullmatch(given):
        return {"AWS": f"arn:aws:iam::{given}:root"}
    if given.startswith("arn:"):
        return {"AWS": given}
    if _SERVICE.fullmatch(given):
        return {"Service": given}
    raise invalid(
        f"The provided principal was invalid: '{given}'. Give *, an account's 12 digits, an ARN or a service like "
        "apigateway.amazonaws.com."
    )


def _check_revision(params: Params, policy: Policy) -> None:
    if params.get("RevisionId") and params["RevisionId"] != policy.revision_id:
        raise stale_revision()


async def _guarded(attempt: Any, params: Params) -> Any:
    try:
        return await repeat(attempt)
    except Conflict:
        raise update_in_progress(params["FunctionName"]) from None


def _write_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))

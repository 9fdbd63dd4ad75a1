"""CreateFunction, GetFunction, ListFunctions, DeleteFunction, GetFunctionConfiguration, UpdateFunctionConfiguration."""

from __future__ import annotations

from typing import Any

import msgspec

from lambent.awsapi import arns
from lambent.awsapi.context import RequestContext
from lambent.awsapi.pagination import cut_page
from lambent.controlplane import configuration, publishing, shapes, states
from lambent.controlplane.layering import check_unzipped, find_layers
from lambent.controlplane.lookups import Found, find_function, find_unqualified, find_version, function_arn
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.refusals import (
    conflict,
    invalid,
    no_function,
    stale_revision,
    update_in_progress,
    violated,
)
from lambent.controlplane.registry import ABSENT, drop, put, repeat
from lambent.controlplane.settings import check_tags
from lambent.controlplane.sources import receive
from lambent.controlplane.storage import check_room
from lambent.model.errors import CallerError
from lambent.model.function import LATEST, Function, Version
from lambent.substrate.ports import Conflict

Params = dict[str, Any]


class Functions:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def create(self, context: RequestContext, params: Params) -> Params:
        plane = self._plane
        name = _parse_new_name(context, params["FunctionName"])
        fields = self._parse_new(params)
        tags = dict(params.get("Tags") or {})
        check_tags(tags)
        if await plane.registry.function(context.account, name) is not None:
            raise _already_exists(name)
        layers = await find_layers(plane, context, params.get("Layers") or [])
        async with receive(plane, params["Code"], field="Code.", account=context.account) as package:
            await check_unzipped(plane, package.unzipped_bytes, layers)
            await check_room(plane.registry, context.account, package.code_size)
            await plane.code.merge_layers([layer.digest for layer in layers])
            latest = Version(
                account=context.account,
                region=context.region,
                name=name,
                digest=package.digest,
                code_size=package.code_size,
                layers=layers,
                last_modified=plane.timestamp(),
                revision_id=plane.new_id(),
                **fields,
            )
            latest = states.enter(latest, states.Phase.CREATING)
            function = Function(account=context.account, name=name, tags=tags)
            shown = await self._write_new(function, latest, publish=bool(params.get("Publish")))
        return shapes.show_version(shown, arn=latest.function_arn)

    async def get(self, context: RequestContext, params: Params) -> Params:
        found, version, arn = await self._find(context, params)
        reserved = found.function.value.reserved_concurrency
        return {
            "Configuration": shapes.show_version(version, arn=arn),
            "Code": {"RepositoryType": "S3", "Location": self._plane.code_url(context, version)},
            "Tags": found.function.value.tags or None,
            "Concurrency": None if reserved is None else {"ReservedConcurrentExecutions": reserved},
        }

    async def get_configuration(self, context: RequestContext, params: Params) -> Params:
        _, version, arn = await self._find(context, params)
        return shapes.show_version(version, arn=arn)

    async def update_configuration(self, context: RequestContext, params: Params) -> Params:
        plane = self._plane
        found = await find_unqualified(plane.registry, context, params["FunctionName"])
        latest = found.latest.value
        check_revision(params, latest.revision_id)
        publishing.check_settled(latest)
        changes = configuration.parse_changes(params, latest, runtime_available=plane.runtime_available)
        if params.get("Layers") is not None:
            changes["layers"] = await find_layers(plane, context, params["Layers"])
            await check_unzipped(plane, await plane.code.unzipped_bytes(latest.digest), changes["layers"])
            await plane.code.merge_layers([layer.digest for layer in changes["layers"]])
        updated = await self._write_update(found, changes)
        return shapes.show_version(updated, arn=updated.function_arn)

    async def list(self, context: RequestContext, params: Params) -> Params:
        if params.get("MasterRegion"):
            raise invalid("MasterRegion is not supported: Lambent has no edge functions. Leave it out.")
        everything = params.get("FunctionVersion") == "ALL"
        versions = [
            stored.value
            for stored in await self._plane.registry.versions(context.account)
            if stored.value.region == context.region and (everything or stored.value.version == LATEST)
        ]
        page, marker = cut_page(
            sorted(versions, key=_sort_key),
            marker=params.get("Marker"),
            max_items=params.get("MaxItems"),
            key=_sort_key,
        )
        shown = [
            shapes.show_listed(version, arn=version.version_arn if everything else version.function_arn)
            for version in page
        ]
        return {"Functions": shown, "NextMarker": marker}

    async def delete(self, context: RequestContext, params: Params) -> Params:
        named = arns.parse_function(params["FunctionName"], params.get("Qualifier"), context=context)
        if named.qualifier == LATEST:
            raise invalid("$LATEST version cannot be deleted without deleting the function.")
        qualifier = named.qualifier or ""
        try:
            if qualifier:
                await repeat(lambda: self._delete_version(context, named.name, qualifier))
            else:
                await repeat(lambda: self._delete_function(context, named.name))
        except Conflict:
            raise update_in_progress(function_arn(context, named.name)) from None
        self._plane.sweeper.wake()
        return {"StatusCode": 204}

    def _parse_new(self, params: Params) -> dict[str, Any]:
        plane = self._plane
        configuration.check_refused(params)
        if params.get("Runtime") is None or params.get("Handler") is None:
            raise invalid(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages."
            )
        fields = configuration.parse_changes(params, None, runtime_available=plane.runtime_available)
        architecture = configuration.parse_architecture(params, machine=plane.architecture)
        fields["architecture"] = architecture or plane.architecture
        return fields

    async def _write_new(self, function: Function, latest: Version, *, publish: bool) -> Version:
        """Returns the version to show: the published one when there is one."""
        plane = self._plane
        written = [latest]
        if publish:
            publication = await publishing.plan_publication(
                plane.registry, function, latest, revision_id=plane.new_id(), description=None
            )
            function = publication.function
            written.append(publication.version)
        try:
            await plane.registry.commit(
                put(function, expect=ABSENT), *(put(version, expect=ABSENT) for version in written)
            )
        except Conflict:
            raise _already_exists(function.name) from None
        for version in written:
            plane.activation.begin(version)
        return written[-1]

    async def _write_update(self, found: Found, changes: dict[str, Any]) -> Version:
        plane = self._plane
        updated = msgspec.structs.replace(
            found.latest.value, last_modified=plane.timestamp(), revision_id=plane.new_id(), **changes
        )
        updated = states.take(updated, states.Event.UPDATED)
        try:
            await plane.registry.commit(put(updated, expect=found.latest.revision))
        except Conflict:
            raise update_in_progress(found.arn) from None
        plane.activation.begin(updated)
        plane.sweeper.wake()
        return updated

    async def _delete_function(self, context: RequestContext, name: str) -> None:
        registry = self._plane.registry
        found = await find_function(registry, context, name)
        # Whoever adds a version or an alias writes the function too: if one was added meanwhile, this conflicts.
        versions = await registry.versions(context.account, name)
        aliases = await registry.aliases(context.account, name)
        provisioned = await registry.all_provisioned(context.account, name)
        urls = await registry.function_urls(context.account, name)
        policies = await registry.policies(context.account, name)
        await registry.commit(
            drop(found.function),
            *(drop(version) for version in versions),
            *(drop(alias) for alias in aliases),
            *(drop(config) for config in provisioned),
            *(drop(url) for url in urls),
            *(drop(policy) for policy in policies),
        )

    async def _delete_version(self, context: RequestContext, name: str, qualifier: str) -> None:
        registry = self._plane.registry
        found = await find_function(registry, context, name)
        if not qualifier.isdigit():
            if await registry.alias(context.account, name, qualifier) is None:
                raise no_function(f"{found.arn}:{qualifier}")
            raise invalid("Deletion of aliases is not currently supported.")
        version = await registry.version(context.account, name, qualifier)
        if version is None:
            return
        pointing = [
            alias.value.name
            for alias in await registry.aliases(context.account, name)
            if qualifier in (alias.value.version, *alias.value.weights)
        ]
        if pointing:
            raise conflict(
                f"Unable to delete version because the following aliases reference it: [{', '.join(pointing)}]"
            )
        provisioned = await registry.provisioned(context.account, name, qualifier)
        policy = await registry.policy(context.account, name, qualifier)
        await registry.commit(
            put(found.function.value, expect=found.function.revision),
            drop(version),
            *([drop(provisioned)] if provisioned is not None else []),
            *([drop(policy)] if policy is not None else []),
        )

    async def _find(self, context: RequestContext, params: Params) -> tuple[Found, Version, str]:
        return await find_version(self._plane.registry, context, params["FunctionName"], params.get("Qualifier"))


def check_revision(params: Params, revision_id: str) -> None:
    """Raises CallerError `PreconditionFailedException` when the request names another revision."""
    if params.get("RevisionId") and params["RevisionId"] != revision_id:
        raise stale_revision()


def _parse_new_name(context: RequestContext, reference: str) -> str:
    named = arns.parse_function(reference, context=context)
    if named.qualifier is not None:
        raise violated(
            "functionName",
            reference,
            "Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?"
            "([a-z]{2}(-gov)?-[a-z]+-\\d{1}:)?(\\d{12}:)?(function:)?([a-zA-Z0-9-_]+)",
        )
    return named.name


def _already_exists(name: str) -> CallerError:
    return conflict(f"Function already exist: {name}")


def _sort_key(version: Version) -> str:
    number = 0 if version.version == LATEST else int(version.version)
    # A separator that sorts before every character of a name keeps the versions of "a" before those of "a-b".
    return f"{version.name} {number:020}"

"""UpdateFunctionCode."""

from __future__ import annotations

from typing import Any

import msgspec

from lambent.awsapi.context import RequestContext
from lambent.controlplane import configuration, publishing, shapes, states
from lambent.controlplane.api.functions import check_revision
from lambent.controlplane.layering import check_unzipped
from lambent.controlplane.lookups import Found, find_unqualified
from lambent.controlplane.packages import Package
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.refusals import update_in_progress
from lambent.controlplane.registry import put
from lambent.controlplane.sources import inspect, receive
from lambent.controlplane.storage import check_room
from lambent.model.function import Version
from lambent.substrate.ports import Conflict

Params = dict[str, Any]


class Code:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def update(self, context: RequestContext, params: Params) -> Params:
        plane = self._plane
        configuration.check_refused(params)
        architecture = configuration.parse_architecture(params, machine=plane.architecture)
        found = await find_unqualified(plane.registry, context, params["FunctionName"])
        check_revision(params, found.latest.value.revision_id)
        publishing.check_settled(found.latest.value)
        if params.get("DryRun"):
            package = await inspect(plane, params, field="", account=context.account)
            updated = await self._plan(found, package, architecture)
            return shapes.show_version(updated, arn=found.arn)
        async with receive(plane, params, field="", account=context.account) as package:
            updated = await self._plan(found, package, architecture)
            shown = await self._write(found, updated, publish=bool(params.get("Publish")))
        return shapes.show_version(shown, arn=shown.version_arn if params.get("Publish") else shown.function_arn)

    async def _plan(self, found: Found, package: Package, architecture: str | None) -> Version:
        plane = self._plane
        latest = found.latest.value
        await check_unzipped(plane, package.unzipped_bytes, latest.layers)
        await check_room(plane.registry, latest.account, package.code_size)
        updated = msgspec.structs.replace(
            latest,
            digest=package.digest,
            code_size=package.code_size,
            architecture=architecture or latest.architecture,
            last_modified=plane.timestamp(),
            revision_id=plane.new_id(),
        )
        return states.take(updated, states.Event.UPDATED)

    async def _write(self, found: Found, updated: Version, *, publish: bool) -> Version:
        """Returns the version to show: the published one when there is one."""
        plane = self._plane
        writes = [put(updated, expect=found.latest.revision)]
        shown = updated
        if publish:
            publication = await publishing.plan_publication(
                plane.registry, found.function.value, updated, revision_id=plane.new_id(), description=None
            )
            shown = publication.version
            writes += [put(publication.function, expect=found.function.revision), *publication.writes]
        try:
            await plane.registry.commit(*writes)
        except Conflict:
            raise update_in_progress(found.arn) from None
        plane.activation.begin(updated)
        if shown is not updated:
            plane.activation.begin(shown)
        plane.sweeper.wake()
        return shown

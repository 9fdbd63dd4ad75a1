"""PublishVersion, ListVersionsByFunction, GetRuntimeManagementConfig."""

from __future__ import annotations

from typing import Any

from lambent.awsapi.context import RequestContext
from lambent.awsapi.pagination import cut_page
from lambent.controlplane import publishing, shapes, states
from lambent.controlplane.api.functions import check_revision
from lambent.controlplane.configuration import check_refused
from lambent.controlplane.lookups import find_function, find_unqualified, find_version
from lambent.controlplane.plane import ControlPlane
from lambent.controlplane.refusals import invalid, update_in_progress
from lambent.controlplane.registry import put
from lambent.model.function import LATEST, Version
from lambent.substrate.ports import Conflict

Params = dict[str, Any]


class Versions:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def publish(self, context: RequestContext, params: Params) -> Params:
        plane = self._plane
        check_refused(params)
        found = await find_unqualified(plane.registry, context, params["FunctionName"])
        latest = found.latest.value
        check_revision(params, latest.revision_id)
        _check_code(params, latest)
        publishing.check_settled(latest)
        publication = await publishing.plan_publication(
            plane.registry,
            found.function.value,
            latest,
            revision_id=plane.new_id(),
            description=params.get("Description"),
        )
        if publication.writes:
            # $LATEST is written unchanged: were it updated meanwhile, its code could be collected under the version.
            guard = put(latest, expect=found.latest.revision)
            try:
                await plane.registry.commit(
                    put(publication.function, expect=found.function.revision), guard, *publication.writes
                )
            except Conflict:
                raise update_in_progress(found.arn) from None
            if states.phase_of(publication.version) is states.Phase.CREATING:
                plane.activation.begin(publication.version)
        return shapes.show_version(publication.version, arn=publication.version.version_arn)

    async def list(self, context: RequestContext, params: Params) -> Params:
        registry = self._plane.registry
        found = await find_function(registry, context, params["FunctionName"])
        versions = [stored.value for stored in await registry.versions(context.account, found.function.value.name)]
        page, marker = cut_page(versions, marker=params.get("Marker"), max_items=params.get("MaxItems"), key=_sort_key)
        shown = [shapes.show_listed(version, arn=version.version_arn) for version in page]
        return {"Versions": shown, "NextMarker": marker}

    async def get_runtime_management(self, context: RequestContext, params: Params) -> Params:
        """Always `Auto`: the interpreter is the machine's, and is updated with it."""
        _, version, _ = await find_version(
            self._plane.registry, context, params["FunctionName"], params.get("Qualifier")
        )
        return {"UpdateRuntimeOn": "Auto", "FunctionArn": version.version_arn}


def _check_code(params: Params, latest: Version) -> None:
    given, present = params.get("CodeSha256"), shapes.show_digest(latest.digest)
    if given and given != present:
        raise invalid(
            f"CodeSHA256 ({given}) is different from current CodeSHA256 in $LATEST ({present}). "
            "Please try again with the CodeSHA256 in $LATEST."
        )


def _sort_key(version: Version) -> str:
    return f"{0 if version.version == LATEST else int(version.version):020}"

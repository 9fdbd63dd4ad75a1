"""Published versions."""

from __future__ import annotations

from typing import Any

import msgspec

from lambent.awsapi.context import RequestContext
from lambent.awsapi.pagination import cut_page
from lambent.controlplane.configuration import invalid
from lambent.controlplane.plane import ControlPlane, check_revision
from lambent.controlplane.registry import put
from lambent.controlplane.views import code_sha256, show_published, show_version
from lambent.model.function import LATEST, Version

Json = dict[str, Any]


class VersionOperations:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def publish_version(self, context: RequestContext, parameters: Json) -> Json:
        plane = self._plane
        name = plane.name(context, parameters).name
        latest = await plane.version(context, name)
        check_revision(parameters.get("RevisionId"), latest.value.revision_id)
        wanted_sha = parameters.get("CodeSha256")
        if wanted_sha and wanted_sha != code_sha256(latest.value.digest):
            raise invalid(
                f"CodeSHA256 ({wanted_sha}) is different from current CodeSHA256 in $LATEST "
                f"({code_sha256(latest.value.digest)}). Please try again with the CodeSHA256 in $LATEST."
            )
        function = await plane.function(context, name)
        number = function.value.next_version
        last = await plane.registry.find(Version, context.account, name, str(number - 1))
        if last is not None and _is_same(last.value, latest.value):
            return show_published(last.value)
        published = msgspec.structs.replace(
            latest.value,
            version=str(number),
            description=parameters.get("Description", latest.value.description),
            revision_id=plane.new_id(),
        )
        await plane.registry.commit(
            put(published, expect=0),
            put(msgspec.structs.replace(function.value, next_version=number + 1), expect=function.revision),
            resource=latest.value.function_arn,
        )
        return show_published(published)

    async def list_versions_by_function(self, context: RequestContext, parameters: Json) -> Json:
        name = self._plane.name(context, parameters).name
        await self._plane.function(context, name)
        stored = await self._plane.registry.list(Version, context.account, name)
        versions = sorted((item.value for item in stored), key=_order)
        page, marker = cut_page(
            versions, marker=parameters.get("Marker"), max_items=parameters.get("MaxItems"), key=_order
        )
        return {"Versions": [show_version(item, qualifier=item.version) for item in page], "NextMarker": marker}


def _order(version: Version) -> str:
    return "0" if version.version == LATEST else f"{int(version.version):012d}"


def _is_same(published: Version, latest: Version) -> bool:
    """Nothing changed since: publishing again gives the version that is there."""
    return (
        msgspec.structs.replace(
            published,
            version=latest.version,
            description=latest.description,
            revision_id=latest.revision_id,
            last_modified=latest.last_modified,
        )
        == latest
        and published.last_modified == latest.last_modified
    )

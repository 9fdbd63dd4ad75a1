"""Functions: create, read, change, list, delete."""

from __future__ import annotations

from typing import Any

import msgspec

from lambent.awsapi.arns import format_layer, parse_layer
from lambent.awsapi.context import RequestContext
from lambent.awsapi.pagination import cut_page
from lambent.controlplane import configuration as config
from lambent.controlplane.plane import ControlPlane, check_revision
from lambent.controlplane.registry import Stored, put, remove
from lambent.controlplane.views import show_published, show_version
from lambent.model import limits
from lambent.model.errors import CallerError
from lambent.model.function import LATEST, Alias, Function, LayerRef, LayerVersion, Version

Json = dict[str, Any]


class FunctionOperations:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def create_function(self, context: RequestContext, parameters: Json) -> Json:
        plane = self._plane
        name = plane.name(context, parameters).name
        config.refuse_without_effect(parameters)
        runtime = config.check_runtime(parameters.get("Runtime"))
        tags = parameters.get("Tags") or {}
        config.check_tags(tags)
        draft = Version(
            account=context.account,
            region=context.region,
            name=name,
            runtime=runtime,
            handler=config.check_handler(runtime, parameters.get("Handler")),
            role=parameters["Role"],
            description=parameters.get("Description", ""),
            digest="",
            code_size=0,
            memory_mb=config.check_memory(parameters.get("MemorySize", limits.MEMORY_MB_MIN)),
            timeout_s=config.check_timeout(parameters.get("Timeout", 3)),
            ephemeral_mb=config.check_ephemeral(parameters.get("EphemeralStorage")),
            environment=config.check_environment(parameters.get("Environment")),
            logging=config.check_logging(name, parameters.get("LoggingConfig")),
            architecture=config.ARCHITECTURE,
            layers=await self._find_layers(context, parameters.get("Layers") or []),
            last_modified=plane.timestamp(),
            revision_id=plane.new_id(),
        )
        if await plane.registry.find(Function, context.account, name) is not None:
            raise _exists(name)
        version = await self._with_code(draft, await plane.package(parameters["Code"]))
        function = Function(account=context.account, name=name, tags=tags)
        writes = [put(version, expect=0)]
        shown = show_version(version)
        if parameters.get("Publish"):
            published = msgspec.structs.replace(version, version="1", revision_id=plane.new_id())
            function = msgspec.structs.replace(function, next_version=2)
            writes.append(put(published, expect=0))
            shown = show_published(published)
        await plane.registry.commit(put(function, expect=0), *writes, resource=version.function_arn)
        return shown

    async def get_function(self, context: RequestContext, parameters: Json) -> Json:
        name, qualifier = self._plane.name(context, parameters)
        version = (await self._plane.resolve(context, name, qualifier)).value
        function = (await self._plane.function(context, name)).value
        reserved = function.reserved_concurrency
        return {
            "Configuration": show_version(version, qualifier=qualifier or ""),
            "Code": {"RepositoryType": "S3", "Location": self._plane.code_url(context, version.digest)},
            "Tags": function.tags or None,
            "Concurrency": None if reserved is None else {"ReservedConcurrentExecutions": reserved},
        }

    async def get_function_configuration(self, context: RequestContext, parameters: Json) -> Json:
        name, qualifier = self._plane.name(context, parameters)
        version = await self._plane.resolve(context, name, qualifier)
        return show_version(version.value, qualifier=qualifier or "")

    async def list_functions(self, context: RequestContext, parameters: Json) -> Json:
        stored = await self._plane.registry.list(Version, context.account)
        wanted = [item.value for item in stored if item.value.region == context.region]
        if parameters.get("FunctionVersion") != "ALL":
            wanted = [version for version in wanted if version.version == LATEST]
        page, marker = cut_page(
            wanted,
            marker=parameters.get("Marker"),
            max_items=parameters.get("MaxItems"),
            key=lambda version: f"{version.name}/{version.version}",
        )
        all_versions = parameters.get("FunctionVersion") == "ALL"
        return {
            "Functions": [show_version(item, qualifier=item.version if all_versions else "") for item in page],
            "NextMarker": marker,
        }

    async def update_function_code(self, context: RequestContext, parameters: Json) -> Json:
        plane = self._plane
        name = self._unqualified(context, parameters)
        stored = await plane.version(context, name)
        check_revision(parameters.get("RevisionId"), stored.value.revision_id)
        config.refuse_without_effect(parameters)
        data = await plane.package(parameters)
        version = await self._with_code(stored.value, data)
        version = self._changed(version)
        if parameters.get("DryRun"):
            return show_version(msgspec.structs.replace(version, revision_id=stored.value.revision_id))
        if not parameters.get("Publish"):
            await plane.registry.commit(put(version, expect=stored.revision), resource=version.function_arn)
            return show_version(version)
        function = await plane.function(context, name)
        number = function.value.next_version
        published = msgspec.structs.replace(version, version=str(number), revision_id=plane.new_id())
        await plane.registry.commit(
            put(version, expect=stored.revision),
            put(published, expect=0),
            put(msgspec.structs.replace(function.value, next_version=number + 1), expect=function.revision),
            resource=version.function_arn,
        )
        return show_published(published)

    async def update_function_configuration(self, context: RequestContext, parameters: Json) -> Json:
        plane = self._plane
        name = self._unqualified(context, parameters)
        stored = await plane.version(context, name)
        check_revision(parameters.get("RevisionId"), stored.value.revision_id)
        config.refuse_without_effect(parameters)
        version = await self._apply(context, stored, parameters)
        await self._check_unpacked(version)
        await plane.registry.commit(put(version, expect=stored.revision), resource=version.function_arn)
        return show_version(version)

    async def delete_function(self, context: RequestContext, parameters: Json) -> Json:
        plane = self._plane
        name, qualifier = plane.name(context, parameters)
        if qualifier is not None:
            await self._delete_version(context, name, qualifier)
            return {"StatusCode": 204}
        function = await plane.function(context, name)
        versions = await plane.registry.list(Version, context.account, name)
        aliases = await plane.registry.list(Alias, context.account, name)
        await plane.registry.commit(
            remove(function.value, expect=function.revision),
            *(remove(item.value) for item in versions),
            *(remove(item.value) for item in aliases),
            resource=f"{context.account}/{name}",
        )
        return {"StatusCode": 204}

    async def _delete_version(self, context: RequestContext, name: str, qualifier: str) -> None:
        plane = self._plane
        await plane.function(context, name)
        if qualifier == LATEST:
            raise config.invalid("$LATEST version cannot be deleted without deleting the function.")
        if not qualifier.isdigit():
            raise config.invalid("Deletion of aliases is not currently supported.")
        found = await plane.registry.find(Version, context.account, name, qualifier)
        if found is None:
            # As the service does: deleting what is not there is a success.
            return
        aliases = await plane.registry.list(Alias, context.account, name)
        using = [item.value.name for item in aliases if qualifier in (item.value.version, *item.value.weights)]
        if using:
            raise CallerError(
                "ResourceConflictException",
                f"Function version cannot be deleted, because it is used by the following alias(es): {sorted(using)}",
                status=409,
            )
        await plane.registry.commit(remove(found.value, expect=found.revision), resource=found.value.version_arn)

    def _unqualified(self, context: RequestContext, parameters: Json) -> str:
        name, qualifier = self._plane.name(context, parameters)
        if qualifier not in (None, LATEST):
            raise config.invalid("Versions are immutable: name the function without a qualifier to change $LATEST.")
        return name

    def _changed(self, version: Version) -> Version:
        return msgspec.structs.replace(version, last_modified=self._plane.timestamp(), revision_id=self._plane.new_id())

    async def _apply(self, context: RequestContext, stored: Stored[Version], parameters: Json) -> Version:
        before = stored.value
        changes: Json = {}
        if "Runtime" in parameters:
            changes["runtime"] = config.check_runtime(parameters["Runtime"])
        if "Handler" in parameters or "Runtime" in parameters:
            handler = parameters.get("Handler", before.handler)
            changes["handler"] = config.check_handler(changes.get("runtime", before.runtime), handler)
        if "Role" in parameters:
            changes["role"] = parameters["Role"]
        if "Description" in parameters:
            changes["description"] = parameters["Description"]
        if "MemorySize" in parameters:
            changes["memory_mb"] = config.check_memory(parameters["MemorySize"])
        if "Timeout" in parameters:
            changes["timeout_s"] = config.check_timeout(parameters["Timeout"])
        if "EphemeralStorage" in parameters:
            changes["ephemeral_mb"] = config.check_ephemeral(parameters["EphemeralStorage"])
        if "Environment" in parameters:
            changes["environment"] = config.check_environment(parameters["Environment"])
        if "Layers" in parameters:
            changes["layers"] = await self._find_layers(context, parameters["Layers"])
        if "LoggingConfig" in parameters:
            changes["logging"] = config.check_logging(before.name, parameters["LoggingConfig"], before=before.logging)
        return self._changed(msgspec.structs.replace(before, **changes))

    async def _with_code(self, version: Version, data: bytes) -> Version:
        digest = await self._plane.store.add(data)
        version = msgspec.structs.replace(version, digest=digest, code_size=len(data))
        await self._check_unpacked(version)
        return version

    async def _check_unpacked(self, version: Version) -> None:
        """Code and layers together fit, and what is mounted at /opt is there before anybody invokes."""
        digests = [layer.digest for layer in version.layers]
        if not digests:
            return
        size = await self._plane.store.unpacked_bytes([version.digest, *digests])
        if size > limits.UNZIPPED_CODE_BYTES:
            raise config.invalid(
                f"Function code combined with layers exceeds the maximum allowed size of {limits.UNZIPPED_CODE_BYTES} "
                f"bytes. The actual size is {size} bytes."
            )
        await self._plane.store.merge_layers(digests)

    async def _find_layers(self, context: RequestContext, arns: list[str]) -> list[LayerRef]:
        if len(arns) > limits.MAX_LAYERS:
            raise config.invalid(f"Cannot reference more than {limits.MAX_LAYERS} layers.")
        found = []
        for arn in arns:
            name = parse_layer(arn, context=context)
            if name.version is None:
                raise config.invalid(f"Layer version {arn} must end with its version number.")
            own = name.account == context.account and name.region == context.region
            key = (context.account, name.name, f"{name.version:010d}")
            layer = await self._plane.registry.find(LayerVersion, *key) if own else None
            if layer is None or layer.value.deleted:
                raise config.invalid(f"Layer version {arn} does not exist.")
            found.append(
                LayerRef(
                    arn=format_layer(context.account, context.region, name.name, name.version),
                    code_size=layer.value.code_size,
                    digest=layer.value.digest,
                )
            )
        names = [layer.arn.rpartition(":")[0] for layer in found]
        if len(set(names)) != len(names):
            raise config.invalid("Two different versions of the same layer are not allowed to be referenced.")
        return found


def _exists(name: str) -> CallerError:
    return CallerError("ResourceConflictException", f"Function already exist: {name}", status=409)

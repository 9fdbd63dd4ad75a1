"""What can be invoked, held in memory and kept current by watching the documents that the control plane writes.

The control plane is never in the path of an invocation: either can restart alone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from lambent.dataplane.dispatch.admission import AccountAdmission
from lambent.model import limits
from lambent.model.errors import CallerError
from lambent.model.function import LATEST, SNAP_START, Alias, Function, Provisioned, Version
from lambent.model.invocation import Target
from lambent.model.provisioned import Share, divide, share_id
from lambent.substrate.follower import Follower
from lambent.substrate.ports import Change, Documents

COLLECTIONS = ("functions", "versions", "aliases", "provisioned")
"""In the order they are read in: what is provisioned is of versions and aliases."""
NETWORK_TAG = "lambent:network"
WAIT_TAG = "lambent:max-wait-seconds"

_Record = TypeVar("_Record", Function, Version, Alias, Provisioned)


class Directory:
    """Resolves names to targets and tells the dispatcher when a version changed."""

    def __init__(
        self,
        documents: Documents,
        *,
        account_concurrency: int = limits.DEFAULT_ACCOUNT_CONCURRENCY,
        choose: Callable[[], float] = random.random,
        new_admission: Callable[[int, str], AccountAdmission] = lambda limit, _account: AccountAdmission(limit),
    ) -> None:
        """`new_admission` makes the slots of an account, from its limit and id."""
        self._documents = documents
        self._account_concurrency = account_concurrency
        self._choose = choose
        self._new_admission = new_admission
        self._functions: dict[str, Function] = {}
        self._versions: dict[str, Version] = {}
        self._aliases: dict[str, Alias] = {}
        self._provisioned: dict[str, dict[str, Provisioned]] = {}
        """By function, then by qualifier."""
        self._admissions: dict[str, AccountAdmission] = {}
        self._targets: dict[tuple[str, str], Target] = {}
        self._follower = Follower(self._follow, "follow functions")
        self.on_version: Callable[[str, str | None], None] = lambda _arn, _revision: None
        self.on_shares: Callable[[str, Sequence[Share]], None] = lambda _function, _shares: None
        """Told all shares of provisioned concurrency that a function (ACCOUNT/NAME) has from now on."""

    async def start(self) -> None:
        """Read everything, then follow changes until `stop`."""
        await self._follower.start()

    async def stop(self) -> None:
        await self._follower.stop()

    def admission(self, account: str) -> AccountAdmission:
        admission = self._admissions.get(account)
        if admission is None:
            admission = self._admissions[account] = self._new_admission(self._account_concurrency, account)
        return admission

    def functions(self) -> list[Function]:
        return list(self._functions.values())

    def runtimes(self) -> set[str]:
        return {version.runtime for version in self._versions.values()}

    def optimized(self) -> list[Target]:
        """Versions of which a SnapStart template could be made."""
        return [
            self.resolve(version.account, version.region, version.name, version.version)
            for version in self._versions.values()
            if version.optimization == "On" and f"{version.account}/{version.name}" in self._functions
        ]

    def resolve(self, account: str, region: str, name: str, qualifier: str) -> Target:
        """The version to run for a function name and a qualifier (version, alias, or empty for $LATEST).

        Raises CallerError `ResourceNotFoundException`.
        """
        key = f"{account}/{name}/{qualifier or LATEST}"
        alias = self._aliases.get(key)
        if alias is not None and alias.weights:
            key = f"{account}/{name}/{self._draw(alias)}"
        elif alias is not None:
            key = f"{account}/{name}/{alias.version}"
        target = self._targets.get((key, qualifier))
        if target is None:
            target = self._build(key, qualifier, account, region, name)
        return target

    def _build(self, key: str, qualifier: str, account: str, region: str, name: str) -> Target:
        version = self._versions.get(key)
        function = self._functions.get(f"{account}/{name}")
        invoked = f"arn:aws:lambda:{region}:{account}:function:{name}"
        if qualifier:
            invoked += f":{qualifier}"
        if version is None or function is None or version.region != region:
            raise CallerError(
                "ResourceNotFoundException", f"Function not found: {invoked}", status=404, members={"Type": "User"}
            )
        if version.snap_start == SNAP_START:
            _check_initialised(version)
        target = Target(
            version=version,
            invoked_arn=invoked,
            reserved_concurrency=function.reserved_concurrency,
            max_wait_ms=int(function.tags.get(WAIT_TAG, "0")) * 1000,
            network=function.tags.get(NETWORK_TAG, "outgoing"),
            provisioned=self._share_of(version, qualifier),
        )
        self._targets[key, qualifier] = target
        return target

    def _share_of(self, version: Version, qualifier: str) -> str:
        """Of what is provisioned for the qualifier, else for the version that it names."""
        configured = self._provisioned.get(f"{version.account}/{version.name}")
        if configured is not None:
            for known in (qualifier, version.version):
                if known in configured:
                    return share_id(version.account, version.name, known, version.version)
        return ""

    def _draw(self, alias: Alias) -> str:
        share = self._choose()
        for version, weight in alias.weights.items():
            share -= weight
            if share < 0:
                return version
        return alias.version

    async def _follow(self, loaded: asyncio.Event) -> None:
        changes = self._documents.watch(*COLLECTIONS)
        for collection in COLLECTIONS:
            for document in await self._documents.list(collection):
                self._apply(Change(collection=collection, key=document.key, document=document))
        loaded.set()
        async for change in changes:
            self._apply(change)

    def _apply(self, change: Change) -> None:
        # Few and rare: forgetting all resolved targets is cheaper than knowing which depend on this record.
        self._targets.clear()
        if change.collection == "versions":
            self._apply_version(change)
        elif change.collection == "functions":
            self._apply_function(change)
        elif change.collection == "aliases":
            _store(self._aliases, change, Alias)
        else:
            self._apply_provisioned(change)
            return
        function = _function_of(change.key)
        if function in self._provisioned:
            self._tell_shares(function)

    def _apply_version(self, change: Change) -> None:
        before = self._versions.get(change.key)
        after = _store(self._versions, change, Version)
        if after is not None:
            self.on_version(after.version_arn, after.revision_id)
        elif before is not None:
            self.on_version(before.version_arn, None)

    def _apply_function(self, change: Change) -> None:
        function = _store(self._functions, change, Function)
        account, _, name = change.key.partition("/")
        self.admission(account).set_reserved(name, function.reserved_concurrency if function else None)

    def _apply_provisioned(self, change: Change) -> None:
        function = _function_of(change.key)
        configured = self._provisioned.setdefault(function, {})
        _store(configured, dataclasses.replace(change, key=change.key[len(function) + 1 :]), Provisioned)
        self._tell_shares(function)
        if not configured:
            del self._provisioned[function]

    def _tell_shares(self, function: str) -> None:
        account, _, name = function.partition("/")
        shares = [share for config in self._provisioned[function].values() for share in self._divide(config)]
        self.admission(account).set_provisioned(name, {share.id: share.slots for share in shares})
        self.on_shares(function, shares)

    def _divide(self, config: Provisioned) -> list[Share]:
        """None while what it is for is being deleted with it."""
        prefix = f"{config.account}/{config.function}/"
        alias = self._aliases.get(prefix + config.qualifier)
        version, weights = (alias.version, alias.weights) if alias is not None else (config.qualifier, {})
        shares = []
        for number, slots in divide(config.executions, version, weights).items():
            known = self._versions.get(prefix + number)
            if known is not None and prefix[:-1] in self._functions:
                target = self._build(prefix + number, config.qualifier, known.account, known.region, known.name)
                id_ = share_id(config.account, config.function, config.qualifier, number)
                shares.append(Share(id=id_, qualifier=config.qualifier, target=target, slots=slots))
        return shares


def _function_of(key: str) -> str:
    """ACCOUNT/NAME of a longer key."""
    return "/".join(key.split("/", 2)[:2])


def _check_initialised(version: Version) -> None:
    """A version with SnapStart is initialised when it is published; nothing runs before that has gone well."""
    if version.version == LATEST or version.state == "Active":
        return
    if version.state == "Pending":
        message = (
            "Lambda is initializing your function. It will be ready to invoke once your function state becomes ACTIVE."
        )
        raise CallerError("SnapStartNotReadyException", message, status=409, members={"Type": "User"})
    message = (
        "The operation cannot be performed at this time. "
        f"The function is currently in the following state: {version.state}"
    )
    raise CallerError("ResourceConflictException", message, status=409, members={"Type": "User"})


def _store(records: dict[str, _Record], change: Change, kind: type[_Record]) -> _Record | None:
    if change.document is None:
        records.pop(change.key, None)
        return None
    record = msgspec.json.decode(change.document.value, type=kind)
    records[change.key] = record
    return record

# SnapStart templates of this node: made when a version is published, made again after a restart, ended under pressure.
#
# Rule 1: a version has at most one template, of its present revision.
# Rule 2: whoever asks for a fork gets one, or None and starts cold; nobody waits for a template that is being made.
# Rule 3: what ends a template does not end the environments that were forked from it.
# Rule 4: why a version has none is written down: on the version, in the log, or both.
from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lambent.dataplane.dispatch.journal import Journal
from lambent.dataplane.dispatch.template import Template
from lambent.dataplane.sandbox import failures
from lambent.dataplane.sandbox.channel import InitFailed
from lambent.dataplane.sandbox.environment import Cause, Ended, Environment
from lambent.dataplane.sandbox.launcher import Launcher
from lambent.model.errors import CallerError, PlatformError
from lambent.model.function import Version
from lambent.model.invocation import Target
from lambent.model.optimization import Optimization

log = logging.getLogger(__name__)

INIT_LIMIT_S = 130
"""Of an init at publish; the function's own timeout where that is longer (developer guide, "SnapStart hooks")."""
RESTORE_LIMIT_MS = 10_000
"""Of restoring with its hooks, as the contract has it."""
MEMORY_CHECK_S = 5.0
FREE_SHARE = 0.05
"""Of the machine's memory: with less available, templates are ended."""
MEMINFO = Path("/proc/meminfo")


class Templates:
    """Implements the launcher's `Restorer`."""

    def __init__(
        self,
        launcher: Launcher,
        *,
        unavailable: str,
        memory_mb: int,
        journal_of: Callable[[Environment], Journal],
        forget: Callable[[Environment], None],
        meminfo: Path = MEMINFO,
    ) -> None:
        """`unavailable`: why this node can have none, empty when it can."""
        self._launcher = launcher
        self._unavailable = unavailable
        self._budget_mb = memory_mb
        self._journal_of = journal_of
        self._forget = forget
        self._meminfo = meminfo
        self._templates: dict[str, Template] = {}
        self._ended_for: dict[str, str] = {}
        self._abandoned: set[str] = set()
        self._distrusted: set[str] = set()
        self._wanted: dict[str, Target] = {}
        self._building: dict[str, Environment | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._builder: asyncio.Task[None] | None = None
        self._checker: asyncio.Task[None] | None = None
        self._stopped = False

    def statistics(self) -> list[dict[str, object]]:
        """Living templates, and why others ended."""
        now = time.monotonic()
        living: list[dict[str, object]] = [
            {"version": arn, "memory_mb": template.memory_mb, "idle_s": round(now - template.used_at, 1)}
            for arn, template in self._templates.items()
        ]
        return living + [{"version": arn, "ended": reason} for arn, reason in self._ended_for.items()]

    def uses_tree(self, name: str) -> bool:
        return name in self.used_trees()

    def used_trees(self) -> list[str]:
        return [name for template in self._templates.values() for name in template.environment.trees]

    async def optimize(self, version: Version, network: str) -> Optimization:
        """Initialise a version that is being published, and keep the process as its template."""
        if not version.runtime.startswith("python"):
            return Optimization(reason=f"SnapStart is off: {version.runtime} starts without templates here")
        if self._unavailable:
            return Optimization(reason=f"SnapStart is off: {self._unavailable}")
        target = Target(version=version, invoked_arn=version.version_arn, network=network)
        try:
            return await self._build(target)
        except (InitFailed, Ended) as failed:
            if self._is_abandoned(version.version_arn):
                return Optimization(abandoned=True)
            return _describe_failure(failed, _init_limit_s(version))
        except Exception as exc:
            # Whatever it is: a version must not stay Pending for it.
            if self._is_abandoned(version.version_arn):
                return Optimization(abandoned=True)
            log.exception("no template", extra={"action": "template_failed", "version": version.version_arn})
            return Optimization(reason=f"SnapStart is off: {exc}")
        finally:
            self._abandoned.discard(version.version_arn)

    def rebuild(self, targets: Sequence[Target]) -> None:
        """In the background, the cheapest first."""
        if self._unavailable:
            return
        for target in sorted(targets, key=lambda target: target.version.init_ms):
            self._wanted[target.version.version_arn] = target
        self._wake_builder()

    def follow_version(self, version_arn: str, revision_id: str | None) -> None:
        """The version is now at this revision, or gone (None)."""
        if revision_id is None:
            self._distrusted.discard(version_arn)
            self._wanted.pop(version_arn, None)
            self._ended_for.pop(version_arn, None)
            self._abandon(version_arn)
        template = self._templates.get(version_arn)
        if template is not None and template.version.revision_id != revision_id:
            self._end(version_arn, "the version is gone")
            self._ended_for.pop(version_arn, None)

    async def restore(self, target: Target) -> Environment | None:
        """Its hooks have run. Raises CallerError when they failed, or did not end in time."""
        version = target.version
        if version.optimization != "On":
            return None
        arn = version.version_arn
        template = self._templates.get(arn)
        if template is None or not template.alive:
            self._want_again(target)
            return None
        async with template.turns:
            return await self._restore(template, target) if template.alive else None

    async def _restore(self, template: Template, target: Target) -> Environment | None:
        arn = target.version.version_arn
        began = time.perf_counter()
        try:
            environment = await template.restore(target)
        except (PlatformError, OSError) as exc:
            log.error("no fork", extra={"action": "restore_failed", "version": arn, "reason": str(exc)})
            return None
        journal = self._journal_of(environment)
        journal.note_restore_start()
        try:
            await environment.wait_ready(RESTORE_LIMIT_MS)
        except InitFailed as failed:
            await self._give_up(environment)
            journal.note_restore_report((time.perf_counter() - began) * 1000, status="error")
            raise CallerError(
                "SnapStartException", failures.init_message(failed), status=400, members={"Type": "User"}
            ) from failed
        except Ended as ended:
            await self._give_up(environment)
            if ended.cause is Cause.TIMEOUT:
                journal.note_restore_report((time.perf_counter() - began) * 1000, status="timeout")
                message = "Lambda couldn't restore the snapshot within the timeout limit."
                raise CallerError("SnapStartTimeoutException", message, status=408, members={"Type": "User"}) from ended
            log.error("fork ended", extra={"action": "restore_failed", "version": arn, "reason": str(ended)})
            return None
        except BaseException:
            await self._give_up(environment)
            raise
        problem = await template.check(environment)
        if problem:
            await self._give_up(environment)
            self._distrust(arn, problem)
            return None
        environment.init_ms = (time.perf_counter() - began) * 1000
        journal.note_restore_report(environment.init_ms)
        return environment

    def start(self) -> None:
        self._checker = asyncio.create_task(self._check_memory(), name="watch memory for templates")

    async def stop(self) -> None:
        self._stopped = True
        for task in (self._builder, self._checker):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        for arn in list(self._building):
            self._abandon(arn)
        for arn in list(self._templates):
            self._end(arn, "the node stops")
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _build(self, target: Target) -> Optimization:
        version = target.version
        arn = version.version_arn
        if self._stopped:
            raise PlatformError("the node is stopping", retry_safe=True)
        self._building[arn] = None

        def note(environment: Environment) -> None:
            self._building[arn] = environment
            self._journal_of(environment).note_init_start("snap-start")

        try:
            template, findings = await Template.start(self._launcher, target, _init_limit_s(version) * 1000, note)
        finally:
            del self._building[arn]
        init_ms = template.environment.init_ms or 0.0
        self._journal_of(template.environment).note_init_report(init_ms, status="")
        if findings.sockets:
            self._note(template.environment, f"init left {findings.sockets} sockets open; they are closed in forks")
        obstacle = findings.obstacle
        if obstacle or self._is_abandoned(arn):
            if obstacle:
                self._note(template.environment, f"SnapStart is off: {obstacle}")
            await self._stop_template(template)
            return Optimization(
                init_ms=init_ms, reason=f"SnapStart is off: {obstacle}", abandoned=self._is_abandoned(arn)
            )
        self._templates[arn] = template
        template.prepare(target)
        self._ended_for.pop(arn, None)
        template.environment.on_exit = lambda _: self._end(arn, "its process ended")
        log.info(
            "template made",
            extra={
                "action": "template_made",
                "version": arn,
                "init_ms": round(init_ms),
                "memory_mb": template.memory_mb,
            },
        )
        self._keep_budget()
        return Optimization(on=True, init_ms=init_ms)

    def _abandon(self, arn: str) -> None:
        """End what is being built."""
        if arn in self._building:
            self._abandoned.add(arn)
            environment = self._building[arn]
            if environment is not None:
                environment.kill()

    def _is_abandoned(self, arn: str) -> bool:
        return self._stopped or arn in self._abandoned

    def _note(self, environment: Environment, text: str) -> None:
        self._journal_of(environment).note_line(f"[lambent] {text}")
        log.warning(text, extra={"action": "template_finding", "version": environment.version.version_arn})

    def _distrust(self, arn: str, problem: str) -> None:
        """Not made again while this node runs: the version's own code is in the way."""
        log.error("fork refused", extra={"action": "fork_refused", "version": arn, "reason": problem})
        self._distrusted.add(arn)
        self._end(arn, f"a fork of it was refused: {problem}")

    def _want_again(self, target: Target) -> None:
        arn = target.version.version_arn
        if (
            not self._unavailable
            and arn not in self._distrusted
            and arn not in self._building
            and arn not in self._wanted
        ):
            self._wanted[arn] = target
            self._wake_builder()

    def _wake_builder(self) -> None:
        if not self._stopped and (self._builder is None or self._builder.done()):
            self._builder = asyncio.create_task(self._build_wanted(), name="make templates again")

    async def _build_wanted(self) -> None:
        while self._wanted:
            arn, target = next(iter(self._wanted.items()))
            try:
                await self._build(target)
            except Exception as exc:
                self._ended_for[arn] = f"it could not be made again: {exc}"
                log.error("no template", extra={"action": "template_failed", "version": arn, "reason": str(exc)})
            finally:
                self._wanted.pop(arn, None)
                self._abandoned.discard(arn)

    async def _check_memory(self) -> None:
        while True:
            await asyncio.sleep(MEMORY_CHECK_S)
            self._keep_budget()

    def _keep_budget(self) -> None:
        while self._templates:
            oldest = min(self._templates, key=lambda arn: self._templates[arn].used_at)
            total_mb = sum(template.memory_mb for template in self._templates.values())
            if total_mb <= self._budget_mb:
                if _is_short_of_memory(self._meminfo):
                    # One at a time: what it gives back is only seen at the next look.
                    self._end(oldest, "the machine was short of memory")
                return
            self._end(oldest, f"templates had {total_mb} MB where snapstart_memory_mb allows {self._budget_mb} MB")

    def _end(self, arn: str, reason: str) -> None:
        template = self._templates.pop(arn, None)
        if template is None:
            return
        self._ended_for[arn] = reason
        log.info("template ended", extra={"action": "template_ended", "version": arn, "reason": reason})
        task = asyncio.create_task(self._stop_template(template), name=f"end template of {arn}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop_template(self, template: Template) -> None:
        template.environment.on_exit = None
        await template.stop()
        self._forget(template.environment)
        if template.frame.ended is not None:
            await template.frame.ended

    async def _give_up(self, environment: Environment) -> None:
        environment.drain_log()
        await environment.stop()
        self._forget(environment)


def _init_limit_s(version: Version) -> int:
    return max(INIT_LIMIT_S, version.timeout_s)


def _describe_failure(failed: InitFailed | Ended, limit_s: int) -> Optimization:
    if isinstance(failed, InitFailed):
        return Optimization(failure=failures.explain_init(failed), failure_code="FunctionError.RuntimeInitError")
    if failed.cause is Cause.TIMEOUT:
        text = f"Function initialization did not end within {limit_s} seconds"
        return Optimization(failure=text, failure_code="FunctionError.InitTimeout")
    if failed.cause is Cause.OUT_OF_MEMORY:
        text = "Function initialization ran out of memory"
        return Optimization(failure=text, failure_code="FunctionError.InitResourceExhausted")
    if failed.cause is Cause.PROTOCOL:
        return Optimization(reason=f"SnapStart is off: {failed.detail}")
    return Optimization(failure=failures.explain(failed), failure_code="FunctionError.RuntimeInitError")


def _is_short_of_memory(meminfo: Path) -> bool:
    fields = {}
    with contextlib.suppress(OSError, ValueError):
        for line in meminfo.read_text().splitlines():
            name, _, rest = line.partition(":")
            fields[name] = int(rest.split()[0])
    available, total = fields.get("MemAvailable", math.inf), fields.get("MemTotal", 0)
    return available < total * FREE_SHARE

"""Each step of confinement is made to fail in turn: the child ends, the node is told which step, nothing is left."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.channels import deliver
from tests.conftest import PYTHON, is_ci

from lambent.dataplane.jail.contain import NAMESPACE_STEPS, NAMESPACE_STEPS_ON_USE, PROCESS_STEPS, SHELL_STEPS
from lambent.dataplane.sandbox.channel import ChannelClosed
from lambent.dataplane.sandbox.frame_channel import FrameChannel, StepFailed
from lambent.dataplane.sandbox.shells import Shell
from lambent.dataplane.sandbox.zygote_link import ZygoteFailed, ZygoteLink, ZygotePlan
from lambent.dataplane.wire.spec import EnvironmentSpec
from lambent.model.errors import PlatformError
from lambent.node.tier import try_namespaces

CODE = "app"
StartZygote = Callable[[str], Awaitable[ZygoteLink]]


def tiers() -> list[str]:
    found = ["process"]
    if os.geteuid() == 0:
        found.append("root")
    if try_namespaces(with_user=True) is None:
        found.append("user")
    assert not is_ci() or len(found) > 1, "this machine allows no namespaces at all"
    return found


STEPS = [
    (tier, step.__name__) for tier in tiers() for step in (PROCESS_STEPS if tier == "process" else NAMESPACE_STEPS)
]

NAMESPACE_TIERS = [tier for tier in tiers() if tier != "process"]


class NoNetwork:
    """The namespace is made by the child itself."""

    fd = -1

    def take_runtime_api(self) -> socket.socket:
        raise NotImplementedError

    def release(self) -> None:
        pass


@pytest.fixture
async def start_zygote(tmp_path: Path) -> AsyncIterator[StartZygote]:
    trees, base = tmp_path / "trees", tmp_path / "base"
    (trees / CODE).mkdir(parents=True)
    base.mkdir()
    (trees / CODE / "app.py").write_text("def handler(e, c):\n    return 1\n")
    started: list[ZygoteLink] = []

    async def start(confine: str) -> ZygoteLink:
        prefix = sys.base_prefix
        link = await ZygoteLink.start(
            ZygotePlan(
                executable=getattr(sys, "_base_executable", sys.executable),
                confine=confine,
                python=True,
                base=str(base),
                prefixes=[] if prefix.startswith("/usr") else [prefix],
                store=str(trees),
                runtime=[],
            )
        )
        started.append(link)
        return link

    yield start
    for link in started:
        await link.stop()


def specify(confine: str, fail_step: str, trees: str = "") -> EnvironmentSpec:
    return EnvironmentSpec(
        environment_id=f"{confine}-{fail_step}",
        runtime=PYTHON,
        handler="app.handler",
        code=CODE,
        layers="",
        environment={},
        memory_mb=128,
        ephemeral_mb=512,
        uid=100_000,
        log_format="Text",
        log_level="INFO",
        confine=confine,
        network="host" if confine == "process" else "none",
        function="f",
        version="$LATEST",
        cgroup=False,
        task_root=f"{trees}/{CODE}" if confine == "process" else "/var/task",
        landlock=True,
        fail_step=fail_step,
    )


async def spawn(link: ZygoteLink, spec: EnvironmentSpec) -> tuple[FrameChannel, int, asyncio.Future[int | None]]:
    ours, theirs = socket.socketpair()
    read_end, write_end = os.pipe()
    with theirs:
        spawned = link.spawn(spec, [("control", theirs.fileno()), ("log", write_end)])
    os.close(write_end)
    os.close(read_end)
    channel = await FrameChannel.open(ours)
    os.close(await spawned.pidfd)
    return channel, spawned.pid, spawned.exited


@pytest.mark.parametrize(("tier", "step"), STEPS)
async def test_a_step_that_fails_stops_the_child_and_is_named(
    start_zygote: StartZygote, tmp_path: Path, tier: str, step: str
) -> None:
    link = await start_zygote(tier)
    channel, pid, exited = await spawn(link, specify(tier, step, str(tmp_path / "trees")))
    with pytest.raises(StepFailed) as failed:
        await channel.wait_ready()
    assert failed.value.step == step
    assert await exited is not None
    assert not Path(f"/proc/{pid}").exists()


def spawn_shell(link: ZygoteLink, spec: EnvironmentSpec) -> Shell:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    read_end, write_end = os.pipe()
    with theirs:
        spawned = link.spawn(spec, [("control", theirs.fileno()), ("log", write_end)], waits=True)
    os.close(write_end)
    return Shell(
        spec.environment_id,
        link,
        spawned,
        control=ours,
        log_fd=read_end,
        network=NoNetwork(),
        limits=None,
        release=lambda: None,
    )


@pytest.mark.parametrize("step", [step.__name__ for step in SHELL_STEPS])
@pytest.mark.parametrize("tier", NAMESPACE_TIERS)
async def test_a_step_that_fails_in_a_shell_stops_it_before_it_waits(
    start_zygote: StartZygote, tier: str, step: str
) -> None:
    shell = spawn_shell(await start_zygote(tier), specify(tier, step))
    with pytest.raises(PlatformError, match=f"^{step}: "):
        await shell.wait_ready()
    assert await shell.spawned.exited is not None
    assert not shell.alive
    await shell.stop()


@pytest.mark.parametrize("step", [step.__name__ for step in NAMESPACE_STEPS_ON_USE])
@pytest.mark.parametrize("tier", NAMESPACE_TIERS)
async def test_a_step_that_fails_when_a_shell_is_used_stops_it_and_is_named(
    start_zygote: StartZygote, tier: str, step: str
) -> None:
    shell = spawn_shell(await start_zygote(tier), specify(tier, ""))
    await shell.wait_ready()
    assert shell.alive
    await shell.use(specify(tier, step), [])
    channel = await FrameChannel.open(shell.control)
    with pytest.raises(StepFailed) as failed:
        await channel.wait_ready()
    assert failed.value.step == step
    assert await shell.spawned.exited is not None
    await shell.stop()


@pytest.mark.parametrize("tier", NAMESPACE_TIERS)
async def test_a_shell_that_is_used_becomes_ready(start_zygote: StartZygote, tier: str) -> None:
    shell = spawn_shell(await start_zygote(tier), specify(tier, ""))
    await shell.wait_ready()
    await shell.use(specify(tier, ""), [])
    channel = await FrameChannel.open(shell.control)
    assert await channel.wait_ready() is not None
    channel.close()
    await shell.stop()


@pytest.mark.parametrize("tier", NAMESPACE_TIERS)
async def test_a_shell_holds_nothing_of_its_zygote_while_it_waits(start_zygote: StartZygote, tier: str) -> None:
    shell = spawn_shell(await start_zygote(tier), specify(tier, ""))
    await shell.wait_ready()
    assert {path.name for path in Path(f"/proc/{shell.spawned.pid}/fd").iterdir()} == {"0", "1", "2", "3", "4"}
    await shell.stop()


@pytest.mark.parametrize("tier", NAMESPACE_TIERS)
async def test_a_shell_that_is_told_anything_else_than_its_use_ends(start_zygote: StartZygote, tier: str) -> None:
    shell = spawn_shell(await start_zygote(tier), specify(tier, ""))
    await shell.wait_ready()
    shell.control.send(b"I\0\0\0\0")
    channel = await FrameChannel.open(shell.control)
    with pytest.raises(StepFailed, match="something else than its use"):
        await channel.wait_ready()
    await shell.stop()


@pytest.mark.parametrize("tier", NAMESPACE_TIERS)
async def test_a_shell_ends_with_the_node_s_end_of_its_channel(start_zygote: StartZygote, tier: str) -> None:
    shell = spawn_shell(await start_zygote(tier), specify(tier, ""))
    await shell.wait_ready()
    shell.control.close()
    assert await shell.spawned.exited == 0
    await shell.stop()


@pytest.mark.parametrize("tier", tiers())
async def test_without_a_failure_the_same_child_becomes_ready(
    start_zygote: StartZygote, tmp_path: Path, tier: str
) -> None:
    link = await start_zygote(tier)
    channel, _, exited = await spawn(link, specify(tier, "", str(tmp_path / "trees")))
    assert await channel.wait_ready() is not None
    channel.close()
    await exited


@pytest.mark.parametrize("tier", [tier for tier in tiers() if tier != "process"])
async def test_the_end_of_the_zygote_ends_its_environments(
    start_zygote: StartZygote, tmp_path: Path, tier: str
) -> None:
    link = await start_zygote(tier)
    channel, pid, _ = await spawn(link, specify(tier, "", str(tmp_path / "trees")))
    await channel.wait_ready()
    await link.stop()
    with pytest.raises(ChannelClosed):
        await deliver(channel, object())  # type: ignore[arg-type]
    assert not Path(f"/proc/{pid}").exists()


async def test_a_zygote_that_cannot_start_says_which_step_failed(tmp_path: Path) -> None:
    tier = tiers()[-1]
    if tier == "process":
        pytest.skip("this machine allows no namespaces")
    plan = ZygotePlan(
        executable=getattr(sys, "_base_executable", sys.executable),
        confine=tier,
        python=True,
        base=str(tmp_path / "missing"),
        prefixes=[],
        store=str(tmp_path),
        runtime=[],
    )
    with pytest.raises(ZygoteFailed, match="root: "):
        await ZygoteLink.start(plan)

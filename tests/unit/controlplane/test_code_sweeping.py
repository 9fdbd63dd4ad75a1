from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from lambent.controlplane.packages import CodeStore
from lambent.controlplane.registry import Registry
from lambent.controlplane.sweeper import Sweeper
from lambent.substrate.memory.documents import MemoryDocuments

if TYPE_CHECKING:
    from tests.unit.controlplane.conftest import Clock

MakeZip = Callable[..., bytes]


async def test_the_sweeper_comes_back_for_code_that_was_in_use(
    code: CodeStore, documents: MemoryDocuments, clock: Clock, zip_of: MakeZip
) -> None:
    async with code.adding(zip_of({"a": "1"})) as package:
        pass
    in_use = {package.digest}
    looks = 0

    async def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        clock.seconds += seconds
        if looks == 2:
            in_use.clear()

    async def wait_removed() -> None:
        while code.tree(package.digest).exists():
            await asyncio.sleep(0)

    sweeper = Sweeper(Registry(documents), code, in_use=lambda name: name in in_use, sleep=sleep, grace_s=1.0)
    sweeper.start()
    sweeper.wake()
    async with asyncio.timeout(10):
        await wait_removed()
    assert looks == 2
    await sweeper.stop()

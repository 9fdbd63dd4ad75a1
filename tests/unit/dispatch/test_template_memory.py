"""When the machine is short of memory, the templates that nobody used for longest are ended, one at each look."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

from lambent.dataplane.dispatch.templates import Templates


class FakeTemplate:
    def __init__(self, used_at: float) -> None:
        self.used_at = used_at
        self.memory_mb = 10
        self.environment: Any = type("FakeEnvironment", (), {"on_exit": None})()
        self.frame: Any = type("FakeFrame", (), {"ended": None})()
        self.stopped = False

    async def stop(self) -> None:
        self.stopped = True


async def test_one_template_at_a_time_is_ended_the_one_unused_for_longest_first(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 1000 kB\nMemAvailable: 40 kB\n")
    templates = Templates(
        cast(Any, None),
        unavailable="",
        memory_mb=1000,
        journal_of=cast(Any, None),
        forget=lambda _environment: None,
        meminfo=meminfo,
    )
    kept, ended = FakeTemplate(2.0), FakeTemplate(1.0)
    templates._templates = cast(Any, {"kept": kept, "ended": ended})
    templates._keep_budget()
    await asyncio.wait(templates._tasks)
    assert (ended.stopped, kept.stopped) == (True, False)
    assert templates.statistics()[1:] == [{"version": "ended", "ended": "the machine was short of memory"}]
    meminfo.write_text("MemTotal: 1000 kB\nMemAvailable: 60 kB\n")
    templates._keep_budget()
    assert not templates._tasks
    assert not kept.stopped

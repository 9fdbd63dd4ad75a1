from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.events.clockwork import ADAPTERS, Clockwork


@pytest.fixture(params=ADAPTERS)
async def clockwork(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Clockwork]:
    made = Clockwork(ADAPTERS[request.param](tmp_path))
    await made.start()
    yield made
    await made.stop()
    await made.tables.close()

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lambent.substrate.sqlite import open_documents

CHILD = Path(__file__).with_name("committing_child.py")
ROUNDS = 20


def commit_until_killed(path: Path, *, after_acks: int) -> dict[str, int]:
    """Let the child commit, kill it after that many acknowledgements, return the last count each writer was told."""
    acked: dict[str, int] = {}
    with subprocess.Popen([sys.executable, str(CHILD), str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for number, line in enumerate(child.stdout, start=1):
            writer, count = line.split()
            acked[writer] = int(count)
            # The child is not paused: it dies wherever it has come to, and its last acknowledgements are read on.
            if number == after_acks:
                child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    return acked


@pytest.mark.slow
async def test_every_acknowledged_commit_survives_sigkill_and_none_is_half_there(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"
    moments = random.Random(20261123)
    told: dict[str, int] = {}
    for _ in range(ROUNDS):
        told |= commit_until_killed(path, after_acks=moments.randint(1, 400))
        documents = open_documents(path)
        left = {document.key: int(document.value) for document in await documents.list("left")}
        right = {document.key: int(document.value) for document in await documents.list("right")}
        await documents.close()
        assert left == right
        for writer, count in told.items():
            # One more than acknowledged at most: the transaction that was under way.
            assert count <= left[writer] <= count + 1

"""The power fails: what was acknowledged is there afterwards, and without syncing it would not be.

The store lies on a disk image. Its file is copied at a random moment, with nothing but what had been written through
to it; what was still in the kernel's memory is lost, as it is when the power fails. (Writes that were reordered or torn
by a disk are not modelled.)
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from lambent.dataplane.sandbox import scratch

CHILD = Path(__file__).with_name("power_cut_child.py")
IMAGE_MB = 48

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk image takes root"),
    pytest.mark.skipif(scratch.probe() is not None, reason="this machine cannot mount disk images"),
]


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    place.mkdir()
    run("mount", "-o", "loop", str(image), str(place))
    try:
        yield place
    finally:
        run("umount", str(place))


class Writer:
    """The child, and what it acknowledged so far."""

    def __init__(self, store: Path, synchronous: str) -> None:
        command = [sys.executable, str(CHILD), str(store), synchronous]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.acknowledged: list[int] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.acknowledged.extend(int(line) for line in self._process.stdout)

    def stop(self) -> None:
        """Where it stands: nothing more is written, and nothing more is synced by it."""
        self._process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def cut(folder: Path, synchronous: str, after_s: float) -> tuple[set[int], set[int]]:
    """What was acknowledged before the cut, and what is there after it."""
    folder.mkdir()
    image, copy = folder / "disk", folder / "after"
    with image.open("wb") as file:
        file.truncate(IMAGE_MB << 20)
    run("mkfs.ext4", "-q", str(image))
    with mounted(image, folder / "before-cut") as place:
        run("sync", "-f", str(place))
        writer = Writer(place / "events.db", synchronous)
        try:
            give_up_at = time.monotonic() + 30
            while not (place / "events.db-wal").exists() and time.monotonic() < give_up_at:
                time.sleep(0.01)
            time.sleep(after_s)
            writer.stop()
            shutil.copyfile(image, copy)
        finally:
            writer.end()
    with mounted(copy, folder / "after-cut") as place:
        try:
            connection = apsw.Connection(str(place / "events.db"))
            assert connection.pragma("integrity_check") == "ok"
            there = {int(number) for (number,) in connection.execute("SELECT number FROM rows")}
            connection.close()
        except apsw.Error:
            there = set()
    return set(writer.acknowledged), there


def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path) -> None:
    chance = random.Random(9)
    for number in range(3):
        acknowledged, there = cut(tmp_path / str(number), "full", chance.uniform(0.3, 1.0))
        assert len(acknowledged) > 50
        assert acknowledged <= there


def test_without_syncing_it_would_be_lost(tmp_path: Path) -> None:
    acknowledged, there = cut(tmp_path / "control", "off", 0.6)
    assert len(acknowledged) > 50
    assert acknowledged - there

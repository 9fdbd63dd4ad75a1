from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("filling_child.py")
MOUNT_AND_RUN = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" "$3" "$1/documents.sqlite" disk'


def private_mounts() -> list[str]:
    """The command that runs another with mounts of its own; empty where this machine does not let us."""
    for flags in (["--mount"], ["--user", "--map-root-user", "--mount"]):
        command = ["unshare", *flags]
        if (
            shutil.which("unshare")
            and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
        ):
            return command
    return []


def test_a_full_disk_fails_the_commit_loses_nothing_and_heals_when_there_is_room(tmp_path: Path) -> None:
    unshare = private_mounts()
    if not unshare:
        pytest.skip("this machine does not allow a mount of our own")
    command = [*unshare, "sh", "-c", MOUNT_AND_RUN, "sh", str(tmp_path), sys.executable, str(CHILD)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "refused: The store's disk is full; nothing was written." in done.stdout


def test_a_file_size_limit_fails_the_commit_loses_nothing_and_heals_when_lifted(tmp_path: Path) -> None:
    command = [sys.executable, str(CHILD), str(tmp_path / "documents.sqlite"), "limit"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "refused: The store" in done.stdout

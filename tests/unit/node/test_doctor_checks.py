from __future__ import annotations

import os
import resource
import signal
import socket
import time
from pathlib import Path

import pytest

from lambent.node import doctor
from lambent.node.config import load_settings


def test_every_check_that_is_not_well_says_how_to_mend_it(tmp_path: Path) -> None:
    settings = load_settings(flags={"data_dir": str(tmp_path / "data"), "port": 0}, environ={}, folder=tmp_path)
    checks = list(doctor.examine(settings))
    assert len({check.name for check in checks}) == len(checks)
    assert all(check.detail for check in checks)
    assert [check.name for check in checks if check.status != "ok" and not check.mend] == []
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "system, release, machine, status",
    [
        ("Linux", "6.1.0-13-amd64", "x86_64", "ok"),
        ("Linux", "5.12.3", "aarch64", "ok"),
        ("Linux", "5.10.0", "x86_64", "fail"),
        ("Linux", "6.1.0", "riscv64", "fail"),
        ("Darwin", "24.1.0", "arm64", "warn"),
    ],
)
def test_the_kernel_must_be_one_that_can_isolate(system: str, release: str, machine: str, status: str) -> None:
    assert doctor.check_kernel(system, release, machine).status == status


def test_few_open_files_are_a_warning() -> None:
    assert doctor.check_open_files(1024, 1_048_576).status == "ok"
    assert doctor.check_open_files(1024, resource.RLIM_INFINITY).status == "ok"
    assert doctor.check_open_files(1024, 4096).status == "warn"


def test_few_processes_are_a_warning() -> None:
    assert doctor.check_processes(100_000, 100_000).status == "ok"
    assert doctor.check_processes(500, 500).status == "warn"


def test_a_full_disk_is_no_place_to_start() -> None:
    assert [doctor.check_space(count, "/x").status for count in (3 << 30, 1 << 30, 1 << 20)] == ["ok", "warn", "fail"]


def test_a_missing_wall_is_a_warning() -> None:
    assert doctor.check_landlock(0).status == "warn"
    assert doctor.check_landlock(4).status == "ok"


def test_a_port_that_another_process_has_is_a_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        server.close()
        assert doctor.check_port("127.0.0.1", port).status == "ok"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        check = doctor.check_port("127.0.0.1", taken.getsockname()[1])
    assert check.status == "fail"
    assert "--port" in check.mend


def test_what_is_tried_in_a_child_leaves_the_parent_as_it_was() -> None:
    assert doctor.try_in_child(lambda: os.chdir("/")) is None
    assert (
        doctor.try_in_child(lambda: os.kill(os.getpid(), signal.SIGKILL))
        == "the child that tried it ended with status 9"
    )

    def fail() -> None:
        raise OSError(1, "Operation not permitted")

    assert "Operation not permitted" in (doctor.try_in_child(fail) or "")


def test_a_child_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_CHILD_TIMEOUT_S", 0.05)
    assert doctor.try_in_child(lambda: time.sleep(60)) == "it hangs"

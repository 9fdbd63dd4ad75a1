"""Templates over restarts, deletions, pressure and kills; each node here is its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ask, connect
from tests.integration.snapstart.conftest import PATIENCE_S, Published, publish_with

from lambent.testing.node import LambentNode

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="templates need a node that runs as root")

INITIALISED = "import os\ndef handler(event, context): return os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']"
LARGE = "DATA = bytearray(os.urandom(1 << 20)) * 60\n"


def wait_for(what: Callable[[], Any]) -> Any:
    give_up_at = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    return found


def templates(client: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(client, "/_lambent/status")["templates"]
    return found


def living(client: Any) -> list[str]:
    return [entry["version"] for entry in templates(client) if "ended" not in entry]


def processes_with_uid_of_environments() -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "status").read_text()
            except OSError:
                continue
            if 100_000 <= int(text.split("\nUid:")[1].split()[0]) <= 165_535:
                found.add(int(entry.name))
    return found


def descendants(pid: int) -> set[int]:
    found = {pid}
    for one in list(found):
        try:
            children = Path(f"/proc/{one}/task/{one}/children").read_text().split()
        except OSError:
            continue
        for child in children:
            found |= descendants(int(child))
    return found


def restored(published: Published) -> bool:
    return bool(published().payload == "snap-start")


def test_after_a_restart_the_first_start_is_cold_and_templates_come_back(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data")
    with node.running():
        published = publish_with(connect(node), "import time\ntime.sleep(1)\n" + INITIALISED)
        assert restored(published)
    # A keep-alive of 0, so that every invocation is a start.
    with LambentNode(tmp_path / "data", environ={"LAMBENT_KEEP_ALIVE_SECONDS": "0"}).running() as again:
        published.client = connect(again)
        assert published().payload == "on-demand"
        wait_for(lambda: living(published.client))
        assert restored(published)


def test_the_template_of_a_deleted_version_ends(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "data").running() as node:
        client = connect(node)
        before = processes_with_uid_of_environments() & descendants(node.pid)
        published = publish_with(client, INITIALISED)
        assert restored(published)
        assert living(client)
        client.delete_function(FunctionName=published.name, Qualifier="1")
        wait_for(lambda: not living(client))
        wait_for(lambda: processes_with_uid_of_environments() & descendants(node.pid) == before)


def test_under_pressure_the_template_used_last_is_kept_and_the_others_reason_recorded(tmp_path: Path) -> None:
    environ = {"LAMBENT_SNAPSTART_MEMORY_MB": "150", "LAMBENT_KEEP_ALIVE_SECONDS": "0"}
    with LambentNode(tmp_path / "data", environ=environ).running() as node:
        client = connect(node)
        source = "import os\n" + LARGE + INITIALISED
        first, second = (publish_with(client, source, MemorySize=256) for _ in range(2))
        assert restored(first)
        third = publish_with(client, source, MemorySize=256)
        arns = [f"{client.get_function(FunctionName=one.name)['Configuration']['FunctionArn']}:1" for one in (second,)]
        ended = {entry["version"]: entry["ended"] for entry in templates(client) if "ended" in entry}
        assert list(ended) == arns
        assert "snapstart_memory_mb" in ended[arns[0]]
        assert restored(third)
        # Its next start is cold, and has the template made again.
        assert second().payload == "on-demand"
        wait_for(lambda: arns[0] in living(client))


def test_an_ended_template_takes_no_environment_with_it_and_is_made_again(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "data").running() as node:
        client = connect(node)
        published = publish_with(client, "import os\nM = 'the marker of this template'\n" + INITIALISED)
        assert restored(published)
        environment = ask(client, "/_lambent/status")["environments"][0]["pid"]
        (template,) = _template_processes(node.pid, environment)
        os.kill(template, signal.SIGKILL)
        wait_for(lambda: not living(client) or _template_processes(node.pid, environment) != [template])
        assert restored(published), "the idle environment lives on"
        assert ask(client, "/_lambent/status")["environments"][0]["pid"] == environment


def _template_processes(node_pid: int, environment_init: int) -> list[int]:
    """Runtimes of the environments' uids that are in no environment: the deepest child of the template's init."""
    mine = processes_with_uid_of_environments() & descendants(node_pid)
    own = descendants(environment_init)
    found = []
    for pid in mine - own:
        # The level of its pid namespace: a template is one above its environments.
        levels = Path(f"/proc/{pid}/status").read_text().split("\nNSpid:")[1].splitlines()[0].split()
        name = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if levels[-1] not in ("1", "2", "3") and not name:
            found.append(pid)
    return found


def test_kill_minus_nine_of_the_node_leaves_no_template_no_fork_and_no_group(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data")
    node.start()
    published = publish_with(connect(node), INITIALISED)
    assert restored(published)
    of_node = descendants(node.pid) - {node.pid}
    # The template and the fork, each with an init, and what holds their pid namespace; and a place made ahead.
    assert len(of_node & processes_with_uid_of_environments()) >= 4
    node.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in of_node))
    with LambentNode(tmp_path / "data").running():
        pass
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


def test_a_stopped_node_leaves_nothing_even_while_a_version_is_being_initialised(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data")
    with node.running():
        client = connect(node)
        ready = publish_with(client, INITIALISED)
        assert restored(ready)
        client.update_function_configuration(FunctionName=ready.name, Environment={"Variables": {"SLEEP": "60"}})
        client.get_waiter("function_updated_v2").wait(FunctionName=ready.name)
        slow = publish_slowly(client)
        with pytest.raises(client.exceptions.SnapStartNotReadyException):
            slow()
        of_node = descendants(node.pid) - {node.pid}
        node.stop()
    assert not [pid for pid in of_node if Path(f"/proc/{pid}").exists()]


def publish_slowly(client: Any) -> Published:
    from tests.conftest import PYTHON, ROLE

    from lambent.testing.node import make_zip

    client.create_function(
        FunctionName="slow",
        Role=ROLE,
        Runtime=PYTHON,
        Handler="app.handler",
        Code={"ZipFile": make_zip({"app.py": "import time\ntime.sleep(60)\n" + INITIALISED})},
        Publish=True,
        SnapStart={"ApplyOn": "PublishedVersions"},
    )
    return Published(client, "slow")


def test_a_hundred_starts_leave_no_descriptor_and_no_process(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "data", environ={"LAMBENT_KEEP_ALIVE_SECONDS": "0"}).running() as node:
        published = publish_with(connect(node), INITIALISED)

        def calm() -> tuple[int, int]:
            wait_for(lambda: not ask(published.client, "/_lambent/status")["environments"])
            time.sleep(0.5)
            return len(list(Path(f"/proc/{node.pid}/fd").iterdir())), len(descendants(node.pid))

        for _ in range(5):
            published()
        before = calm()
        for _ in range(100):
            assert restored(published)
        after = calm()
        assert after[0] <= before[0] + 2
        assert after[1] <= before[1]


def test_without_namespaces_versions_say_why_they_start_cold(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "data", environ={"LAMBENT_ISOLATION": "process"}).running() as node:
        published = publish_with(connect(node), INITIALISED)
        shown = published.shown
        assert (shown["State"], shown["SnapStart"]["OptimizationStatus"]) == ("Active", "Off")
        assert shown["StateReason"] == "SnapStart is off: the node has to run as root for it, in the namespace tier"
        assert published().payload == "on-demand"


def test_a_burst_is_served_by_forks_alone(tmp_path: Path) -> None:
    with LambentNode(tmp_path / "data").running() as node:
        published = publish_with(connect(node), "import time\n" + INITIALISED.replace(": ", ": time.sleep(2); "))
        answers = published.at_once(40, {})
        assert {answer.payload for answer in answers} == {"snap-start"}

"""What a function must not see or do, tried from inside a real environment of this machine's tier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.conftest import Deploy

from lambent.testing.node import LambentNode

Run = Callable[[str], Any]


def test_it_sees_no_processes_but_its_own(run_inside: Run) -> None:
    pids = run_inside("sorted(int(name) for name in os.listdir('/proc') if name.isdigit())")
    assert set(pids) <= {1, 2}


@pytest.mark.parametrize("expression", ["os.kill(-1, 0) or 'sent'", "[os.kill(pid, 0) for pid in range(3, 5000)]"])
def test_it_can_signal_nobody_outside(run_inside: Run, expression: str) -> None:
    assert "ProcessLookupError" in str(run_inside(expression)) or run_inside(expression) == "sent"


def test_it_has_no_capabilities_and_cannot_get_any(run_inside: Run) -> None:
    status = run_inside("open('/proc/self/status').read()")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == 0, name
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    assert "0" not in fields["Uid"].split()
    assert fields["Groups"].strip() in ("", "65534")


@pytest.mark.parametrize(
    "path",
    [
        "/root/.ssh",
        "/etc/shadow",
        "/home",
        "/var/lib",
        "/sys",
        "/boot",
        "/srv",
        "/mnt",
        "/run",
        "/proc/sys",
        "/dev/shm",
    ],
)
def test_paths_of_the_host_are_not_there(run_inside: Run, path: str) -> None:
    assert run_inside(f"os.path.exists({path!r})") is False


def test_the_data_folder_and_other_code_are_not_there(run_inside: Run, node: LambentNode) -> None:
    assert run_inside(f"os.path.exists({str(node.data_dir)!r})") is False
    assert run_inside("os.listdir('/store')") == []


@pytest.mark.parametrize("path", ["/var/task/x", "/opt/x", "/usr/x", "/x", "/etc/x", "/dev/x", "/var/x", "/proc/x"])
def test_nothing_but_tmp_can_be_written(run_inside: Run, path: str) -> None:
    assert any(
        error in run_inside(f"open({path!r}, 'w')")
        for error in ("Read-only file system", "Permission denied", "No such file")
    )
    assert run_inside("open('/tmp/x', 'w').write('ok')") == 2


def test_it_holds_no_descriptors_but_its_own(run_inside: Run) -> None:
    links = run_inside(
        "[os.readlink(f'/proc/self/fd/{n}') for n in range(0, 30) if os.path.lexists(f'/proc/self/fd/{n}')]"
    )
    assert len(links) == 4
    assert [link.split(":")[0] for link in links] == ["/dev/null", "pipe", "pipe", "socket"]


def test_its_command_line_tells_nothing_of_the_host(run_inside: Run, node: LambentNode) -> None:
    text = run_inside("open('/proc/self/cmdline').read() + open('/proc/self/environ').read()")
    assert str(node.data_dir) not in text


def test_its_cgroups_are_shown_as_roots(run_inside: Run) -> None:
    for line in run_inside("open('/proc/self/cgroup').read()").splitlines():
        assert line.endswith(":/"), line


def test_the_nodes_port_is_not_reachable(run_inside: Run, node: LambentNode) -> None:
    port = int(node.endpoint.rpartition(":")[2])
    answer = run_inside(f"socket.create_connection(('127.0.0.1', {port}), 2)")
    assert "ConnectionRefusedError" in answer


@pytest.mark.parametrize("address", ["169.254.169.254", "127.0.0.2"])
def test_addresses_of_the_machine_are_not_reachable(run_inside: Run, node: LambentNode, address: str) -> None:
    port = int(node.endpoint.rpartition(":")[2])
    answer = run_inside(
        f"(lambda s: (s.sendall(b'GET /health HTTP/1.0\\r\\n\\r\\n'), s.recv(100)))"
        f"(socket.create_connection(({address!r}, {port}), 2))"
    )
    assert "Error" in str(answer), answer


@pytest.mark.parametrize(
    "expression",
    [
        "ctypes.CDLL(None, use_errno=True).mount(b'none', b'/tmp', b'tmpfs', 0, None)",
        "ctypes.CDLL(None, use_errno=True).unshare(0x10000000)",
        "ctypes.CDLL(None, use_errno=True).unshare(0x00020000)",
        "ctypes.CDLL(None, use_errno=True).setns(0, 0)",
        "ctypes.CDLL(None, use_errno=True).ptrace(16, 1, 0, 0)",
        "ctypes.CDLL(None, use_errno=True).chroot(b'/tmp')",
        "ctypes.CDLL(None, use_errno=True).syscall(321, 0, 0, 0)",
        "ctypes.CDLL(None, use_errno=True).syscall(298, 0, 0, 0, 0, 0)",
        "ctypes.CDLL(None, use_errno=True).syscall(425, 1, 0)",
        "ctypes.CDLL(None, use_errno=True).syscall(250, 0, 0, 0, 0, 0)",
        "ctypes.CDLL(None, use_errno=True).syscall(323, 0)",
        "ctypes.CDLL(None, use_errno=True).reboot(0)",
        "ctypes.CDLL(None, use_errno=True).mknod(b'/tmp/n', 0o60644, 1)",
        "ctypes.CDLL(None, use_errno=True).setuid(0)",
        "ctypes.CDLL(None, use_errno=True).sethostname(b'x', 1)",
    ],
)
def test_dangerous_system_calls_are_refused(run_inside: Run, expression: str) -> None:
    assert run_inside(expression) == -1


@pytest.mark.parametrize("family", [17, 16, 38, 40, 44])
def test_unusual_sockets_do_not_open(run_inside: Run, family: int) -> None:
    protocol = 12 if family == 16 else 0
    assert "Error" in run_inside(f"socket.socket({family}, socket.SOCK_RAW, {protocol})")


def test_raw_sockets_do_not_open(run_inside: Run) -> None:
    assert "PermissionError" in run_inside("socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)")


def test_a_setuid_program_gives_nothing(run_inside: Run) -> None:
    assert run_inside("subprocess.run(['/usr/bin/id', '-u'], capture_output=True, text=True).stdout.strip()") != "0"


def test_init_cannot_be_killed_or_read(run_inside: Run) -> None:
    assert "Error" in str(run_inside("open('/proc/1/mem', 'rb')"))
    run_inside("os.kill(1, 9)")
    assert run_inside("1 + 1") == 2


def test_each_environment_has_its_own_tmp(deploy: Deploy) -> None:
    write = deploy("def handler(e, c):\n    open('/tmp/secret', 'w').write('mine')\n    return 1\n")
    look = deploy("import os\ndef handler(e, c):\n    return os.listdir('/tmp')\n")
    assert write().payload == 1
    assert look().payload == []


def test_a_new_revision_never_gets_an_old_environment(deploy: Deploy) -> None:
    function = deploy(
        "import os\ndef handler(e, c):\n    open('/tmp/x', 'a').write('1')\n    return os.stat('/tmp/x').st_size\n"
    )
    assert [function().payload, function().payload] == [1, 2]
    function.client.update_function_configuration(FunctionName=function.name, Environment={"Variables": {"STAGE": "1"}})
    function.client.get_waiter("function_updated_v2").wait(FunctionName=function.name)
    assert function().payload == 1


def test_tmp_ends_at_its_size_and_the_function_lives_on(deploy: Deploy) -> None:
    function = deploy(
        "import os\ndef handler(e, c):\n    n = 0\n    try:\n        with open('/tmp/fill', 'wb') as f:\n"
        "            while n < 700:\n                f.write(b'x' * 1048576); n += 1\n"
        "    except OSError as exc:\n        os.unlink('/tmp/fill')\n        return [n, exc.strerror]\n"
        "    return [n, '']\n",
        Timeout=60,
        MemorySize=1024,
    )
    written, error = function().payload
    assert error in ("No space left on device", "File too large")
    assert 450 <= written <= 513


def test_descriptors_end_at_1024(run_inside: Run) -> None:
    assert run_inside("__import__('resource').getrlimit(7)") == [1024, 1024]


def test_network_none_reaches_nothing(deploy: Deploy) -> None:
    function = deploy(
        "import socket\ndef handler(e, c):\n"
        "    try: socket.create_connection(('192.0.2.1', 80), 2); return 'connected'\n"
        "    except OSError as exc: return exc.strerror\n",
        Tags={"lambent:network": "none"},
    )
    assert function().payload == "Network is unreachable"


def test_a_frame_out_of_turn_ends_the_environment_not_the_node(deploy: Deploy) -> None:
    function = deploy(
        "import os, struct\ndef handler(e, c):\n"
        "    os.write(3, struct.pack('!cI', e['kind'].encode(), e['length']) + b'x' * e['send'])\n"
        "    return 'still here'\n"
    )
    for event in (
        {"kind": "Z", "length": 4, "send": 4},
        {"kind": "O", "length": 2**32 - 1, "send": 10},
        {"kind": "R", "length": 2, "send": 2},
        {"kind": "S", "length": 3, "send": 3},
    ):
        assert function(event).error == "Unhandled"


def test_platform_lines_cannot_be_forged(deploy: Deploy, node: LambentNode) -> None:
    import json

    function = deploy("def handler(e, c):\n    print('REPORT RequestId: forged\\tDuration: 0 ms')\n    return 1\n")
    function()
    deadline = 50
    lines: list[dict[str, Any]] = []
    while deadline and not any("forged" in line["message"] for line in lines):
        deadline -= 1
        __import__("time").sleep(0.1)
        logs = [path for path in (node.data_dir / "logs").rglob("*.jsonl") if function.name in str(path)]
        lines = [json.loads(text) for path in logs for text in path.read_text().splitlines()]
    assert [line["kind"] for line in lines if "forged" in line["message"]] == ["function"]

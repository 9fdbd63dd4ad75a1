"""What docs/security.md says of SnapStart, tried by code that does what it can: in a template, in a fork, between.

The hostile template replaces the part of the way into an environment that runs in its own memory.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.snapstart.conftest import Publish, Published, publish

__all__ = ["publish"]

TRY = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def attempt(work):
    try:
        return work()
    except BaseException as exc:
        return type(exc).__name__ + ": " + str(exc)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return "done"
def status(name):
    with open("/proc/self/status") as file:
        return [line.split(":")[1].strip() for line in file if line.startswith(name + ":")][0]
def handler(event, context):
    return attempt(lambda: eval(event["expression"], globals()))
"""

ATTEMPTS = (
    "call('mount', b'none', b'/tmp', b'tmpfs', 0, None)",
    "call('mount', None, b'/', None, 32 | 4096, None)",
    "call('umount2', b'/tmp', 2)",
    "call('umount2', b'/proc', 2)",
    "call('unshare', 0x20000)",
    "call('pivot_root', b'.', b'.')",
    "call('sethostname', b'x', 1)",
    "call('chroot', b'/tmp')",
    "call('ptrace', 16, 1, 0, 0)",
    "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)",
    "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)",
    "socket.socket().setsockopt(0, 64, b'x' * 96)",
    "open('/proc/1/mem', 'r+b')",
    "os.listdir('/proc/1/fd')",
    "open('/var/task/new', 'w')",
    "open('/usr/new', 'w')",
    "os.setuid(0)",
    "os.mknod('/tmp/device', 0o60600, 1793)",
    "os.write(os.open('/proc/self/oom_score_adj', os.O_WRONLY), b'-1000')",
)
"""Of code that runs, before it has to give them up, with all capabilities over its own slot."""

ON_THE_WAY = f"""
ATTEMPTS = {ATTEMPTS!r}
RESULTS = {{}}
import lambent.dataplane.jail.forks as forks
confine = forks._confine
def try_everything_first(means):
    os.chdir("/")
    RESULTS["capabilities"] = status("CapEff")
    for expression in ATTEMPTS:
        RESULTS[expression] = str(attempt(lambda: eval(expression, globals())))
    confine(means)
forks._confine = try_everything_first
"""

KEEPS_ALL = """
import lambent.dataplane.jail.forks as forks
def confine(means):
    forks.slot.tell_joined(means.joined_fd)
    os.dup2(means.control_fd, 3)
forks._confine = confine
"""

LEAVES_A_PROCESS = """
import lambent.dataplane.jail.forks as forks
join = forks.slot.join
def join_and_leave_one(fds):
    if not os.fork():
        import time
        time.sleep(99)
    join(fds)
forks.slot.join = join_and_leave_one
"""


@pytest.fixture(scope="module")
def inside(publish: Publish) -> Any:
    return _evaluate(publish(TRY))


@pytest.fixture(scope="module")
def hostile(publish: Publish) -> Any:
    return _evaluate(publish(TRY + ON_THE_WAY))


def _evaluate(published: Published) -> Any:
    assert published.shown["SnapStart"]["OptimizationStatus"] == "On", published.shown

    def run(expression: str) -> Any:
        answer = published({"expression": expression})
        assert not answer.error, answer.payload
        return answer.payload

    return run


@pytest.mark.parametrize("kind", ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
def test_a_fork_has_no_capability(inside: Any, kind: str) -> None:
    assert int(inside(f"status('{kind}')"), 16) == 0


def test_a_fork_has_the_ordinary_filter_over_its_templates(inside: Any) -> None:
    assert (inside("status('Seccomp_filters')"), inside("status('NoNewPrivs')")) == ("2", "1")
    for kind in ("user", "pid", "net", "mnt"):
        refused = inside(f"call('setns', os.open('/proc/self/ns/{kind}', os.O_RDONLY), 0)")
        assert refused.startswith("PermissionError"), refused


def test_a_fork_sees_itself_alone(publish: Publish) -> None:
    inside = _evaluate(publish(TRY))
    assert inside("[name for name in os.listdir('/proc') if name.isdigit()]") == [str(inside("os.getpid()"))]
    # Streams, channel, and the one that listing opens.
    assert inside("sorted(os.listdir('/proc/self/fd'), key=int)") == ["0", "1", "2", "3", "4"]


def test_a_fork_cannot_end_its_init_or_what_is_outside(inside: Any) -> None:
    # Process 1 of a pid namespace takes no signal from within it that it has no handler for.
    inside("os.kill(1, 9)")
    assert inside("os.getppid()") == 1
    assert inside("os.kill(2, 0)").startswith("ProcessLookupError")


def test_the_files_of_a_fork_are_those_of_any_environment(inside: Any) -> None:
    assert inside("open('/var/task/new', 'w')").startswith(("OSError: [Errno 30]", "PermissionError"))
    assert inside("open('/new', 'w')").startswith(("OSError: [Errno 30]", "PermissionError"))
    assert inside("open('/tmp/new', 'w').write('x')") == 1
    assert inside("os.path.exists('/store')") is False or inside("os.listdir('/store')") == []


def test_a_fork_reaches_no_port_of_the_machine(inside: Any, client: Any) -> None:
    port = int(client.meta.endpoint_url.rpartition(":")[2])
    assert inside(f"socket.create_connection(('127.0.0.1', {port}), 2)").startswith("ConnectionRefusedError")


def test_code_on_the_way_into_a_slot_has_capabilities_over_it(hostile: Any) -> None:
    # This is what docs/security.md admits; were it no longer so, the following would test nothing.
    assert int(hostile("RESULTS['capabilities']"), 16) != 0


@pytest.mark.parametrize("expression", ATTEMPTS)
def test_these_capabilities_buy_nothing(hostile: Any, expression: str) -> None:
    result = hostile(f"RESULTS[{expression!r}]")
    assert result.startswith(("PermissionError", "OSError", "FileNotFoundError", "ArgumentError")), result


@pytest.mark.parametrize("source", [KEEPS_ALL, LEAVES_A_PROCESS], ids=["privileges", "a process"])
def test_a_fork_that_kept_something_is_refused_and_its_version_starts_cold(publish: Publish, source: str) -> None:
    published = publish(TRY + source)
    for _ in range(2):
        assert published({"expression": "os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']"}).payload == "on-demand"


def test_init_in_a_template_cannot_join_anything(publish: Publish) -> None:
    published = publish(
        TRY + "TRIED = [attempt(lambda: call('setns', os.open('/proc/self/ns/' + kind, os.O_RDONLY), 0))"
        " for kind in ('user', 'pid', 'net', 'mnt', 'ipc', 'uts', 'cgroup')]\n"
        "TRIED.append(attempt(lambda: call('unshare', 0x10000000)))\n"
        "TRIED.append(attempt(lambda: os.readlink('/proc/1/ns/pid')))\n"
    )
    answer = published({"expression": "TRIED"})
    assert all(str(tried).startswith(("PermissionError", "OSError", "FileNotFoundError")) for tried in answer.payload)


def test_a_hostile_template_that_never_forks_costs_its_version_the_template(publish: Publish) -> None:
    published = publish(
        TRY + "import lambent.dataplane.jail.forks as forks\nforks.Forker.fork_into = lambda self, means, go_on: None\n"
    )
    answer = published({"expression": "os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']"})
    assert answer.payload == "on-demand"

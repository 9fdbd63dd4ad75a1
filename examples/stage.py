"""What the examples share: a node of their own that goes away afterwards, AWS clients for it, and steps that are told."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import boto3

from lambent.testing.node import LambentNode

EXAMPLES = Path(__file__).parent
BIN = Path(sys.executable).parent
PATIENCE_S = 60.0
Found = TypeVar("Found")


class Stage:
    """A running node with an empty folder to work in."""

    def __init__(self, node: LambentNode, folder: Path) -> None:
        self.node = node
        self.folder = folder
        self.environ = {
            **node.environ(),
            "LAMBENT_DATA_DIR": str(node.data_dir),
            "LAMBENT_ENDPOINT": node.endpoint,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        }

    def client(self, service: str) -> Any:
        """A boto3 client, as any program would make it with the variables of `lambent env`."""
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update(self.environ)
        try:
            return boto3.session.Session(profile_name="lambent").client(service)
        finally:
            os.environ.clear()
            os.environ.update(before)

    def run(self, *command: str, quiet: bool = False, environ: Mapping[str, str] | None = None) -> str:
        """A program in the folder; what it prints. Raises CalledProcessError."""
        if not quiet:
            print("$ " + " ".join(command), flush=True)
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environ, **(environ or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
            done.check_returncode()
        return done.stdout + done.stderr

    def deploy(self, path: Path, *options: str) -> str:
        """The ARN of the function that `lambent deploy` made of a folder, named after it."""
        self.run("lambent", "deploy", str(path), *options)
        arn: str = self.client("lambda").get_function(FunctionName=path.name)["Configuration"]["FunctionArn"]
        return arn

    def letters(self) -> list[str]:
        """What this node would have mailed: with --dev letters are files."""
        folder = self.node.data_dir / "mail"
        return [file.read_text() for file in sorted(folder.glob("*.eml"))] if folder.is_dir() else []


def say(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def wait_for(look: Callable[[], Found | None], what: str) -> Found:
    """What `look` finds as soon as it finds anything."""
    give_up_at = time.monotonic() + PATIENCE_S
    while (found := look()) is None:
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{what} did not come within {PATIENCE_S:.0f} s")
        time.sleep(0.05)
    return found


def post(url: str, body: Any, headers: Mapping[str, str]) -> Any:
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"content-type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


@contextlib.contextmanager
def open_stage(config: str = "", **environ: str) -> Iterator[Stage]:
    """`config` is a lambent.toml; `environ` are settings of the node too, such as LAMBENT_MAIL_PORT."""
    with tempfile.TemporaryDirectory(prefix="lambent-example-") as name:
        folder = Path(name)
        (folder / "lambent.toml").write_text(config)
        environ["LAMBENT_CONFIG"] = str(folder / "lambent.toml")
        node = LambentNode(folder / "data", arguments=["--dev"], environ=environ)
        with node.running():
            work = folder / "work"
            work.mkdir()
            yield Stage(node, work)

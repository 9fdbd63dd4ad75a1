"""A push to a repository of this machine starts a build: `python examples/ci/run.py`."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from stage import EXAMPLES, Stage, open_stage, say, wait_for  # noqa: E402

GOOD = "import unittest\n\nclass Adding(unittest.TestCase):\n    def test_it_adds(self):\n        self.assertEqual(1 + 1, 2)\n"


def main() -> list[dict[str, Any]]:
    """The statuses of two pushes, as they were posted."""
    address = own_address()
    port = free_port(address)
    with open_stage(LAMBENT_NETWORK_ALLOW_HOSTS=f"{address}:{port}") as stage, StatusServer() as statuses:
        say("1. A repository that this machine serves, and a function that builds what is pushed to it")
        stage.run("git", "init", "--bare", "--initial-branch=main", "shop.git", quiet=True)
        topic = stage.client("sns").create_topic(Name="builds")["TopicArn"]
        stage.deploy(
            EXAMPLES / "ci" / "builder",
            *("--timeout", "120", "--memory", "512"),
            *("--env", f"STATUS_TOPIC={topic}", "--env", f"CLONE_URL=git://{address}:{port}/shop.git"),
        )
        say("2. Who is told: a status server, and the team by mail when a build fails")
        subscribe(stage, topic, statuses)
        say("3. The repository reports its pushes")
        install_hook(stage)
        with serve_repository(stage, address, port):
            say("4. Push something that works")
            push(stage, "test_shop.py", GOOD, "works")
            found = [wait_for(lambda: statuses.take(1), "the status of the first build")]
            say("5. Push something that does not")
            push(stage, "test_shop.py", GOOD.replace("2)", "3)"), "does not")
            found.append(wait_for(lambda: statuses.take(2), "the status of the second build"))
        for status in found:
            print(f"{status['commit'][:7]} {status['state']} after {status['seconds']} s", flush=True)
        letter = wait_for(lambda: next((text for text in stage.letters() if "failure" in text), None), "the letter")
        print(next(line for line in letter.splitlines() if line.startswith("Subject:")), flush=True)
        return found


def subscribe(stage: Stage, topic: str, statuses: StatusServer) -> None:
    topics = stage.client("sns")
    topics.subscribe(TopicArn=topic, Protocol="http", Endpoint=statuses.url, Attributes={"RawMessageDelivery": "true"})
    token = wait_for(lambda: statuses.token, "the question whether to subscribe")
    topics.confirm_subscription(TopicArn=topic, Token=token)
    failures = json.dumps({"state": ["failure", "error"]})
    topics.subscribe(
        TopicArn=topic, Protocol="email", Endpoint="team@example.com", Attributes={"FilterPolicy": failures}
    )
    (letter,) = wait_for(lambda: stage.letters() or None, "the letter that asks")
    link = letter.replace("=\n", "").replace("=3D", "=").partition("http://")[2].split()[0]
    stage.run("curl", "--silent", "--fail", f"http://{link}", quiet=True)


def install_hook(stage: Stage) -> None:
    said = stage.run("lambent", "hooks", "add", "shop", "--kind", "git", "--function", "builder", "--type", "push")
    secret = stage.folder / "secret"
    secret.touch(mode=0o600)
    secret.write_text(said.partition("told this once: ")[2].split()[0])
    script = stage.run("lambent", "hooks", "script", "shop", "--secret-file", str(secret))
    hook = stage.folder / "shop.git" / "hooks" / "post-receive"
    hook.write_text(script)
    hook.chmod(0o755)


def push(stage: Stage, name: str, text: str, message: str) -> None:
    work = stage.folder / "work"
    if not work.exists():
        stage.run("git", "clone", "--quiet", "shop.git", "work", quiet=True)
    (work / name).write_text(text)
    git = ("git", "-C", "work", "-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    stage.run(*git, "add", name, quiet=True)
    stage.run(*git, "commit", "--quiet", "-m", message, quiet=True)
    stage.run("git", "-C", "work", "push", "--quiet", "origin", "HEAD:main")


@contextlib.contextmanager
def serve_repository(stage: Stage, address: str, port: int) -> Iterator[None]:
    """A git server, as a company would have one; functions reach it since `network.allow_hosts` names it."""
    command = ["git", "daemon", "--reuseaddr", "--export-all", f"--listen={address}", f"--port={port}"]
    server = subprocess.Popen(
        [*command, f"--base-path={stage.folder}", str(stage.folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: True if can_connect(address, port) else None, "the git server")
        yield
    finally:
        server.terminate()
        server.wait()


class StatusServer:
    """Where a git host would show statuses."""

    def __init__(self) -> None:
        self.token: str | None = None
        self._statuses: list[dict[str, Any]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                document = json.loads(body)
                if self.headers["x-amz-sns-message-type"] == "SubscriptionConfirmation":
                    owner.token = document["Token"]
                else:
                    owner._statuses.append(document)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/status"

    def take(self, number: int) -> dict[str, Any] | None:
        return self._statuses[number - 1] if len(self._statuses) >= number else None

    def __enter__(self) -> StatusServer:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Nothing is sent: the kernel is asked which address it would send from.
        probe.connect(("198.51.100.1", 9))
        return str(probe.getsockname()[0])


def free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def can_connect(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()

"""`make demo`: a node, a function, an invocation by boto3 and by the CLI, and what to try next. Stops cleanly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3

from lambent.model.errors import OperatorError
from lambent.testing.node import LambentNode, NodeDidNotStart

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


def say(title: str) -> None:
    print(f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n{title}", flush=True)


def run(*command: str, environ: dict[str, str]) -> None:
    print("$ " + " ".join(command), flush=True)
    subprocess.run([str(BIN / command[0]), *command[1:]], env=environ, check=True)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="lambent-demo-") as folder:
        node = LambentNode(Path(folder) / "data")
        say("1. Start a node")
        print(f"$ lambent up --data-dir {node.data_dir} --port 0", flush=True)
        try:
            with node.running():
                print(f"It serves on {node.endpoint}", flush=True)
                show(node)
        except NodeDidNotStart as exc:
            print(exc, file=sys.stderr)
            return 1
        say("The node has stopped and left nothing behind.")
    say("Try next")
    print(
        "  source .venv/bin/activate\n"
        "  lambent up                              a node that stays, on port 8700\n"
        "  lambent deploy examples/hello           in another terminal\n"
        '  lambent invoke hello -d \'{"name": "you"}\' --tail\n'
        "  lambent logs hello --follow\n"
        '  eval "$(lambent env)"; aws lambda list-functions\n'
        "  lambent status; lambent doctor\n"
        "The dashboard is still to come; until then `lambent status` shows what runs."
    )
    return 0


def show(node: LambentNode) -> None:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    environ = {**node.environ(), "LAMBENT_DATA_DIR": str(node.data_dir), "PATH": path}
    os.environ.update(environ)
    say("2. Deploy examples/hello")
    run("lambent", "deploy", str(ROOT / "examples" / "hello"), environ=environ)
    say("3. Invoke it with boto3")
    client = boto3.session.Session(profile_name="lambent").client("lambda")
    answer = client.invoke(FunctionName="hello", Payload=json.dumps({"name": "boto3"}).encode())
    print(json.load(answer["Payload"]), flush=True)
    say("4. Invoke it with the command line, and see its log")
    run("lambent", "invoke", "hello", "-d", '{"name": "CLI"}', "--tail", environ=environ)
    run("lambent", "logs", "hello", environ=environ)
    say("5. See the node")
    run("lambent", "status", environ=environ)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OperatorError as exc:
        sys.exit(f"lambent: {exc}")

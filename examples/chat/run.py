"""A chat over WebSockets: `python examples/chat/run.py`."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

sys.path.insert(0, str(Path(__file__).parent.parent))

from stage import EXAMPLES, Stage, open_stage, say  # noqa: E402

PEOPLE = ("Ada", "Grace", "Linus")


def main() -> dict[str, list[Any]]:
    """What each of the three has read."""
    with open_stage() as stage, contextlib.ExitStack() as stack:
        say("1. A bucket for who is there, a function, and a WebSocket API in front of it")
        url = make_chat(stage)
        print(url, flush=True)
        say("2. A page for it, which is a folder of files")
        print(f"{make_page(stage)}#{url}", flush=True)
        say("3. Three people, one of whom leaves")
        clients = {name: stack.enter_context(connect(f"{url}?name={name}", proxy=None)) for name in PEOPLE}
        read: dict[str, list[Any]] = {name: [] for name in PEOPLE}
        for name, client in clients.items():
            client.send(json.dumps({"action": "say", "text": f"Hello, I am {name}."}))
            take_all(clients, read)
        clients.pop("Linus").close()
        take_all(clients, read)
        for name, messages in read.items():
            print(f"{name}: {messages}", flush=True)
        return read


def make_chat(stage: Stage) -> str:
    stage.client("s3").create_bucket(Bucket="chat")
    function = stage.deploy(EXAMPLES / "chat" / "chat", "--env", "BUCKET=chat", "--timeout", "10", "--memory", "256")
    gateway = stage.client("apigatewayv2")
    api = gateway.create_api(Name="chat", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")
    integration = gateway.create_integration(
        ApiId=api["ApiId"], IntegrationType="AWS_PROXY", IntegrationUri=function
    )["IntegrationId"]
    for key in ("$connect", "$disconnect", "say"):
        gateway.create_route(ApiId=api["ApiId"], RouteKey=key, Target=f"integrations/{integration}")
    gateway.create_stage(ApiId=api["ApiId"], StageName="live", AutoDeploy=True)
    return f"{stage.node.endpoint.replace('http', 'ws', 1)}/_lambent/api/{api['ApiId']}/live"


def make_page(stage: Stage) -> str:
    """Its address; that of the chat belongs behind the #."""
    stage.deploy(EXAMPLES / "chat" / "page", "--name", "page", "--static", "--url")
    return stage.run("lambent", "url", "page", quiet=True).strip()


def take_all(clients: dict[str, ClientConnection], read: dict[str, list[Any]]) -> None:
    """The next message of everybody who is there."""
    for name, client in clients.items():
        read[name].append(json.loads(client.recv(timeout=30)))


if __name__ == "__main__":
    main()

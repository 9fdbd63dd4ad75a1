"""A REST API with a database: `python examples/notes/run.py`."""

from __future__ import annotations

import secrets
import socket
import sys
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg import sql

sys.path.insert(0, str(Path(__file__).parent.parent))

from stage import EXAMPLES, Stage, open_stage, say

from lambent.testing.components.postgres import Postgres

ROUTES = ("GET /notes", "POST /notes", "GET /notes/{id}", "PUT /notes/{id}", "DELETE /notes/{id}")
ORIGIN = "https://notes.example.com"


def main(folder: Path) -> list[tuple[str, int, Any]]:
    """What was asked, and how it was answered."""
    address = own_address()
    with Database(folder / "postgres", address) as database:
        say("1. A database that functions may reach, and no other address of this network")
        config = f'[network]\nallow_hosts = ["{address}:{database.port}"]\n'
        print(config, flush=True)
        with open_stage(config) as stage:
            say("2. A function, and an HTTP API in front of it")
            url = make_api(stage, database.url)
            print(url, flush=True)
            say("3. Notes are written, read, changed and removed; the database is restarted in between")
            return use(url, database)


def make_api(stage: Stage, database_url: str) -> str:
    options = ("--env", f"DATABASE_URL={database_url}", "--timeout", "10", "--memory", "256")
    function = stage.deploy(EXAMPLES / "notes" / "notes", *options)
    gateway = stage.client("apigatewayv2")
    api = gateway.create_api(
        Name="notes",
        ProtocolType="HTTP",
        CorsConfiguration={"AllowOrigins": [ORIGIN], "AllowMethods": ["*"], "AllowHeaders": ["content-type"]},
    )
    integration = gateway.create_integration(
        ApiId=api["ApiId"], IntegrationType="AWS_PROXY", IntegrationUri=function, PayloadFormatVersion="2.0"
    )["IntegrationId"]
    for key in ROUTES:
        gateway.create_route(ApiId=api["ApiId"], RouteKey=key, Target=f"integrations/{integration}")
    gateway.create_stage(ApiId=api["ApiId"], StageName="$default", AutoDeploy=True)
    # By its path: not every resolver knows *.localhost, as the ApiEndpoint has it.
    return f"{stage.node.endpoint}/_lambent/api/{api['ApiId']}"


def use(url: str, database: Database) -> list[tuple[str, int, Any]]:
    answers: list[tuple[str, int, Any]] = []
    with httpx.Client(base_url=url, timeout=30, headers={"origin": ORIGIN}) as client:

        def ask(method: str, path: str, body: Any = None) -> Any:
            response = client.request(method, path, json=body)
            answers.append((f"{method} {path}", response.status_code, response.json()))
            print(f"{method} {path} -> {response.status_code} {response.text}", flush=True)
            return response.json()

        first = ask("POST", "/notes", {"text": "Ægir's ale; DROP TABLE notes"})["id"]
        second = ask("POST", "/notes", {"text": "bread"})["id"]
        ask("PUT", f"/notes/{second}", {"text": "bread", "done": True})
        database.restart()
        ask("GET", "/notes")
        ask("GET", "/notes?done=true")
        ask("DELETE", f"/notes/{first}")
        ask("GET", f"/notes/{first}")
        ask("POST", "/notes", {"text": ""})
        ask("PATCH", f"/notes/{second}")
    return answers


def own_address() -> str:
    """An address of this machine that is not loopback, which every environment has for itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Nothing is sent: it asks for the route.
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


class Database:
    """PostgreSQL with one user, who owns one database."""

    def __init__(self, folder: Path, address: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._component = Postgres(folder, addresses=("127.0.0.1", address))
        self.port = self._component.port
        self._password = secrets.token_urlsafe(24)
        self.url = f"postgresql://notes:{self._password}@{address}:{self.port}/notes"

    def restart(self) -> None:
        self._component.stop()
        self._component.start()

    def __enter__(self) -> Database:
        self._component.start()
        with psycopg.connect(self._component.url, autocommit=True) as connection:
            password = sql.Literal(self._password)
            connection.execute(sql.SQL("CREATE ROLE notes LOGIN PASSWORD {}").format(password))
            connection.execute("CREATE DATABASE notes OWNER notes")
        return self

    def __exit__(self, *_: object) -> None:
        self._component.stop()


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory(prefix="lambent-notes-") as name:
        main(Path(name))

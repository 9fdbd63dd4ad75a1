"""A sign-up is a row in a database, and a letter follows: `python examples/sign_up/run.py`."""

from __future__ import annotations

import email
import email.policy
import socket
import sys
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg
from aiosmtpd.controller import Controller

sys.path.insert(0, str(Path(__file__).parent.parent))

from stage import EXAMPLES, open_stage, say, wait_for  # noqa: E402

from lambent.testing.components.postgres import Postgres  # noqa: E402

PEOPLE = [("Ada", "ada@example.org"), ("Grace", "grace@example.org"), ("Ægir", "aegir@example.org")]


def main(folder: Path) -> list[EmailMessage]:
    """The letters that a mail server received."""
    with Database(folder / "postgres") as database, MailServer() as server:
        say("1. A shop's database and a mail server; a node that knows both")
        config = (
            f'[connections.shop]\nkind = "postgres"\nurl = "{database.url}"\n\n'
            f'[mail]\nrelay = "smtp://127.0.0.1:{server.port}"\n'
        )
        print(config, flush=True)
        database.execute("CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL, email text NOT NULL)")
        with open_stage(config) as stage:
            say("2. A function that welcomes, and what triggers it: rows inserted into `users`")
            function = stage.deploy(EXAMPLES / "sign_up" / "welcome", "--env", "SENDER=shop@example.com")
            account = function.split(":")[4]
            functions = stage.client("lambda")
            mapping = functions.create_event_source_mapping(
                FunctionName="welcome",
                EventSourceArn=f"arn:aws:postgres:us-east-1:{account}:shop",
                Queues=["public.users"],
                StartingPosition="LATEST",
                FilterCriteria={"Filters": [{"Pattern": '{"eventName": ["INSERT"]}'}]},
            )

            def enabled() -> bool | None:
                return functions.get_event_source_mapping(UUID=mapping["UUID"])["State"] == "Enabled" or None

            wait_for(enabled, "the mapping")
            say("3. Three people sign up, one of them changes their name")
            for name, address in PEOPLE:
                database.execute("INSERT INTO users (name, email) VALUES (%s, %s)", name, address)
            database.execute("UPDATE users SET name = 'Ada L.' WHERE name = 'Ada'")
            letters = wait_for(lambda: server.take(len(PEOPLE)), "the letters")
            functions.delete_event_source_mapping(UUID=mapping["UUID"])
        for letter in letters:
            print(f"to {letter['to']}: {letter['subject']}", flush=True)
        return letters


class Database:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._component = Postgres(folder)
        self.url = self._component.url

    def execute(self, statement: str, *values: Any) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement, values or None)  # type: ignore[call-overload]

    def __enter__(self) -> Database:
        self._component.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._component.stop()


class MailServer:
    """A real one: it speaks SMTP and keeps what it takes."""

    def __init__(self) -> None:
        self._letters: list[EmailMessage] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self._letters.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"

    def take(self, count: int) -> list[EmailMessage] | None:
        return list(self._letters) if len(self._letters) >= count else None

    def __enter__(self) -> MailServer:
        self._controller.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._controller.stop()


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory(prefix="lambent-sign-up-") as name:
        main(Path(name))

"""Connections of WebSocket APIs, by their ids."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lambent.frontdoor.web_sockets import connections as module
from lambent.frontdoor.web_sockets.connections import Command, Connection, Connections, Known
from lambent.model.errors import CallerError


class Client:
    """Takes what is sent to it, until it does not."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.reads.set()
        self.taken: list[dict[str, Any]] = []
        self.aborted = False

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        self.taken.append(message)

    def abort(self) -> None:
        self.aborted = True


def open_connection(connections: Connections, client: Client) -> Connection:
    connection = Connection(
        connections.make_id(), "api", "live", client.send, source_ip="192.0.2.1", user_agent="", abort=client.abort
    )
    connection.is_open = True
    connections.add(connection)
    return connection


def command(kind: str, id_: str, *, stage: str = "live", data: bytes = b"") -> Command:
    return Command(kind=kind, id=id_, api_id="api", stage=stage, data=data)


async def test_a_message_reaches_the_connection_of_its_id_as_text_or_bytes() -> None:
    connections, client = Connections(), Client()
    connection = open_connection(connections, client)
    await connections.carry_out(command("post", connection.id, data="ä".encode()))
    await connections.carry_out(command("post", connection.id, data=b"\xff"))
    assert client.taken == [{"type": "websocket.send", "text": "ä"}, {"type": "websocket.send", "bytes": b"\xff"}]


@pytest.mark.parametrize("kind", ["post", "get", "delete"])
async def test_a_connection_of_another_stage_or_one_that_left_is_gone(kind: str) -> None:
    connections = Connections()
    connection = open_connection(connections, Client())
    with pytest.raises(CallerError) as gone:
        await connections.carry_out(command(kind, connection.id, stage="other"))
    assert (gone.value.code, gone.value.status) == ("GoneException", 410)
    connections.remove(connection)
    for id_ in (connection.id, "", "x", "ä", "AAAA"):
        with pytest.raises(CallerError):
            await connections.carry_out(command(kind, id_))


async def test_a_client_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEND_S", 0.01)
    connections, client = Connections(), Client()
    connection = open_connection(connections, client)
    client.reads.clear()
    with pytest.raises(CallerError) as gone:
        await connections.carry_out(command("post", connection.id, data=b"x"))
    assert gone.value.code == "GoneException"
    assert client.aborted
    with pytest.raises(CallerError):
        await connections.carry_out(command("post", connection.id, data=b"x"))


async def test_a_connection_is_closed_politely_and_at_once_when_it_does_not_listen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SEND_S", 0.01)
    connections, client = Connections(), Client()
    connection = open_connection(connections, client)
    await connections.carry_out(command("delete", connection.id))
    assert client.taken == [{"type": "websocket.close", "code": 1000, "reason": ""}]
    assert not client.aborted
    other = open_connection(connections, client)
    client.reads.clear()
    await connections.carry_out(command("delete", other.id))
    assert client.aborted


async def test_a_connection_of_another_process_is_asked_there() -> None:
    asked: list[tuple[int, Command]] = []

    async def forward(member: int, given: Command) -> Known | None:
        asked.append((member, given))
        return None

    here, there = Connections(0, forward), Connections(1, forward)
    id_ = there.make_id()
    await here.carry_out(command("post", id_, data=b"x"))
    assert [member for member, _ in asked] == [1]
    assert len(id_) == 16

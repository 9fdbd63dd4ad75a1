"""Accepted events, their attempts and their settings on disk: plain functions within a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from lambent.events import outbox
from lambent.events.async_invoke.model import ENDED, NEXT, Event, Settings, State, Verdict
from lambent.model.function import LATEST
from lambent.substrate.ports import Connection, Schema

BOX = "async_invoke"
SCHEMA = Schema(
    name="async_invoke",
    versions=(
        """
        CREATE TABLE async_events (
            id INTEGER PRIMARY KEY,
            account TEXT NOT NULL, region TEXT NOT NULL, function TEXT NOT NULL, qualifier TEXT NOT NULL,
            request_id TEXT NOT NULL, payload BLOB NOT NULL, trace_id TEXT NOT NULL, client_context TEXT NOT NULL,
            accepted_at REAL NOT NULL, due_at REAL NOT NULL, state TEXT NOT NULL DEFAULT 'waiting',
            attempts INTEGER NOT NULL DEFAULT 0, errors INTEGER NOT NULL DEFAULT 0,
            backoffs INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '', ended_at REAL
        ) STRICT;
        CREATE INDEX async_events_due ON async_events (account, function, due_at, id) WHERE state = 'waiting';
        CREATE INDEX async_events_running ON async_events (id) WHERE state = 'running';
        CREATE INDEX async_events_ended ON async_events (ended_at) WHERE state IN ('done', 'failed');
        CREATE INDEX async_events_dead ON async_events (account, id) WHERE state = 'dead';
        CREATE INDEX async_events_by_request ON async_events (request_id);
        CREATE TABLE async_attempts (
            event INTEGER NOT NULL, number INTEGER NOT NULL, started_at REAL NOT NULL, ended_at REAL,
            outcome TEXT NOT NULL DEFAULT '', PRIMARY KEY (event, number)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE async_settings (
            account TEXT NOT NULL, function TEXT NOT NULL, qualifier TEXT NOT NULL, record BLOB NOT NULL,
            PRIMARY KEY (account, function, qualifier)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE async_recursion (
            account TEXT NOT NULL, function TEXT NOT NULL, mode TEXT NOT NULL, PRIMARY KEY (account, function)
        ) STRICT, WITHOUT ROWID;
        """,
    ),
)
_COLUMNS = (
    "id, account, region, function, qualifier, request_id, payload, trace_id, client_context, accepted_at, "
    "attempts, errors, backoffs"
)
_FIELDS = tuple(name.strip() for name in _COLUMNS.split(","))
_INSERT = (
    "INSERT INTO async_events (account, region, function, qualifier, request_id, payload, trace_id, client_context, "
    "accepted_at, due_at, attempts, errors) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SHOWN = "id, function, qualifier, request_id, state, accepted_at, due_at, attempts, errors, error, ended_at"

Lane = tuple[str, str]
"""Account and function: what takes turns."""


class Claimed(NamedTuple):
    event: Event
    settings: Settings
    is_too_old: bool
    allows_recursion: bool


class Parcel(NamedTuple):
    """What goes to a destination with the end of an event: `body` is an encoded delivery."""

    target: str
    body: bytes


class Filter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events of an account; empty members choose all."""

    ids: tuple[str, ...] = ()
    """Request ids."""
    function: str = ""
    state: str = ""
    since: float = 0.0
    """Seconds since 1970, of acceptance."""
    error: str = ""
    """Part of the last error."""


def accept(connection: Connection, event: Event, due_at: float) -> None:
    connection.execute(
        _INSERT,
        (
            event.account,
            event.region,
            event.function,
            event.qualifier,
            event.request_id,
            event.payload,
            event.trace_id,
            event.client_context,
            event.accepted_at,
            due_at,
            event.attempts,
            event.errors,
        ),
    )


def recover(connection: Connection, now: float) -> int:
    """At start: what the last end of the node interrupted is due again. Returns how many."""
    connection.execute(
        "UPDATE async_attempts SET outcome = ?, ended_at = ? WHERE outcome = '' AND event IN "
        "(SELECT id FROM async_events WHERE state = 'running')",
        (Verdict.INTERRUPTED, now),
    )
    after = NEXT[State.RUNNING, Verdict.INTERRUPTED]
    connection.execute("UPDATE async_events SET state = ?, due_at = ? WHERE state = 'running'", (after, now))
    return connection.changes()


def read_lanes(connection: Connection) -> list[Lane]:
    """Those with something waiting, by one seek of the index for each, however long their backlogs."""
    lanes: list[Lane] = []
    query = (
        "SELECT account, function FROM async_events INDEXED BY async_events_due WHERE state = 'waiting' "
        "AND (account, function) > (?, ?) ORDER BY account, function LIMIT 1"
    )
    found = connection.execute(query, ("", "")).get
    while found is not None:
        lanes.append(found)
        found = connection.execute(query, found).get
    return lanes


def next_due(connection: Connection, lane: Lane) -> float | None:
    query = (
        "SELECT due_at FROM async_events WHERE state = 'waiting' AND account = ? AND function = ? "
        "ORDER BY due_at LIMIT 1"
    )
    due_at: float | None = connection.execute(query, lane).get
    return due_at


def bring_back(connection: Connection, lane: Lane, *, after: float, now: float, limit: int) -> None:
    """Some of what is due later than `after` is due now, and was accepted no later."""
    query = (
        "UPDATE async_events SET due_at = ?, accepted_at = min(accepted_at, ?) WHERE id IN ("
        "SELECT id FROM async_events "
        "WHERE state = 'waiting' AND account = ? AND function = ? AND due_at > ? ORDER BY due_at, id LIMIT ?)"
    )
    connection.execute(query, (now, now, *lane, after, limit))


def claim(connection: Connection, lane: Lane, now: float, limit: int) -> list[Claimed]:
    """The events that are due first become `running`; their attempts are counted before they start."""
    query = (
        f"SELECT {_COLUMNS} FROM async_events WHERE state = 'waiting' AND account = ? AND function = ? "  # noqa: S608
        "AND due_at <= ? ORDER BY due_at, id LIMIT ?"
    )
    claimed = []
    for row in list(connection.execute(query, (*lane, now, limit))):
        event = Event(**dict(zip(_FIELDS, row, strict=True)))
        settings = get_settings(connection, *lane, event.qualifier) or Settings()
        is_too_old = now > event.accepted_at + settings.age_s
        if not is_too_old:
            event = msgspec.structs.replace(event, attempts=event.attempts + 1)
            connection.execute(
                "INSERT OR REPLACE INTO async_attempts (event, number, started_at) VALUES (?, ?, ?)",
                (event.id, event.attempts, now),
            )
        connection.execute(
            "UPDATE async_events SET state = ?, attempts = ? WHERE id = ?", (State.RUNNING, event.attempts, event.id)
        )
        claimed.append(Claimed(event, settings, is_too_old, get_recursion(connection, *lane) == "Allow"))
    return claimed


def try_again(connection: Connection, event: Event, error: str, *, now: float, due_at: float) -> None:
    """`event` has its errors and backoffs already counted."""
    connection.execute(
        "UPDATE async_events SET state = ?, due_at = ?, errors = ?, backoffs = ?, error = ? WHERE id = ?",
        (NEXT[State.RUNNING, Verdict.AGAIN], due_at, event.errors, event.backoffs, error, event.id),
    )
    _end_attempt(connection, event, error, now)


def end(
    connection: Connection, event: Event, verdict: Verdict, error: str, *, parcels: Sequence[Parcel], now: float
) -> None:
    """The end of an event and what its destinations get of it: both or neither."""
    connection.execute(
        "UPDATE async_events SET state = ?, errors = ?, error = ?, ended_at = ? WHERE id = ?",
        (NEXT[State.RUNNING, verdict], event.errors, error, now, event.id),
    )
    _end_attempt(connection, event, error or verdict, now)
    for parcel in parcels:
        outbox.put(connection, BOX, parcel.target, parcel.body, now=now)


def mark_undelivered(connection: Connection, event: int, reason: str) -> None:
    """No destination took the record of a failed event: it stays here."""
    connection.execute(
        "UPDATE async_events SET state = ?, error = ? WHERE id = ? AND state = ?",
        (NEXT[State.FAILED, Verdict.UNDELIVERED], reason, event, State.FAILED),
    )


def forget_ended(connection: Connection, *, before: float, keep: int, limit: int = 1_000) -> int:
    """Events that ended before, and the oldest of more than `keep`; dead ones stay. Returns how many went."""
    ended = "SELECT id FROM async_events INDEXED BY async_events_ended WHERE state IN ('done', 'failed')"
    old = [row[0] for row in connection.execute(f"{ended} AND ended_at < ? LIMIT ?", (before, limit))]
    if not old:
        surplus = f"{ended} ORDER BY ended_at DESC LIMIT ? OFFSET ?"
        old = [row[0] for row in connection.execute(surplus, (limit, keep))]
    _delete(connection, old)
    return len(old)


def redrive(
    connection: Connection, account: str, chosen: Filter, *, to: str | None, now: float, after: int, limit: int
) -> list[tuple[int, str]]:
    """Ended events become due as if accepted now, at another qualifier when given. Returns ids and functions."""
    states = ENDED if chosen.ids or chosen.state else (State.DEAD, State.FAILED)
    rows = _choose(connection, account, chosen, states, limit, after=after)
    for identity, _ in rows:
        connection.execute(
            "UPDATE async_events SET state = ?, accepted_at = ?, due_at = ?, errors = 0, backoffs = 0, "
            "ended_at = NULL, qualifier = coalesce(?, qualifier) WHERE id = ?",
            (NEXT[State.DEAD, Verdict.REDRIVEN], now, now, to, identity),
        )
    return rows


def drop(connection: Connection, account: str, chosen: Filter, limit: int) -> int:
    """All but those that run; without a state or ids, dead ones alone."""
    states = (*ENDED, State.WAITING) if chosen.ids or chosen.state else (State.DEAD,)
    rows = _choose(connection, account, chosen, states, limit)
    _delete(connection, [identity for identity, _ in rows])
    return len(rows)


def list_events(connection: Connection, account: str, chosen: Filter, *, limit: int) -> list[dict[str, Any]]:
    """The newest first."""
    where, values = _where(account, chosen, tuple(State))
    query = f"SELECT {_SHOWN} FROM async_events WHERE {where} ORDER BY id DESC LIMIT ?"  # noqa: S608
    return [_show(row) for row in connection.execute(query, (*values, limit))]


def show_event(connection: Connection, account: str, request_id: str) -> dict[str, Any] | None:
    """With its payload and its attempts."""
    query = f"SELECT {_SHOWN}, payload FROM async_events WHERE request_id = ? AND account = ?"  # noqa: S608
    for row in list(connection.execute(query, (request_id, account))):
        attempts = connection.execute(
            "SELECT number, started_at, ended_at, outcome FROM async_attempts WHERE event = ? ORDER BY number",
            (row[0],),
        )
        names = ("number", "started_at", "ended_at", "outcome")
        history = [dict(zip(names, attempt, strict=True)) for attempt in attempts]
        return {**_show(row[:-1]), "payload": msgspec.Raw(row[-1]), "history": history}
    return None


def get_settings(connection: Connection, account: str, function: str, qualifier: str) -> Settings | None:
    query = "SELECT record FROM async_settings WHERE account = ? AND function = ? AND qualifier = ?"
    found = connection.execute(query, (account, function, qualifier or LATEST)).get
    return msgspec.msgpack.decode(found, type=Settings) if found is not None else None


def put_settings(connection: Connection, account: str, function: str, qualifier: str, settings: Settings) -> None:
    values = (account, function, qualifier or LATEST, msgspec.msgpack.encode(settings))
    connection.execute("INSERT OR REPLACE INTO async_settings VALUES (?, ?, ?, ?)", values)


def delete_settings(connection: Connection, account: str, function: str, qualifier: str) -> bool:
    connection.execute(
        "DELETE FROM async_settings WHERE account = ? AND function = ? AND qualifier = ?",
        (account, function, qualifier or LATEST),
    )
    return connection.changes() > 0


def list_settings(connection: Connection, account: str, function: str) -> list[tuple[str, Settings]]:
    query = "SELECT qualifier, record FROM async_settings WHERE account = ? AND function = ? ORDER BY qualifier"
    rows = connection.execute(query, (account, function))
    return [(qualifier, msgspec.msgpack.decode(record, type=Settings)) for qualifier, record in rows]


def get_recursion(connection: Connection, account: str, function: str) -> str:
    query = "SELECT mode FROM async_recursion WHERE account = ? AND function = ?"
    return connection.execute(query, (account, function)).get or "Terminate"


def put_recursion(connection: Connection, account: str, function: str, mode: str) -> None:
    connection.execute("INSERT OR REPLACE INTO async_recursion VALUES (?, ?, ?)", (account, function, mode))


def _end_attempt(connection: Connection, event: Event, outcome: str, now: float) -> None:
    connection.execute(
        "UPDATE async_attempts SET ended_at = ?, outcome = ? WHERE event = ? AND number = ? AND outcome = ''",
        (now, outcome, event.id, event.attempts),
    )


def _choose(
    connection: Connection, account: str, chosen: Filter, states: Iterable[State], limit: int, *, after: int = 0
) -> list[tuple[int, str]]:
    where, values = _where(account, chosen, tuple(states))
    query = f"SELECT id, function FROM async_events WHERE {where} AND id > ? ORDER BY id LIMIT ?"  # noqa: S608
    return [(row[0], row[1]) for row in connection.execute(query, (*values, after, limit))]


def _where(account: str, chosen: Filter, states: tuple[State, ...]) -> tuple[str, list[Any]]:
    wanted = [state for state in states if chosen.state in ("", state)]
    clauses = ["account = ?", f"state IN ({', '.join('?' * len(wanted))})", "accepted_at >= ?"]
    values: list[Any] = [account, *wanted, chosen.since]
    if chosen.ids:
        clauses.append(f"request_id IN ({', '.join('?' * len(chosen.ids))})")
        values.extend(chosen.ids)
    if chosen.function:
        clauses.append("function = ?")
        values.append(chosen.function)
    if chosen.error:
        clauses.append("instr(error, ?) > 0")
        values.append(chosen.error)
    return " AND ".join(clauses), values


def _delete(connection: Connection, events: Sequence[int]) -> None:
    rows = [(event,) for event in events]
    connection.executemany("DELETE FROM async_attempts WHERE event = ?", rows)
    connection.executemany("DELETE FROM async_events WHERE id = ?", rows)


def _show(row: tuple[Any, ...]) -> dict[str, Any]:
    names = [name.strip() for name in _SHOWN.split(",")]
    shown = dict(zip(names, row, strict=True))
    del shown["id"]
    return shown

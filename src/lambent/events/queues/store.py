# Messages on disk. Every function takes a connection, so that others may send within transactions of their own.
#
# A message is visible from `visible_at` on. Receiving it moves that into the future and gives it a new receipt, so that
# a receipt is good until the next receive. What is in flight is what was received and is not visible.
#
# A FIFO queue has a row for each of its groups that has messages: `ready_at` is when the group's first message may be
# received, which is when nothing of the group is in flight any more.
#
# Messages lie in a box, which is the column `queue` of their tables. A queue has one box at a time: purging or deleting
# it takes the box away, which is one row, and what lay there is removed in slices (`clear`), whoever writes meanwhile.
# Which box it is has to be asked within the transaction that uses it. When a message expires follows from when it was
# sent and from what the queue says then, so that a change of the retention touches no message.
from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from lambent.events.queues.model import Draft, Message, Queue, Sent, Value
from lambent.model.errors import CallerError
from lambent.model.identifiers import new_request_id
from lambent.substrate.ports import Connection, Schema

DEDUPLICATION_S = 300
SWEEP = 20
"""Expired messages that one operation removes at most: many operations share a commit."""
AHEAD_S = 1.0
"""A message that was sent more than this after now was sent before the clock was set back."""
SLICE = 200
SLICE_S = 0.003
"""How much of what is left over one transaction removes at most, for others wait for it."""
_STEP = 10
SCHEMA = Schema(
    name="queues",
    versions=(
        """
        CREATE TABLE queues (
            id INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, name TEXT NOT NULL, record BLOB NOT NULL,
            sequence INTEGER NOT NULL DEFAULT 0, redrive_target TEXT, UNIQUE (account, name)
        ) STRICT;
        CREATE INDEX queues_by_redrive_target ON queues (redrive_target) WHERE redrive_target IS NOT NULL;
        CREATE TABLE queues_messages (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            queue INTEGER NOT NULL, visible_at REAL NOT NULL, expires_at REAL NOT NULL,
            receipt TEXT NOT NULL DEFAULT '', receives INTEGER NOT NULL DEFAULT 0, first_received_at REAL,
            sent_at REAL NOT NULL, message_id TEXT NOT NULL,
            group_id TEXT NOT NULL, deduplication_id TEXT NOT NULL, sequence_number TEXT NOT NULL,
            dead_letter_source TEXT NOT NULL DEFAULT '', body TEXT NOT NULL, rest BLOB NOT NULL
        ) STRICT;
        CREATE INDEX queues_messages_by_visibility ON queues_messages (queue, visible_at, id);
        CREATE INDEX queues_messages_by_expiry ON queues_messages (queue, expires_at);
        CREATE INDEX queues_messages_by_group ON queues_messages (queue, group_id, id) WHERE group_id <> '';
        CREATE TABLE queues_groups (
            queue INTEGER NOT NULL, group_id TEXT NOT NULL, ready_at REAL NOT NULL, first INTEGER NOT NULL,
            PRIMARY KEY (queue, group_id)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX queues_groups_by_readiness ON queues_groups (queue, ready_at, first);
        CREATE TABLE queues_deduplications (
            queue INTEGER NOT NULL, scope TEXT NOT NULL, deduplication_id TEXT NOT NULL, at REAL NOT NULL,
            message_id TEXT NOT NULL, sequence_number TEXT NOT NULL,
            PRIMARY KEY (queue, scope, deduplication_id)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX queues_deduplications_by_time ON queues_deduplications (queue, at);
        """,
        "CREATE INDEX queues_messages_in_flight ON queues_messages (queue, visible_at) WHERE receipt <> ''",
        """
        ALTER TABLE queues ADD COLUMN box INTEGER NOT NULL DEFAULT 0;
        UPDATE queues SET box = id;
        CREATE TABLE queues_leftovers (box INTEGER PRIMARY KEY, whole INTEGER NOT NULL) STRICT;
        DROP INDEX queues_messages_by_expiry;
        ALTER TABLE queues_messages DROP COLUMN expires_at;
        CREATE INDEX queues_messages_by_age ON queues_messages (queue, sent_at);
        """,
    ),
)

_MESSAGE = """
    id, receipt, receives, first_received_at, sent_at, message_id, group_id, deduplication_id, sequence_number,
    dead_letter_source, body, rest
"""


class Rest(msgspec.Struct, frozen=True, array_like=True):
    """What no query looks at."""

    attributes: dict[str, Value]
    trace_header: str
    sender: str


class Counts(NamedTuple):
    visible: int
    in_flight: int
    delayed: int


def get_queue(connection: Connection, account: str, name: str) -> Queue | None:
    found = connection.execute("SELECT record FROM queues WHERE account = ? AND name = ?", (account, name)).get
    return msgspec.msgpack.decode(found, type=Queue) if found is not None else None


def get_queue_by_arn(connection: Connection, arn: str) -> Queue | None:
    parts = arn.split(":")
    return get_queue(connection, parts[4], parts[5]) if len(parts) == 6 and parts[2] == "sqs" else None


def list_queues(
    connection: Connection, account: str, *, prefix: str = "", after: str = "", limit: int = -1
) -> list[Queue]:
    query = "SELECT record FROM queues WHERE account = ? AND name > ? AND substr(name, 1, ?) = ? ORDER BY name LIMIT ?"
    rows = connection.execute(query, (account, after, len(prefix), prefix, limit))
    return [msgspec.msgpack.decode(record, type=Queue) for (record,) in rows]


def list_sources(connection: Connection, target: Queue, *, after: str = "", limit: int = -1) -> list[Queue]:
    """The queues whose dead letters go to `target`."""
    query = "SELECT record FROM queues WHERE redrive_target = ? AND name > ? ORDER BY name LIMIT ?"
    rows = connection.execute(query, (target.arn, after, limit))
    return [msgspec.msgpack.decode(record, type=Queue) for (record,) in rows]


def create_queue(connection: Connection, queue: Queue) -> Queue:
    connection.execute("INSERT INTO queues (account, name, record) VALUES (?, ?, ?)", (queue.account, queue.name, b""))
    made = msgspec.structs.replace(queue, id=connection.last_insert_rowid())
    # Boxes have numbers that no queue has had, but its own.
    connection.execute("UPDATE queues SET box = id WHERE id = ?", (made.id,))
    put_queue(connection, made)
    return made


def put_queue(connection: Connection, queue: Queue) -> None:
    target = queue.redrive.target if queue.redrive is not None else None
    record = msgspec.msgpack.encode(queue)
    connection.execute("UPDATE queues SET record = ?, redrive_target = ? WHERE id = ?", (record, target, queue.id))


def delete_queue(connection: Connection, queue: Queue) -> None:
    """With its messages, which `clear` removes."""
    for box in {queue.id, get_box(connection, queue)}:
        connection.execute("INSERT OR REPLACE INTO queues_leftovers VALUES (?, 1)", (box,))
    connection.execute("DELETE FROM queues WHERE id = ?", (queue.id,))


def purge(connection: Connection, queue: Queue) -> None:
    """Nothing of what was there is to be seen from now on; `clear` removes it."""
    connection.execute("INSERT INTO queues_leftovers VALUES (?, 0)", (get_box(connection, queue),))
    connection.execute("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'queues'")
    connection.execute(
        "UPDATE queues SET box = (SELECT seq FROM sqlite_sequence WHERE name = 'queues') WHERE id = ?", (queue.id,)
    )


def get_box(connection: Connection, queue: Queue) -> int:
    """Raises CallerError `QueueDoesNotExist`: it was deleted since it was looked up."""
    box: int | None = connection.execute("SELECT box FROM queues WHERE id = ?", (queue.id,)).get
    if box is None:
        raise no_queue()
    return box


def _reload(connection: Connection, queue: Queue) -> tuple[Queue, int]:
    """As it is set now, and its box. Raises CallerError `QueueDoesNotExist`."""
    found = connection.execute("SELECT record, box FROM queues WHERE id = ?", (queue.id,)).get
    if found is None:
        raise no_queue()
    return msgspec.msgpack.decode(found[0], type=Queue), found[1]


def no_queue() -> CallerError:
    return CallerError("QueueDoesNotExist", "The specified queue does not exist.")


def clear(connection: Connection) -> bool:
    """Remove a slice of what purged and deleted queues left over. Whether there may be more."""
    first = connection.execute("SELECT box, whole FROM queues_leftovers ORDER BY box LIMIT 1").get
    if first is None:
        return False
    box, whole = first
    deletions = [
        "DELETE FROM queues_messages WHERE id IN (SELECT id FROM queues_messages WHERE queue = :box LIMIT :step)",
        "DELETE FROM queues_groups WHERE queue = :box AND group_id IN "
        "(SELECT group_id FROM queues_groups WHERE queue = :box LIMIT :step)",
    ]
    if whole:
        deletions.append(
            "DELETE FROM queues_deduplications WHERE queue = :box AND (scope, deduplication_id) IN "
            "(SELECT scope, deduplication_id FROM queues_deduplications WHERE queue = :box LIMIT :step)"
        )
    until, total = time.monotonic() + SLICE_S, 0
    while total < SLICE and time.monotonic() < until:
        removed = 0
        for deletion in deletions:
            connection.execute(deletion, {"box": box, "step": _STEP})
            removed += connection.changes()
        if not removed:
            connection.execute("DELETE FROM queues_leftovers WHERE box = ?", (box,))
            break
        total += removed
    return True


def expire(connection: Connection, queue: Queue, now: float) -> bool:
    """Remove a slice of what is older than the queue keeps it. Whether there may be more."""
    queue, box = _reload(connection, queue)
    until = time.monotonic() + SLICE_S
    for _ in range(SLICE // SWEEP):
        if _sweep(connection, queue, box, now) < SWEEP:
            return False
        if time.monotonic() >= until:
            break
    return True


def count(connection: Connection, queue: Queue, now: float) -> Counts:
    queue, box = _reload(connection, queue)
    query = """
        SELECT count(*) FILTER (WHERE visible_at <= :now),
               count(*) FILTER (WHERE visible_at > :now AND receives > 0 AND receipt <> ''),
               count(*) FILTER (WHERE visible_at > :now AND receipt = '')
        FROM queues_messages WHERE queue = :box AND sent_at > :expired
    """
    bindings = {"box": box, "now": now, "expired": _expired_at(queue, now)}
    for visible, in_flight, delayed in connection.execute(query, bindings):
        return Counts(visible, in_flight, delayed)
    raise AssertionError


def send(connection: Connection, queue: Queue, draft: Draft, now: float) -> Sent:
    """A repeat within five minutes is answered as the first was, and not sent. Ring the queue's bell afterwards."""
    queue, box = _reload(connection, queue)
    scope = draft.group_id if queue.attributes.get("DeduplicationScope") == "messageGroup" else ""
    if queue.is_fifo:
        forgotten_at = now - DEDUPLICATION_S
        _forget_repeats(connection, queue, forgotten_at)
        query = """
            SELECT message_id, sequence_number FROM queues_deduplications
            WHERE queue = ? AND scope = ? AND deduplication_id = ? AND at > ?
        """
        for message_id, number in connection.execute(query, (queue.id, scope, draft.deduplication_id, forgotten_at)):
            return Sent(message_id=message_id, sequence_number=number)
    # Here too, for nobody may ever receive.
    _sweep(connection, queue, box, now)
    sent = Sent(message_id=new_request_id(), sequence_number=_next_number(connection, queue))
    if queue.is_fifo:
        connection.execute(
            "INSERT OR REPLACE INTO queues_deduplications VALUES (?, ?, ?, ?, ?, ?)",
            (queue.id, scope, draft.deduplication_id, now, sent.message_id, sent.sequence_number),
        )
    delay_s = queue.seconds("DelaySeconds") if draft.delay_s is None else draft.delay_s
    rest = Rest(draft.attributes, draft.trace_header, draft.sender)
    connection.execute(
        """
        INSERT INTO queues_messages (queue, visible_at, sent_at, message_id, group_id, deduplication_id,
            sequence_number, body, rest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            box,
            now + delay_s,
            now,
            sent.message_id,
            draft.group_id,
            draft.deduplication_id,
            sent.sequence_number,
            draft.body,
            msgspec.msgpack.encode(rest),
        ),
    )
    if queue.is_fifo:
        _settle_group(connection, box, draft.group_id, now)
    return sent


class Received(NamedTuple):
    messages: list[Message]
    """Now in flight."""
    buried_in: set[int]
    """The ids of queues that those went to that had been received too often: ring their bells."""


def receive(connection: Connection, queue: Queue, *, most: int, visibility_s: float, now: float) -> Received:
    """Raises CallerError `QueueDoesNotExist`."""
    queue, box = _reload(connection, queue)
    _sweep(connection, queue, box, now)
    _bring_back(connection, queue, box, now)
    messages: list[Message] = []
    buried_in: set[int] = set()
    find = _find_in_groups if queue.is_fifo else _find
    rows = find(connection, queue, box, most, now)
    while rows:
        buried = False
        for row in rows:
            if queue.redrive is not None and row[2] >= queue.redrive.most_receives:
                target = get_queue_by_arn(connection, queue.redrive.target)
                if target is not None and target.is_fifo == queue.is_fifo:
                    move(connection, row[0], queue, target, now)
                    buried_in.add(target.id)
                    buried = True
                    continue
            messages.append(_take(connection, queue, row, now, now + visibility_s))
        if not buried or len(messages) >= most:
            break
        # With a visibility timeout of nothing, what was taken is there to be found again.
        taken = {message.message_id for message in messages}
        found = find(connection, queue, box, most, now)
        rows = [row for row in found if row[5] not in taken][: most - len(messages)]
    if queue.is_fifo:
        for group in {message.group_id for message in messages}:
            _settle_group(connection, box, group, now)
    return Received(messages, buried_in)


def next_due_at(connection: Connection, queue: Queue, now: float) -> float | None:
    """When something will be to receive by itself, that is not now."""
    table, column = ("queues_groups", "ready_at") if queue.is_fifo else ("queues_messages", "visible_at")
    query = f"SELECT min({column}) FROM {table} WHERE queue = ? AND {column} > ?"  # noqa: S608 - of two pairs of names
    found: float | None = connection.execute(query, (get_box(connection, queue), now)).get
    return found


def has_ready(connection: Connection, queue: Queue, now: float) -> bool:
    queue, box = _reload(connection, queue)
    if queue.is_fifo:
        # A group may have expired messages alone; receiving shows.
        query = "SELECT 1 FROM queues_groups WHERE queue = ? AND ready_at <= ? LIMIT 1"
        found = connection.execute(query, (box, now)).get is not None
    else:
        found = bool(_find(connection, queue, box, 1, now))
    ahead = "SELECT 1 FROM queues_messages WHERE queue = ? AND sent_at > ? LIMIT 1"
    return found or connection.execute(ahead, (box, now + AHEAD_S)).get is not None


def has_expired(connection: Connection, queue: Queue, now: float) -> bool:
    query = "SELECT 1 FROM queues_messages WHERE queue = ? AND sent_at <= ? LIMIT 1"
    queue, box = _reload(connection, queue)
    return connection.execute(query, (box, _expired_at(queue, now))).get is not None


def count_in_flight(connection: Connection, queue: Queue, now: float, limit: int) -> int:
    """Up to `limit`."""
    query = """
        SELECT count(*) FROM (
            SELECT 1 FROM queues_messages WHERE queue = ? AND visible_at > ? AND receipt <> '' LIMIT ?
        )
    """
    found: int = connection.execute(query, (get_box(connection, queue), now, limit)).get
    return found


def delete(connection: Connection, queue: Queue, receipt: str, now: float) -> bool:
    """False for a receipt that is no longer good: the message was received again since, or is gone."""
    number, box = read_receipt(queue, receipt), get_box(connection, queue)
    query = "SELECT group_id FROM queues_messages WHERE id = ? AND queue = ? AND receipt = ?"
    group = connection.execute(query, (number, box, receipt)).get
    if group is None:
        return False
    connection.execute("DELETE FROM queues_messages WHERE id = ?", (number,))
    if queue.is_fifo:
        _settle_group(connection, box, group, now)
    return True


def change_visibility(connection: Connection, queue: Queue, receipt: str, timeout_s: float, now: float) -> bool:
    """False when the message is not in flight by this receipt."""
    number, box = read_receipt(queue, receipt), get_box(connection, queue)
    query = "SELECT group_id FROM queues_messages WHERE id = ? AND queue = ? AND receipt = ? AND visible_at > ?"
    group = connection.execute(query, (number, box, receipt, now)).get
    if group is None:
        return False
    connection.execute("UPDATE queues_messages SET visible_at = ? WHERE id = ?", (now + timeout_s, number))
    if queue.is_fifo:
        _settle_group(connection, box, group, now)
    return True


def move(connection: Connection, number: int, queue: Queue, target: Queue, now: float) -> None:
    """A message to another queue, where it was never received. In a standard queue its age goes along."""
    target, box = _reload(connection, target)
    boxes = (get_box(connection, queue), box)
    _sweep(connection, target, box, now)
    sent_at = connection.execute("SELECT sent_at FROM queues_messages WHERE id = ?", (number,)).get
    if target.is_fifo:
        sent_at = now
    changed: dict[str, Any] = {
        "queue": box,
        "visible_at": now,
        "receipt": "",
        "receives": 0,
        "first_received_at": None,
        "dead_letter_source": queue.arn,
        "sequence_number": _next_number(connection, target),
        "sent_at": sent_at,
    }
    group = connection.execute("SELECT group_id FROM queues_messages WHERE id = ?", (number,)).get
    columns = ", ".join(f"{name} = :{name}" for name in changed)
    # A new number puts it behind what the target has already.
    query = f"UPDATE queues_messages SET {columns}, id = :new WHERE id = :number"  # noqa: S608 - names of this function
    connection.execute(query, {**changed, "number": number, "new": _new_number(connection)})
    if queue.is_fifo or target.is_fifo:
        for one in boxes:
            _settle_group(connection, one, group, now)


def find_visible(connection: Connection, queue: Queue, most: int, now: float) -> list[int]:
    """Numbers of messages that could be received, the oldest first."""
    queue, box = _reload(connection, queue)
    return [row[0] for row in _find(connection, queue, box, most, now)]


def peek(connection: Connection, queue: Queue, most: int) -> list[Message]:
    """The oldest messages as they lie there; nothing is changed."""
    box = get_box(connection, queue)
    query = f"SELECT {_MESSAGE} FROM queues_messages WHERE queue = ? ORDER BY id LIMIT ?"  # noqa: S608 - a constant
    return [_read(row, row[1], row[2], row[3] or 0.0) for row in connection.execute(query, (box, most))]


def read_receipt(queue: Queue, receipt: str) -> int:
    """The number of the message. Raises ValueError for what is no receipt of the queue."""
    queue_id, number, _ = receipt.split("-")
    if int(queue_id, 16) != queue.id:
        raise ValueError("a receipt of another queue")
    return int(number, 16)


def _find(connection: Connection, queue: Queue, box: int, most: int, now: float) -> Sequence[tuple[Any, ...]]:
    # Nothing is visible before it was sent: the lower bound passes over what expired without reading it.
    query = f"""
        SELECT {_MESSAGE} FROM queues_messages
        WHERE queue = :box AND visible_at <= :now AND visible_at > :expired AND +sent_at > :expired
        ORDER BY visible_at, id LIMIT :most
    """  # noqa: S608 - a constant
    return list(connection.execute(query, {"box": box, "now": now, "expired": _expired_at(queue, now), "most": most}))


def _find_in_groups(connection: Connection, queue: Queue, box: int, most: int, now: float) -> Sequence[tuple[Any, ...]]:
    """From as many groups as it takes, of each in order and without a gap.

    Looks no further into a group than a slice: of what has not expired there may be more when `has_expired`.
    """
    query = "SELECT group_id FROM queues_groups WHERE queue = ? AND ready_at <= ? ORDER BY ready_at, first LIMIT ?"
    groups = [group for (group,) in connection.execute(query, (box, now, most))]
    rows: list[tuple[Any, ...]] = []
    within = f"""
        SELECT {_MESSAGE}, visible_at FROM queues_messages
        WHERE queue = ? AND group_id = ? AND group_id <> '' ORDER BY id LIMIT ?
    """  # noqa: S608 - a constant
    for group in groups:
        for row in connection.execute(within, (box, group, most + SWEEP)):
            if row[4] <= _expired_at(queue, now):
                continue
            if row[-1] > now or len(rows) >= most:
                break
            rows.append(row[:-1])
        if len(rows) >= most:
            break
    return rows


def _take(connection: Connection, queue: Queue, row: tuple[Any, ...], now: float, visible_at: float) -> Message:
    number, first = row[0], row[3] if row[3] is not None else now
    receipt = f"{queue.id:x}-{number:x}-{secrets.token_hex(16)}"
    connection.execute(
        "UPDATE queues_messages SET visible_at = ?, receipt = ?, receives = receives + 1, first_received_at = ? "
        "WHERE id = ?",
        (visible_at, receipt, first, number),
    )
    return _read(row, receipt, row[2] + 1, first)


def _read(row: tuple[Any, ...], receipt: str, receives: int, first_received_at: float) -> Message:
    rest = msgspec.msgpack.decode(row[11], type=Rest)
    return Message(
        message_id=row[5],
        receipt=receipt,
        body=row[10],
        attributes=rest.attributes,
        trace_header=rest.trace_header,
        sender=rest.sender,
        sent_at=row[4],
        first_received_at=first_received_at,
        receives=receives,
        group_id=row[6],
        deduplication_id=row[7],
        sequence_number=row[8],
        dead_letter_source=row[9],
    )


def _settle_group(connection: Connection, box: int, group: str, now: float) -> None:
    where = (box, group)
    first = connection.execute(
        # Without the last condition SQLite does not see that the index by group serves, which is partial.
        "SELECT id, visible_at FROM queues_messages WHERE queue = ? AND group_id = ? AND group_id <> '' "
        "ORDER BY id LIMIT 1",
        where,
    )
    head = next(iter(first), None)
    if head is None:
        connection.execute("DELETE FROM queues_groups WHERE queue = ? AND group_id = ?", where)
        return
    in_flight = connection.execute(
        "SELECT max(visible_at) FROM queues_messages "
        "WHERE queue = ? AND group_id = ? AND receipt <> '' AND visible_at > ?",
        (*where, now),
    ).get
    ready_at = max(head[1], in_flight if in_flight is not None else head[1])
    connection.execute("INSERT OR REPLACE INTO queues_groups VALUES (?, ?, ?, ?)", (*where, ready_at, head[0]))


def _sweep(connection: Connection, queue: Queue, box: int, now: float) -> int:
    """Some of what is older than the queue keeps it; how many it were."""
    query = "SELECT id, group_id FROM queues_messages WHERE queue = ? AND sent_at <= ? ORDER BY sent_at LIMIT ?"
    expired = list(connection.execute(query, (box, _expired_at(queue, now), SWEEP)))
    for number, _ in expired:
        connection.execute("DELETE FROM queues_messages WHERE id = ?", (number,))
    if queue.is_fifo:
        for group in {group for _, group in expired}:
            _settle_group(connection, box, group, now)
    return len(expired)


def _forget_repeats(connection: Connection, queue: Queue, until: float) -> None:
    query = "SELECT queue, scope, deduplication_id FROM queues_deduplications WHERE queue = ? AND at <= ? LIMIT ?"
    delete = "DELETE FROM queues_deduplications WHERE queue = ? AND scope = ? AND deduplication_id = ?"
    for key in list(connection.execute(query, (queue.id, until, SWEEP))):
        connection.execute(delete, key)


def _bring_back(connection: Connection, queue: Queue, box: int, now: float) -> None:
    """Some of what was sent before the clock was set back counts as sent now, and stays hidden as long."""
    query = "SELECT id, group_id, sent_at FROM queues_messages WHERE queue = ? AND sent_at > ? ORDER BY sent_at LIMIT ?"
    ahead = list(connection.execute(query, (box, now + AHEAD_S, SWEEP)))
    for number, _, sent_at in ahead:
        connection.execute(
            "UPDATE queues_messages SET sent_at = ?, visible_at = max(?, visible_at - ?) WHERE id = ?",
            (now, now, sent_at - now, number),
        )
    if queue.is_fifo:
        for group in {group for _, group, _ in ahead}:
            _settle_group(connection, box, group, now)


def _expired_at(queue: Queue, now: float) -> float:
    """What was sent then or before is not kept any more."""
    return now - queue.seconds("MessageRetentionPeriod")


def _next_number(connection: Connection, queue: Queue) -> str:
    if not queue.is_fifo:
        return ""
    connection.execute("UPDATE queues SET sequence = sequence + 1 WHERE id = ?", (queue.id,))
    number = connection.execute("SELECT sequence FROM queues WHERE id = ?", (queue.id,)).get
    return f"{number:020d}"


def _new_number(connection: Connection) -> int:
    """As a message that is sent now would have."""
    query = "UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'queues_messages'"
    connection.execute(query)
    found: int = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'queues_messages'").get
    return found


def get_origin(connection: Connection, number: int) -> str:
    """The ARN of the queue that a dead letter came from; empty for what is none."""
    found = connection.execute("SELECT dead_letter_source FROM queues_messages WHERE id = ?", (number,)).get
    return found or ""

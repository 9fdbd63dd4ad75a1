"""Topics, subscriptions and what is on its way from one to the other, on disk.

A message is durable when it lies in the outbox of every subscription that takes it, all in the transaction of Publish.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from lambent.events import outbox
from lambent.events.topics.model import Message, Subscription, Topic
from lambent.substrate.ports import Connection, Schema

BOX = "topics"
DEDUPLICATION_S = 300
"""Developer guide, "Message deduplication for FIFO topics"."""
SCHEMA = Schema(
    name="topics",
    versions=(
        """
        CREATE TABLE topics (
            account TEXT NOT NULL, arn TEXT NOT NULL, record BLOB NOT NULL, sequence INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (account, arn)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE topics_subscriptions (
            account TEXT NOT NULL, arn TEXT NOT NULL, topic TEXT NOT NULL, record BLOB NOT NULL,
            PRIMARY KEY (account, arn)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX topics_subscriptions_by_topic ON topics_subscriptions (topic, arn);
        CREATE TABLE topics_published (
            topic TEXT NOT NULL, deduplication_id TEXT NOT NULL, at REAL NOT NULL,
            message_id TEXT NOT NULL, sequence_number TEXT NOT NULL,
            PRIMARY KEY (topic, deduplication_id)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX topics_published_by_time ON topics_published (at);
        """,
    ),
)

Takes = Callable[[Subscription, Message], bool]


def get_topic(connection: Connection, account: str, arn: str) -> Topic | None:
    found = connection.execute("SELECT record FROM topics WHERE account = ? AND arn = ?", (account, arn)).get
    return msgspec.msgpack.decode(found, type=Topic) if found is not None else None


def put_topic(connection: Connection, topic: Topic) -> None:
    connection.execute(
        "INSERT INTO topics (account, arn, record) VALUES (?, ?, ?) "
        "ON CONFLICT (account, arn) DO UPDATE SET record = excluded.record",
        (topic.account, topic.arn, msgspec.msgpack.encode(topic)),
    )


def delete_topic(connection: Connection, account: str, arn: str) -> None:
    """With its subscriptions and what was on its way to them."""
    for subscription in list_subscriptions(connection, account, topic=arn):
        delete_subscription(connection, subscription)
    connection.execute("DELETE FROM topics WHERE account = ? AND arn = ?", (account, arn))
    connection.execute("DELETE FROM topics_published WHERE topic = ?", (arn,))


def list_topics(connection: Connection, account: str, *, after: str = "", limit: int = -1) -> list[Topic]:
    query = "SELECT record FROM topics WHERE account = ? AND arn > ? ORDER BY arn LIMIT ?"
    rows = connection.execute(query, (account, after, limit))
    return [msgspec.msgpack.decode(record, type=Topic) for (record,) in rows]


def get_subscription(connection: Connection, account: str, arn: str) -> Subscription | None:
    query = "SELECT record FROM topics_subscriptions WHERE account = ? AND arn = ?"
    found = connection.execute(query, (account, arn)).get
    return msgspec.msgpack.decode(found, type=Subscription) if found is not None else None


def put_subscription(connection: Connection, subscription: Subscription) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO topics_subscriptions (account, arn, topic, record) VALUES (?, ?, ?, ?)",
        (subscription.account, subscription.arn, subscription.topic, msgspec.msgpack.encode(subscription)),
    )


def delete_subscription(connection: Connection, subscription: Subscription) -> None:
    connection.execute(
        "DELETE FROM topics_subscriptions WHERE account = ? AND arn = ?", (subscription.account, subscription.arn)
    )
    outbox.drop_lanes(connection, BOX, subscription.arn)


def list_subscriptions(
    connection: Connection, account: str, *, topic: str = "", after: str = "", limit: int = -1
) -> list[Subscription]:
    """Of a topic, or of all of the account's."""
    chosen = "topic = :topic AND account = :account" if topic else "account = :account"
    query = f"SELECT record FROM topics_subscriptions WHERE {chosen} AND arn > :after ORDER BY arn LIMIT :limit"  # noqa: S608
    values = {"topic": topic, "account": account, "after": after, "limit": limit}
    rows = connection.execute(query, {key: value for key, value in values.items() if f":{key}" in query})
    return [msgspec.msgpack.decode(record, type=Subscription) for (record,) in rows]


def publish(connection: Connection, topic: Topic, message: Message, takes: Takes) -> tuple[Message, list[str]]:
    """The message as it was published, and the lanes to ring.

    A message of a FIFO topic that was published within the last five minutes is not published again: the message is
    then the earlier one, and nothing is rung.
    """
    if topic.is_fifo:
        connection.execute("DELETE FROM topics_published WHERE at <= ?", (message.at - DEDUPLICATION_S,))
        query = "SELECT message_id, sequence_number FROM topics_published WHERE topic = ? AND deduplication_id = ?"
        for message_id, number in connection.execute(query, (topic.arn, message.deduplication_id)):
            return msgspec.structs.replace(message, id=message_id, sequence_number=number), []
        message = _number(connection, topic, message)
    lanes = []
    for subscription in list_subscriptions(connection, topic.account, topic=topic.arn):
        if subscription.confirmed and takes(subscription, message):
            lane = lane_of(subscription, message)
            send(connection, lane, message)
            lanes.append(lane)
    return message, lanes


def send(connection: Connection, lane: str, message: Message) -> None:
    """To one subscription."""
    outbox.put(connection, BOX, lane, msgspec.msgpack.encode(message), now=message.at)


def lane_of(subscription: Subscription, message: Message) -> str:
    """Each group of a FIFO topic has a lane of its own, whose messages are sent in order."""
    return f"{subscription.arn}{outbox.SEPARATOR}{message.group_id}" if message.group_id else subscription.arn


def is_ordered(lane: str) -> bool:
    return outbox.SEPARATOR in lane


def _number(connection: Connection, topic: Topic, message: Message) -> Message:
    where = (topic.account, topic.arn)
    connection.execute("UPDATE topics SET sequence = sequence + 1 WHERE account = ? AND arn = ?", where)
    number = connection.execute("SELECT sequence FROM topics WHERE account = ? AND arn = ?", where).get
    numbered = msgspec.structs.replace(message, sequence_number=f"1{number:019d}")
    connection.execute(
        "INSERT INTO topics_published VALUES (?, ?, ?, ?, ?)",
        (topic.arn, message.deduplication_id, message.at, message.id, numbered.sequence_number),
    )
    return numbered

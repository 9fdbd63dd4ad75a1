"""Topics, put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from lambent.awsapi.context import Operation
from lambent.events.deliveries import Deliveries
from lambent.events.outbox import Outbox
from lambent.events.outgoing import Outgoing
from lambent.events.topics import store
from lambent.events.topics.api import Topics
from lambent.events.topics.forms import Links
from lambent.events.topics.publishing import Publisher
from lambent.events.topics.sending import Sender, SendMail
from lambent.substrate.ports import Tables


class TopicService:
    """Started, it sends what was published. Enters itself in `deliveries` as `sns`."""

    def __init__(
        self,
        tables: Tables,
        deliveries: Deliveries,
        outgoing: Outgoing,
        send_mail: SendMail,
        *,
        base_url: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`base_url` is where whoever has a message reaches this node."""
        sender = Sender(tables, deliveries, outgoing, send_mail, Links(base_url))
        self.outbox = Outbox(
            store.BOX,
            tables,
            sender.send,
            next_wait=sender.next_wait,
            give_up=sender.give_up,
            is_ordered=store.is_ordered,
            now=now,
        )
        publisher = Publisher(tables, self.outbox, now=now)
        topics = Topics(tables, self.outbox, deliveries, publisher, now=now)
        self.operations: Mapping[str, Operation] = topics.operations()
        self.serve_link = topics.serve_link
        deliveries.serve("sns", publisher.deliver, topics.exists)

    async def start(self) -> None:
        await self.outbox.start()

    async def stop(self) -> None:
        await self.outbox.stop()

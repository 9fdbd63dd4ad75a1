from __future__ import annotations

import pytest

from lambent.events.deliveries import Deliveries, Delivery
from lambent.model.errors import CallerError

ACCOUNT = "123456789012"
QUEUE = f"arn:aws:sqs:us-east-1:{ACCOUNT}:orders"


class Queue:
    def __init__(self) -> None:
        self.taken: list[Delivery] = []

    async def deliver(self, delivery: Delivery) -> None:
        self.taken.append(delivery)

    async def exists(self, account: str, arn: str) -> bool:
        return arn == QUEUE


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def deliveries(queue: Queue) -> Deliveries:
    deliveries = Deliveries()
    deliveries.serve("sqs", queue.deliver, queue.exists)
    return deliveries


def to(target: str) -> Delivery:
    return Delivery(account=ACCOUNT, region="us-east-1", target=target, body=b"{}")


async def test_a_record_reaches_what_its_arn_names(deliveries: Deliveries, queue: Queue) -> None:
    await deliveries.deliver(to(QUEUE))
    assert [delivery.target for delivery in queue.taken] == [QUEUE]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("orders", "not the ARN of a target"),
        ("arn:aws:sqs:us-east-1:", "not the ARN of a target"),
        (f"arn:aws:sqs:us-east-1:{ACCOUNT}:", "not the ARN of a target"),
        (f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/t", "of a kind that cannot be delivered to; there are: queue"),
        ("arn:aws:sqs:us-east-1:999999999999:orders", "belongs to another account"),
    ],
)
async def test_a_target_that_cannot_be_is_refused(
    deliveries: Deliveries, queue: Queue, target: str, message: str
) -> None:
    with pytest.raises(CallerError, match=message):
        await deliveries.deliver(to(target))
    with pytest.raises(CallerError, match=message):
        await deliveries.check(ACCOUNT, target)
    assert queue.taken == []


async def test_a_check_refuses_what_is_not_there(deliveries: Deliveries) -> None:
    await deliveries.check(ACCOUNT, QUEUE)
    with pytest.raises(CallerError, match="does not exist") as caught:
        await deliveries.check(ACCOUNT, QUEUE + "2")
    assert caught.value.code == "InvalidParameterValueException"

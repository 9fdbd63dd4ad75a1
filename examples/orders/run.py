"""Orders through a queue, with dead letters that are mended and taken back: `python examples/orders/run.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from stage import EXAMPLES, Stage, open_stage, say, wait_for  # noqa: E402

ORDERS = [{"id": number, "lines": [{"price": 10 * number, "count": 2}]} for number in range(1, 13)]
BROKEN = {"id": 13, "lines": [{"price": "ten", "count": None}]}


def main() -> dict[str, Any]:
    """What was done before and after the redrive, and the dead letter."""
    with open_stage() as stage:
        queues, functions = stage.client("sqs"), stage.client("lambda")
        say("1. A queue with dead letters, a worker, and a queue that hears what is done")
        done, done_arn = make_queue(stage, "done")
        dead, dead_arn = make_queue(stage, "dead")
        policy = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 2})
        orders, orders_arn = make_queue(stage, "orders", VisibilityTimeout="6", RedrivePolicy=policy)
        topic = stage.client("sns").create_topic(Name="done")["TopicArn"]
        raw = {"RawMessageDelivery": "true"}
        stage.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=done_arn, Attributes=raw)
        stage.deploy(EXAMPLES / "orders" / "worker", "--timeout", "5", "--memory", "1024", "--env", f"DONE={topic}")
        functions.create_event_source_mapping(
            FunctionName="worker",
            EventSourceArn=orders_arn,
            BatchSize=5,
            FunctionResponseTypes=["ReportBatchItemFailures"],
        )
        say("2. Twelve orders, and one that cannot be worked")
        for order in [*ORDERS[:6], BROKEN, *ORDERS[6:]]:
            queues.send_message(QueueUrl=orders, MessageBody=json.dumps(order))
        totals = collect(stage, done, len(ORDERS))
        letter = wait_for(lambda: take(stage, dead), "the dead letter")
        print(f"{len(totals)} done; dead letter: {letter['Body']}", flush=True)
        say("3. The order is mended where it lies, and the dead letters are taken back")
        queues.send_message(QueueUrl=dead, MessageBody=json.dumps({"id": 13, "lines": [{"price": 10, "count": 1}]}))
        queues.delete_message(QueueUrl=dead, ReceiptHandle=letter["ReceiptHandle"])
        queues.start_message_move_task(SourceArn=dead_arn, DestinationArn=orders_arn)
        after = collect(stage, done, 1)
        print(f"done now: {after}", flush=True)
        return {"totals": totals, "letter": json.loads(letter["Body"]), "after": after}


def make_queue(stage: Stage, name: str, **attributes: str) -> tuple[str, str]:
    queues = stage.client("sqs")
    url = queues.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return url, queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def take(stage: Stage, url: str) -> Any:
    found = stage.client("sqs").receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages", [])
    return found[0] if found else None


def collect(stage: Stage, url: str, count: int) -> dict[int, int]:
    """Totals by order, once there are `count`."""
    totals: dict[int, int] = {}
    while len(totals) < count:
        message = wait_for(lambda: take(stage, url), "what is done")
        result = json.loads(message["Body"])
        totals[result["order"]] = result["total"]
        stage.client("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return totals


if __name__ == "__main__":
    main()

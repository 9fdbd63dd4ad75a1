from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.parser.models import SqsModel

from lambent.awsapi.context import RequestContext
from lambent.events.mappings.sources.ports import Configuration, QueueSource, SourceLost
from lambent.events.mappings.sources.sqs import config
from lambent.events.mappings.sources.sqs.event import read_message, shape
from lambent.events.mappings.sources.sqs.source import sqs_kind
from lambent.model.errors import CallerError
from lambent.testing.sqs_endpoint import SqsEndpoint

ACCOUNT = "111122223333"
ARN = f"arn:aws:sqs:eu-west-1:{ACCOUNT}:orders"
RECEIVED = {
    "MessageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
    "ReceiptHandle": "AQEB",
    "Body": '{"n": 1}',
    "MD5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
    "MD5OfMessageAttributes": "d41d8cd98f00b204e9800998ecf8427e",
    "Attributes": {
        "ApproximateReceiveCount": "1",
        "SentTimestamp": "1545082649183",
        "SenderId": "AIDAIENQZJOLO23YVJ4VO",
        "ApproximateFirstReceiveTimestamp": "1545082649185",
    },
    "MessageAttributes": {
        "text": {"DataType": "String", "StringValue": "v"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
    },
}


def configure(arn: str = ARN) -> Configuration:
    return Configuration(
        uuid="u", account=ACCOUNT, region="eu-west-1", function_arn="f", values={"EventSourceArn": arn}
    )


@pytest.fixture
def endpoint() -> Iterator[SqsEndpoint]:
    with SqsEndpoint(visibility_s=0.1).running() as running:
        yield running


async def exists(account: str, arn: str) -> bool:
    return arn == ARN


def test_a_record_has_the_shape_of_the_contract_and_powertools_reads_it() -> None:
    message = read_message(RECEIVED, ARN, "eu-west-1")
    event: dict[str, Any] = json.loads(json.dumps(shape(configure(), [message.event])))
    [record] = event["Records"]
    assert set(record) == {
        "messageId",
        "receiptHandle",
        "body",
        "attributes",
        "messageAttributes",
        "md5OfBody",
        "md5OfMessageAttributes",
        "eventSource",
        "eventSourceARN",
        "awsRegion",
    }
    assert record["messageAttributes"]["raw"] == {
        "binaryValue": "AAE=",
        "stringListValues": [],
        "binaryListValues": [],
        "dataType": "Binary",
    }
    assert message.at == 1545082649.183
    assert SqsModel.model_validate(event).Records[0].messageAttributes["text"].stringValue == "v"


def test_the_answer_of_powertools_batch_processor_is_understood() -> None:
    from lambent.events.mappings.outcomes import failed_ids

    messages = [
        read_message({**RECEIVED, "MessageId": name, "Body": name}, ARN, "eu-west-1") for name in ("good", "bad")
    ]

    def handle(record: Any) -> None:
        assert record.body == "good"

    answer = process_partial_response(
        event=dict(shape(configure(), [message.event for message in messages])),
        record_handler=handle,
        processor=BatchProcessor(event_type=EventType.SQS),
        context=None,
    )
    assert failed_ids(json.dumps(answer).encode(), ["good", "bad"]) == {"bad"}


async def test_own_queues_are_called_without_a_wire() -> None:
    asked: list[tuple[str, dict[str, Any], str]] = []

    def serve(name: str, answer: dict[str, Any]) -> Any:
        async def operation(context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
            asked.append((name, parameters, context.account))
            return answer

        return operation

    operations = {
        "GetQueueUrl": serve("GetQueueUrl", {"QueueUrl": "http://localhost/q"}),
        "ReceiveMessage": serve("ReceiveMessage", {"Messages": [RECEIVED]}),
        "DeleteMessageBatch": serve("DeleteMessageBatch", {"Successful": []}),
    }
    source = await sqs_kind(operations, exists).open(configure(), {})
    messages = await source.receive(100, 3.0)  # type: ignore[union-attr]
    await source.settle(messages, ())  # type: ignore[union-attr]
    assert [name for name, _, _ in asked] == ["GetQueueUrl", "ReceiveMessage", "DeleteMessageBatch"]
    assert asked[1][1]["MaxNumberOfMessages"] == 10
    assert asked[2][1]["Entries"] == [{"Id": "0", "ReceiptHandle": "AQEB"}]
    assert {account for _, _, account in asked} == {ACCOUNT}


async def test_an_endpoint_beyond_the_node_is_called_signed(endpoint: SqsEndpoint) -> None:
    source = await open_external(endpoint.url)
    name = endpoint.send("hello", colour="red")
    [message] = await source.receive(10, 5.0)
    assert (message.id, message.data) == (name, b"hello")
    assert message.event["messageAttributes"]["colour"]["stringValue"] == "red"
    await source.settle([message], ())
    assert endpoint.wait_empty()
    await source.close()
    assert endpoint.signed_by == {"AK"}


async def test_an_endpoint_that_is_away_is_a_lost_source() -> None:
    with pytest.raises(SourceLost):
        await open_external("http://127.0.0.1:9")


async def open_external(url: str) -> QueueSource:
    connections = {
        "elsewhere": {"url": url, "account": "999988887777", "access_key_id": "AK", "secret_access_key": "s"}
    }
    kind = sqs_kind({}, exists)
    opened = await kind.open(configure("arn:aws:sqs:eu-west-1:999988887777:orders"), connections)
    assert not hasattr(opened, "partitions")
    return opened


@pytest.mark.parametrize(
    ("arn", "says"),
    [
        (f"arn:aws:sqs:eu-west-1:{ACCOUNT}:nothing", "does not exist"),
        (f"arn:aws:sqs:us-east-1:{ACCOUNT}:orders", "another region"),
        ("arn:aws:sqs:eu-west-1:999988887777:orders", "lambent.toml"),
        ("arn:aws:sqs:eu-west-1", "not the ARN"),
    ],
)
async def test_a_queue_that_cannot_be_read_is_refused(arn: str, says: str) -> None:
    with pytest.raises(CallerError) as refused:
        await config.make_check(exists)(configure(arn), {})
    assert says in refused.value.message


async def test_a_connection_is_for_the_accounts_that_it_names() -> None:
    elsewhere = {"url": "http://x", "account": "999988887777", "accounts": "444455556666"}
    with pytest.raises(CallerError):
        await config.make_check(exists)(configure("arn:aws:sqs:eu-west-1:999988887777:orders"), {"e": elsewhere})


def test_a_fifo_queue_has_no_window_and_batches_of_ten() -> None:
    rules = config.rules({"EventSourceArn": ARN + ".fifo"})
    assert (rules.max_batch_size, rules.max_window_s) == (10, 0)

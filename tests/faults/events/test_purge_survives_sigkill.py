"""A node that is killed right after it answered a purge or a deletion: nothing of what was there is seen again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.conftest import connect

from lambent.testing.node import LambentNode

MANY = 3000


def fill(sqs: Any, name: str) -> str:
    url: str = sqs.create_queue(QueueName=name)["QueueUrl"]
    for at in range(0, MANY, 10):
        entries = [{"Id": str(number), "MessageBody": "before"} for number in range(at, at + 10)]
        assert not sqs.send_message_batch(QueueUrl=url, Entries=entries).get("Failed")
    return url


# The SDK leaves connections open that its peer broke off.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_purged_and_a_deleted_queue_stay_empty(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data")
    node.start()
    sqs = connect(node, "sqs")
    purged, deleted = fill(sqs, "purged"), fill(sqs, "deleted")
    sqs.purge_queue(QueueUrl=purged)
    sqs.send_message(QueueUrl=purged, MessageBody="after")
    sqs.delete_queue(QueueUrl=deleted)
    node.kill()
    with node.running():
        sqs = connect(node, "sqs")
        for name, expected in (("purged", ["after"]), ("deleted", [])):
            url = sqs.create_queue(QueueName=name)["QueueUrl"]
            found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            assert [message["Body"] for message in found] == expected
            assert sqs.receive_message(QueueUrl=url).get("Messages", []) == []

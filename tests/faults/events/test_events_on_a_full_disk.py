"""The disk of the data folder fills up under a real node: nothing is acknowledged that is not kept, and it recovers."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.conftest import PYTHON, ROLE, connect

from lambent.testing.node import LambentNode, make_zip

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
DISK_MB = 24
PAYLOAD = json.dumps({"text": "x" * 20_000}).encode()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "lambent-test", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> Path:
    """All of the room that is left is taken."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return filler


def send_until_refused(send: Any) -> tuple[list[str], ClientError]:
    acknowledged = []
    for number in range(5_000):
        try:
            acknowledged.append(send(number))
        except ClientError as refused:
            return acknowledged, refused
    raise AssertionError("the disk did not fill up")


def test_a_full_disk_refuses_events_and_messages_and_loses_none(disk: Path) -> None:
    with LambentNode(disk / "data", environ={"LAMBENT_SCRATCH_DISKS": "tmpfs"}).running() as node:
        functions, sqs = connect(node), connect(node, "sqs")
        code = {"ZipFile": make_zip({"app.py": "def handler(event, context):\n    return 1\n"})}
        functions.create_function(FunctionName="f", Runtime=PYTHON, Role=ROLE, Handler="app.handler", Code=code)
        functions.get_waiter("function_active_v2").wait(FunctionName="f")
        url = sqs.create_queue(QueueName="q", Attributes={"VisibilityTimeout": "600"})["QueueUrl"]

        def invoke(_number: int) -> str:
            answer = functions.invoke(FunctionName="f", InvocationType="Event", Payload=PAYLOAD)
            return str(answer["ResponseMetadata"]["RequestId"])

        def send(number: int) -> str:
            sqs.send_message(QueueUrl=url, MessageBody=f"{number} {PAYLOAD.decode()}")
            return str(number)

        invoke(0)
        send(-1)
        filler = fill(disk)
        sent, refused = send_until_refused(send)
        assert refused.response["ResponseMetadata"]["HTTPStatusCode"] == 500
        assert "disk is full" in str(refused) or "could not write" in str(refused)
        invoked, refused = send_until_refused(invoke)
        assert refused.response["ResponseMetadata"]["HTTPStatusCode"] == 500

        filler.unlink()
        invoked.append(invoke(0))
        sent.append(send(100_000))
        received: set[str] = set()
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            received |= {message["Body"].split()[0] for message in messages}
        assert {"-1", *sent} <= received
        wait_all_done(node, invoked)


def wait_all_done(node: LambentNode, request_ids: list[str]) -> None:
    from lambent.cli.session import find_connection
    from lambent.client.client import Client

    client = Client(find_connection(data_dir=str(node.data_dir), environ={}))
    give_up_at = time.monotonic() + 60
    waiting = set(request_ids)
    while waiting:
        assert time.monotonic() < give_up_at, f"{len(waiting)} events are stuck"
        waiting = {request_id for request_id in waiting if client.get_event(request_id)["state"] != "done"}
        time.sleep(0.05)

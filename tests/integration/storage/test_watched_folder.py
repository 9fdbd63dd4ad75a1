"""A folder of the machine on a real node: from the file that is dropped into it to the function that reads it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.conftest import PYTHON, ROLE
from tests.integration.storage.test_buckets import connect

from lambent.testing.node import LambentNode, make_zip

COUNT = """
import boto3
s3 = boto3.client("s3")
def handler(event, context):
    for record in event["Records"]:
        bucket, key = record["s3"]["bucket"]["name"], record["s3"]["object"]["key"]
        lines = s3.get_object(Bucket=bucket, Key=key)["Body"].read().splitlines()
        s3.put_object(Bucket=bucket, Key="counts/" + key.rpartition("/")[2], Body=str(len(lines)))
"""


def settings(folder: Path, watched: Path) -> list[str]:
    config = folder / "lambent.toml"
    config.write_text(f'[folders.scans]\npath = "{watched}"\nbucket = "documents"\nprefix = "scans/"\n')
    return ["--config", str(config)]


def wait_for(what: Callable[[], Any]) -> Any:
    deadline_at = time.monotonic() + 30
    while not (found := what()):
        assert time.monotonic() < deadline_at
        time.sleep(0.05)
    return found


def read(s3: Any, key: str) -> bytes:
    try:
        body: bytes = s3.get_object(Bucket="documents", Key=key)["Body"].read()
    except ClientError:
        return b""
    return body


@pytest.mark.parametrize("processes", [1, 2])
def test_a_dropped_file_reaches_the_function_over_a_kill_of_the_node(tmp_path: Path, processes: int) -> None:
    watched = tmp_path / "scans"
    watched.mkdir()
    arguments = [*settings(tmp_path, watched), "--processes", str(processes)]
    first = LambentNode(tmp_path / "data", arguments=arguments)
    with first.running() as node:
        functions, s3 = connect(node, "lambda"), connect(node)
        functions.create_function(
            FunctionName="count",
            Runtime=PYTHON,
            Role=ROLE,
            Handler="app.handler",
            Timeout=30,
            Code={"ZipFile": make_zip({"app.py": COUNT})},
        )
        functions.get_waiter("function_active_v2").wait(FunctionName="count")
        arn = functions.get_function(FunctionName="count")["Configuration"]["FunctionArn"]
        rule = {"Key": {"FilterRules": [{"Name": "prefix", "Value": "scans/"}]}}
        s3.put_bucket_notification_configuration(
            Bucket="documents",
            NotificationConfiguration={
                "LambdaFunctionConfigurations": [
                    {"LambdaFunctionArn": arn, "Events": ["s3:ObjectCreated:*"], "Filter": rule}
                ]
            },
        )
        (watched / "a.txt").write_text("1\n2\n3\n")
        assert wait_for(lambda: read(s3, "counts/a.txt")) == b"3"
        node.kill()
    (watched / "b.txt").write_text("1\n2\n")
    (watched / "a.txt").unlink()
    with LambentNode(tmp_path / "data", arguments=arguments).running() as node:
        s3 = connect(node)
        assert wait_for(lambda: read(s3, "counts/b.txt")) == b"2"
        wait_for(lambda: not read(s3, "scans/a.txt"))
        assert read(s3, "scans/b.txt") == b"1\n2\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('path = "/srv/none"\nbucket = "own-bucket"', "folders.scans: /srv/none cannot be watched: No such file"),
        ('path = "/tmp"', 'folders.scans.bucket is missing: write bucket = "..." below [folders.scans].'),
        ('path = "tmp"\nbucket = "own-bucket"', "folders.scans.path must begin with a slash"),
        ('path = "/tmp"\nbucket = "x"', "folders.scans.bucket: 'x' cannot be made: The specified bucket is not valid."),
        ('path = "/tmp"\nbucket = "own-bucket"\nsuffix = "x"', "folders.scans.suffix: there is no such setting"),
    ],
)
def test_mistakes_in_the_settings_are_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "lambent.toml"
    config.write_text("[folders.scans]\n" + text + "\n")
    command = [sys.executable, "-m", "lambent", "up", "--data-dir", str(tmp_path / "data"), "--port", "0"]
    done = subprocess.run(
        [*command, "--config", str(config), "--log-level", "error"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1

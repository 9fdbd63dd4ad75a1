"""Buckets whose objects lie in a real S3-compatible store, through the node's own endpoint."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.conftest import PYTHON, ROLE
from tests.integration.storage.test_buckets import connect

from lambent.testing.components.processes import ComponentMissing
from lambent.testing.components.seaweedfs import SeaweedFs
from lambent.testing.node import LambentNode, make_zip

MB = 1024 * 1024


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFs]:
    try:
        component = SeaweedFs(tmp_path_factory.mktemp("seaweed"))
    except ComponentMissing as exc:
        if os.environ.get("CI"):
            pytest.fail(str(exc))
        pytest.skip(str(exc))
    with component.running():
        yield component


def configure(folder: Path, store: SeaweedFs, *, secret: str = "") -> list[str]:
    config = folder / "lambent.toml"
    config.write_text(
        f'[storage.s3]\nendpoint_url = "{store.url}"\naccess_key_id = "{store.access_key}"\n'
        f'secret_access_key = "{secret or store.secret}"\nbuckets = ["bulk-*"]\n'
    )
    return ["--config", str(config)]


@pytest.fixture(scope="module", params=[1, 2])
def own_node(
    request: pytest.FixtureRequest, store: SeaweedFs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LambentNode]:
    folder = tmp_path_factory.mktemp("node")
    arguments = [*configure(folder, store), "--processes", str(request.param)]
    with LambentNode(folder / "data", arguments=arguments).running() as running:
        yield running


@pytest.fixture(scope="module")
def s3(own_node: LambentNode) -> Any:
    return connect(own_node)


@pytest.fixture
def bucket(s3: Any, request: pytest.FixtureRequest) -> str:
    name = "bulk-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="module")
def direct(store: SeaweedFs) -> Any:
    """The store itself, past the node."""
    return boto3.client(
        "s3",
        endpoint_url=store.url,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> str:
    code: str = caught.value.response["Error"]["Code"]
    return code


def test_objects_lie_in_the_store_and_are_read_through_the_node(s3: Any, direct: Any, bucket: str) -> None:
    key = "a folder/ünï+code&=.txt"
    put = s3.put_object(Bucket=bucket, Key=key, Body=b"hello", ContentType="text/plain", Metadata={"who": "me"})
    assert direct.get_object(Bucket=bucket, Key=key)["Body"].read() == b"hello"
    got = s3.get_object(Bucket=bucket, Key=key)
    assert got["Body"].read() == b"hello"
    assert (got["ContentType"], got["Metadata"], got["ETag"]) == ("text/plain", {"who": "me"}, put["ETag"])
    assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == 5
    assert s3.get_object(Bucket=bucket, Key=key, Range="bytes=1-3")["Body"].read() == b"ell"
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == b"hello"
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}, {"Key": "copy"}]})
    assert "Contents" not in direct.list_objects_v2(Bucket=bucket)
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key=key)
    assert code_of(caught) == "NoSuchKey"


def test_large_files_go_up_in_parts_and_come_down_whole(
    s3: Any, bucket: str, tmp_path: Path, own_node: LambentNode
) -> None:
    source, target = tmp_path / "up", tmp_path / "down"
    source.write_bytes(os.urandom(MB) * 200)
    before = peak_mb(own_node)
    s3.upload_file(str(source), bucket, "large", Config=TransferConfig(multipart_threshold=8 * MB))
    s3.download_file(bucket, "large", str(target))
    assert target.read_bytes() == source.read_bytes()
    assert peak_mb(own_node) - before < 80


def peak_mb(node: LambentNode) -> int:
    lines = Path(f"/proc/{node.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024


def test_the_aws_cli_and_presigned_urls_work(own_node: LambentNode, s3: Any, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    aws = Path(sys.executable).parent / "aws"
    for arguments in (["cp", str(tmp_path / "file"), f"s3://{bucket}/file"], ["ls", f"s3://{bucket}/"]):
        done = subprocess.run(
            [aws, "s3", *arguments], env=own_node.environ(), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
    assert "100000 file" in done.stdout
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "file"})
    assert len(urllib.request.urlopen(url).read()) == 100_000
    signer = connect(own_node, signature_version="s3v4")
    url = signer.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "signed"})
    urllib.request.urlopen(urllib.request.Request(url, data=b"by url", method="PUT")).close()
    assert s3.get_object(Bucket=bucket, Key="signed")["Body"].read() == b"by url"


def test_a_body_that_is_not_what_was_signed_never_becomes_an_object(s3: Any, direct: Any, bucket: str) -> None:
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="bad", Body=b"x" * 300_000, ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    assert code_of(caught) == "BadDigest"
    assert "Contents" not in direct.list_objects_v2(Bucket=bucket)


def test_what_happens_to_objects_is_told_by_prefix(own_node: LambentNode, s3: Any, bucket: str) -> None:
    sqs = connect(own_node, "sqs")
    url = sqs.create_queue(QueueName=bucket)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rule = {"Key": {"FilterRules": [{"Name": "prefix", "Value": "in/"}]}}
    s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "QueueConfigurations": [
                {"QueueArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"], "Filter": rule}
            ]
        },
    )
    s3.put_object(Bucket=bucket, Key="in/a", Body=b"12345")
    s3.put_object(Bucket=bucket, Key="out/a", Body=b"1")
    s3.copy_object(Bucket=bucket, Key="in/b", CopySource={"Bucket": bucket, "Key": "out/a"})
    upload = s3.create_multipart_upload(Bucket=bucket, Key="in/c")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="in/c", UploadId=upload, PartNumber=1, Body=b"part")
    s3.complete_multipart_upload(
        Bucket=bucket,
        Key="in/c",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    s3.delete_object(Bucket=bucket, Key="in/a")
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "in/b"}, {"Key": "in/c"}]})
    told: set[tuple[str, str, int | None]] = set()
    deadline_at = time.monotonic() + 30
    while len(told) < 6:
        assert time.monotonic() < deadline_at, told
        for message in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1, MaxNumberOfMessages=10).get("Messages", []):
            for record in json.loads(message["Body"]).get("Records", []):
                shown = record["s3"]["object"]
                told.add((record["eventName"], shown["key"], shown.get("size")))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert told == {
        ("ObjectCreated:Put", "in/a", 5),
        ("ObjectCreated:Copy", "in/b", 1),
        ("ObjectCreated:CompleteMultipartUpload", "in/c", 4),
        ("ObjectRemoved:Delete", "in/a", None),
        ("ObjectRemoved:Delete", "in/b", None),
        ("ObjectRemoved:Delete", "in/c", None),
    }


def test_buckets_that_are_not_named_stay_in_the_node_and_copies_between_say_so(
    s3: Any, direct: Any, bucket: str
) -> None:
    s3.create_bucket(Bucket="small-" + bucket)
    s3.put_object(Bucket="small-" + bucket, Key="k", Body=b"small")
    s3.put_object(Bucket=bucket, Key="k", Body=b"bulk")
    names = [entry["Name"] for entry in direct.list_buckets()["Buckets"]]
    assert bucket in names
    assert "small-" + bucket not in names
    for source, target in ((bucket, "small-" + bucket), ("small-" + bucket, bucket)):
        with pytest.raises(ClientError) as caught:
            s3.copy_object(Bucket=target, Key="c", CopySource={"Bucket": source, "Key": "k"})
        assert code_of(caught) == "NotImplemented"


def test_a_bucket_goes_when_it_is_empty_and_one_that_is_there_is_taken_over(s3: Any, direct: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    with pytest.raises(ClientError) as caught:
        s3.delete_bucket(Bucket=bucket)
    assert code_of(caught) == "BucketNotEmpty"
    s3.delete_object(Bucket=bucket, Key="k")
    s3.delete_bucket(Bucket=bucket)
    assert bucket not in [entry["Name"] for entry in direct.list_buckets()["Buckets"]]
    direct.create_bucket(Bucket=bucket)
    direct.put_object(Bucket=bucket, Key="was/there", Body=b"before")
    s3.create_bucket(Bucket=bucket)
    assert s3.get_object(Bucket=bucket, Key="was/there")["Body"].read() == b"before"


def test_a_function_is_deployed_from_a_bucket_of_the_store(own_node: LambentNode, s3: Any, bucket: str) -> None:

    s3.put_object(
        Bucket=bucket, Key="code.zip", Body=make_zip({"app.py": "def handler(e, c):\n    return 'from bulk'\n"})
    )
    functions = connect(own_node, "lambda")
    functions.create_function(
        FunctionName=bucket,
        Runtime=PYTHON,
        Role=ROLE,
        Handler="app.handler",
        Code={"S3Bucket": bucket, "S3Key": "code.zip"},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName=bucket)
    assert json.load(functions.invoke(FunctionName=bucket)["Payload"]) == "from bulk"


def test_a_store_that_is_away_or_refuses_is_told_apart_from_the_caller(tmp_path: Path, store: SeaweedFs) -> None:
    arguments = configure(tmp_path, store)
    with LambentNode(tmp_path / "data", arguments=arguments).running() as node:
        s3 = connect(node)
        s3.create_bucket(Bucket="bulk-away")
    config = tmp_path / "lambent.toml"
    config.write_text(config.read_text().replace(store.url, "http://127.0.0.1:9"))
    with LambentNode(tmp_path / "data", arguments=["--config", str(config)]).running() as node:
        with pytest.raises(ClientError) as caught:
            connect(node).get_object(Bucket="bulk-away", Key="k")
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert "http://127.0.0.1:9" in caught.value.response["Error"]["Message"]
    with LambentNode(tmp_path / "data", arguments=configure(tmp_path, store, secret="wrong")).running() as node:
        with pytest.raises(ClientError) as caught:
            connect(node).get_object(Bucket="bulk-away", Key="k")
        assert "refuses the node's credentials" in caught.value.response["Error"]["Message"]
    # Without the store the node does not start: its buckets would look empty.
    done = subprocess.run(
        [sys.executable, "-m", "lambent", "up", "--data-dir", str(tmp_path / "data"), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "The bucket bulk-away has its objects in another store" in done.stderr

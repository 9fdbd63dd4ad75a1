"""Object storage on a real node, through boto3 and the AWS CLI."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.conftest import PYTHON, ROLE

from lambent.testing.node import LambentNode, make_zip

MB = 1024 * 1024


def connect(node: LambentNode, service: str = "s3", **config: Any) -> Any:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(node.environ())
    try:
        settings = Config(retries={"max_attempts": 0}, read_timeout=60, s3={"addressing_style": "path"}).merge(
            Config(**config)
        )
        return boto3.session.Session(profile_name="lambent").client(service, config=settings)
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module", params=["one process", "two processes"])
def own_node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LambentNode]:
    arguments = [] if request.param == "one process" else ["--processes", "2"]
    with LambentNode(tmp_path_factory.mktemp("node") / "data", arguments=arguments).running() as running:
        yield running


@pytest.fixture(scope="module")
def s3(own_node: LambentNode) -> Any:
    return connect(own_node)


@pytest.fixture
def bucket(s3: Any, request: pytest.FixtureRequest) -> str:
    name = "b" + hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    s3.create_bucket(Bucket=name)
    return name


def refused(call: Any, **parameters: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_what_is_put_is_what_is_got(s3: Any, bucket: str) -> None:
    data = os.urandom(3 * MB + 17)
    put = s3.put_object(
        Bucket=bucket,
        Key="a key/ü & +.bin",
        Body=data,
        Metadata={"who": "me"},
        ContentType="video/mp4",
        CacheControl="no-store",
    )
    assert put["ETag"] == f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
    assert put["ChecksumType"] == "FULL_OBJECT"
    got = s3.get_object(Bucket=bucket, Key="a key/ü & +.bin")
    assert got["Body"].read() == data
    assert (got["Metadata"], got["ContentType"], got["CacheControl"]) == ({"who": "me"}, "video/mp4", "no-store")
    head = s3.head_object(Bucket=bucket, Key="a key/ü & +.bin")
    assert (head["ContentLength"], head["ETag"]) == (len(data), put["ETag"])
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    assert s3.get_object(Bucket=bucket, Key="empty")["Body"].read() == b""


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums_are_computed_kept_and_checked(s3: Any, bucket: str, algorithm: str) -> None:
    given: dict[str, Any] = {"ChecksumAlgorithm": algorithm}
    if algorithm in ("CRC32C", "CRC64NVME"):
        from lambent.events.storage import checksums

        check = checksums.ALGORITHMS[algorithm]()
        check.update(b"some bytes")
        given = {f"Checksum{algorithm}": checksums.encode(check.digest())}
    s3.put_object(Bucket=bucket, Key="k", Body=b"some bytes", **given)
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got[f"Checksum{algorithm}"]
    assert got["Body"].read() == b"some bytes"
    wrong = {f"Checksum{algorithm}": got[f"Checksum{algorithm}"]}
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"other bytes", **wrong) == ("BadDigest", 400)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"some bytes"


def test_ranges_and_conditions(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")["ETag"]

    def get(**parameters: Any) -> bytes:
        found: bytes = s3.get_object(Bucket=bucket, Key="k", **parameters)["Body"].read()
        return found

    assert (get(Range="bytes=2-4"), get(Range="bytes=7-"), get(Range="bytes=-3")) == (b"234", b"789", b"789")
    assert s3.head_object(Bucket=bucket, Key="k", Range="bytes=2-4")["ContentRange"] == "bytes 2-4/10"
    assert refused(s3.get_object, Bucket=bucket, Key="k", Range="bytes=10-") == ("InvalidRange", 416)
    assert refused(s3.get_object, Bucket=bucket, Key="k", IfNoneMatch=etag) == ("304", 304)
    assert refused(s3.get_object, Bucket=bucket, Key="k", IfMatch='"other"') == ("PreconditionFailed", 412)
    assert get(IfMatch=etag) == b"0123456789"
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"", IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"", IfMatch='"other"') == ("PreconditionFailed", 412)
    s3.put_object(Bucket=bucket, Key="k", Body=b"new", IfMatch=etag)
    overridden = s3.get_object(
        Bucket=bucket, Key="k", ResponseContentType="text/html", ResponseCacheControl="max-age=1"
    )
    overridden["Body"].read()
    assert (overridden["ContentType"], overridden["CacheControl"]) == ("text/html", "max-age=1")


def test_listing_rolls_up_by_delimiter_and_goes_on_page_by_page(s3: Any, bucket: str) -> None:
    keys = [f"{folder}/{number:02}" for folder in ("a", "b ü", "c&d") for number in range(5)] + ["top", "zz"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    paginator = s3.get_paginator("list_objects_v2")
    pages = list(paginator.paginate(Bucket=bucket, PaginationConfig={"PageSize": 4}))
    assert [entry["Key"] for page in pages for entry in page["Contents"]] == sorted(keys, key=str.encode)
    pages = list(paginator.paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 2}))
    assert [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])] == ["a/", "b ü/", "c&d/"]
    assert [entry["Key"] for page in pages for entry in page.get("Contents", [])] == ["top", "zz"]
    first = s3.list_objects(Bucket=bucket, Delimiter="/", MaxKeys=2)
    assert first["NextMarker"] == "b ü/"
    rest = s3.list_objects(Bucket=bucket, Delimiter="/", Marker=first["NextMarker"])
    assert ([entry["Prefix"] for entry in rest["CommonPrefixes"]], rest["IsTruncated"]) == (["c&d/"], False)
    found = s3.list_objects_v2(Bucket=bucket, Prefix="a/", StartAfter="a/03")
    assert [entry["Key"] for entry in found["Contents"]] == ["a/04"]
    deleted = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in [*keys, "none"]]})
    assert len(deleted["Deleted"]) == len(keys) + 1
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    s3.delete_bucket(Bucket=bucket)
    assert refused(s3.list_objects_v2, Bucket=bucket) == ("NoSuchBucket", 404)


def test_upload_file_and_download_file_in_parts(s3: Any, bucket: str, tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(os.urandom(23 * MB))
    config = TransferConfig(multipart_threshold=8 * MB, multipart_chunksize=8 * MB, max_concurrency=4)
    s3.upload_file(str(source), bucket, "big", Config=config, ExtraArgs={"Metadata": {"a": "b"}})
    head = s3.head_object(Bucket=bucket, Key="big", ChecksumMode="ENABLED")
    assert (head["ETag"][-3:-1], head["Metadata"], head["ChecksumType"]) == ("-3", {"a": "b"}, "COMPOSITE")
    s3.download_file(bucket, "big", str(copy), Config=config)
    assert copy.read_bytes() == source.read_bytes()
    middle = s3.get_object(Bucket=bucket, Key="big", Range=f"bytes={8 * MB - 3}-{8 * MB + 2}")["Body"].read()
    assert middle == source.read_bytes()[8 * MB - 3 : 8 * MB + 3]
    assert s3.head_object(Bucket=bucket, Key="big", PartNumber=3)["ContentLength"] == 7 * MB
    s3.copy({"Bucket": bucket, "Key": "big"}, bucket, "copied", Config=config)
    assert s3.get_object(Bucket=bucket, Key="copied")["Body"].read() == source.read_bytes()


def test_an_upload_shows_its_parts_ends_once_and_can_be_aborted(s3: Any, bucket: str) -> None:
    made = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    place = {"Bucket": bucket, "Key": "k", "UploadId": made["UploadId"]}
    first, second = os.urandom(5 * MB), b"the end"
    etags = [
        s3.upload_part(**place, PartNumber=number, Body=body)["ETag"] for number, body in ((1, first), (7, second))
    ]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in zip((1, 7), etags, strict=True)]
    assert [part["Size"] for part in s3.list_parts(**place)["Parts"]] == [5 * MB, 7]
    assert [upload["Key"] for upload in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == ["k"]
    assert (
        refused(s3.complete_multipart_upload, **place, MultipartUpload={"Parts": parts[::-1]})[0] == "InvalidPartOrder"
    )
    wrong = [{"PartNumber": 1, "ETag": '"0"'}]
    assert refused(s3.complete_multipart_upload, **place, MultipartUpload={"Parts": wrong})[0] == "InvalidPart"
    done = s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})
    import base64
    import zlib

    assert done["ChecksumCRC32"] == base64.b64encode(zlib.crc32(first + second).to_bytes(4, "big")).decode()
    assert s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})["ETag"] == done["ETag"]
    other = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="k", UploadId=other, PartNumber=1, Body=b"x")
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=other)
    assert refused(s3.list_parts, Bucket=bucket, Key="k", UploadId=other) == ("NoSuchUpload", 404)


@pytest.mark.parametrize("version", ["s3v4", None], ids=["version 4", "boto3's default"])
def test_presigned_urls_put_and_get_and_nothing_else(own_node: LambentNode, bucket: str, version: str | None) -> None:
    s3 = connect(own_node, signature_version=version) if version else connect(own_node)
    put = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "p q"}, ExpiresIn=60)
    with urllib.request.urlopen(
        urllib.request.Request(put, data=b"by url", headers={"Content-Type": ""}, method="PUT")
    ) as response:
        assert response.status == 200
    get = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "p q"}, ExpiresIn=60)
    with urllib.request.urlopen(get) as response:
        assert response.read() == b"by url"
    for url in (get.replace("p%20q", "other"), get.replace("ignature=", "ignature=0"), get.split("?")[0]):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(url)
        assert caught.value.code in (403, 404)
        caught.value.close()


def test_copying_keeps_or_replaces_what_the_object_says_of_itself(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="one", Body=b"x", Metadata={"a": "1"}, Tagging="t=v")
    s3.copy_object(Bucket=bucket, Key="two", CopySource=f"{bucket}/one")
    s3.copy_object(
        Bucket=bucket, Key="three", CopySource=f"{bucket}/one", MetadataDirective="REPLACE", Metadata={"b": "2"}
    )
    assert s3.head_object(Bucket=bucket, Key="two")["Metadata"] == {"a": "1"}
    assert s3.head_object(Bucket=bucket, Key="three")["Metadata"] == {"b": "2"}
    assert s3.get_object_tagging(Bucket=bucket, Key="two")["TagSet"] == [{"Key": "t", "Value": "v"}]
    s3.delete_object(Bucket=bucket, Key="one")
    assert s3.get_object(Bucket=bucket, Key="two")["Body"].read() == b"x"
    same = {"Bucket": bucket, "Key": "two", "CopySource": f"{bucket}/two"}
    assert refused(s3.copy_object, **same) == ("InvalidRequest", 400)


def test_buckets_are_found_by_path_and_by_host(own_node: LambentNode, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="dir/k", Body=b"by host")
    port = urlsplit(own_node.endpoint).port
    assert port is not None
    credentials = s3._request_signer._credentials
    for base in ("s3.localhost", "s3.us-east-1.localhost", "localhost"):
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{base}:{port}",
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "virtual"}),
        )
        url = urlsplit(client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "dir/k"}))
        assert url.hostname == f"{bucket}.{base}"
        # This machine need not know the name.
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", f"{url.path}?{url.query}", headers={"Host": url.netloc})
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"by host")
        connection.close()


def test_what_tools_ask_of_a_bucket_is_answered(s3: Any, bucket: str) -> None:
    assert bucket in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    assert s3.head_bucket(Bucket=bucket)["BucketRegion"] == "us-east-1"
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert refused(s3.get_bucket_policy, Bucket=bucket) == ("NoSuchBucketPolicy", 404)
    assert refused(s3.get_bucket_encryption, Bucket=bucket)[1] == 404
    assert s3.get_bucket_acl(Bucket=bucket)["Grants"][0]["Permission"] == "FULL_CONTROL"
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": "k", "Value": "v"}]
    assert refused(s3.create_bucket, Bucket=bucket) == ("BucketAlreadyOwnedByYou", 409)
    assert refused(s3.create_bucket, Bucket="Not_a_bucket")[0] in ("InvalidBucketName", "ParamValidation")
    assert refused(s3.put_bucket_policy, Bucket=bucket, Policy="{}") == ("NotImplemented", 501)
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    assert refused(s3.delete_bucket, Bucket=bucket) == ("BucketNotEmpty", 409)


def test_the_aws_cli_copies_lists_and_removes(own_node: LambentNode, s3: Any, bucket: str, tmp_path: Path) -> None:
    environ = {**own_node.environ(), "AWS_PROFILE": "lambent"}
    (tmp_path / "up" / "sub").mkdir(parents=True)
    (tmp_path / "up" / "one.txt").write_text("one")
    (tmp_path / "up" / "sub" / "two.bin").write_bytes(os.urandom(9 * MB))

    def run(*arguments: str) -> str:
        aws = str(Path(sys.executable).parent / "aws")
        command = [aws, "--endpoint-url", own_node.endpoint, "s3", *arguments]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("cp", str(tmp_path / "up"), f"s3://{bucket}/", "--recursive")
    assert "PRE sub/" in run("ls", f"s3://{bucket}/")
    run("sync", f"s3://{bucket}/", str(tmp_path / "down"))
    assert (tmp_path / "down" / "sub" / "two.bin").read_bytes() == (tmp_path / "up" / "sub" / "two.bin").read_bytes()
    run("rm", f"s3://{bucket}/", "--recursive")
    assert run("ls", f"s3://{bucket}/") == ""


def test_code_of_a_function_comes_from_an_own_bucket(own_node: LambentNode, s3: Any, bucket: str) -> None:
    functions = connect(own_node, "lambda")
    s3.put_object(
        Bucket=bucket, Key="code.zip", Body=make_zip({"app.py": "def handler(event, context): return 'from a bucket'"})
    )
    functions.create_function(
        FunctionName="from-bucket",
        Role=ROLE,
        Runtime=PYTHON,
        Handler="app.handler",
        Code={"S3Bucket": bucket, "S3Key": "code.zip"},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName="from-bucket")
    assert json.load(functions.invoke(FunctionName="from-bucket")["Payload"]) == "from a bucket"
    with pytest.raises(ClientError, match="NoSuchKey"):
        functions.create_function(
            FunctionName="other",
            Role=ROLE,
            Runtime=PYTHON,
            Handler="app.handler",
            Code={"S3Bucket": bucket, "S3Key": "none.zip"},
        )


def receive(sqs: Any, url: str) -> list[Any]:
    found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=10).get("Messages", [])
    for message in found:
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return [json.loads(message["Body"]) for message in found]


def test_notifications_reach_a_queue_and_a_function_by_prefix_and_suffix(
    own_node: LambentNode, s3: Any, bucket: str
) -> None:
    sqs, functions = connect(own_node, "sqs"), connect(own_node, "lambda")
    url = sqs.create_queue(QueueName="uploads")["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    code = (
        "import boto3\n"
        "def handler(event, context):\n"
        "    s3, (record,) = boto3.client('s3'), event['Records']\n"
        "    bucket, key = record['s3']['bucket']['name'], record['s3']['object']['key']\n"
        "    text = s3.get_object(Bucket=bucket, Key=key)['Body'].read()\n"
        "    s3.put_object(Bucket=bucket, Key='out/' + key.split('/')[1], Body=text.upper())\n"
    )
    function = functions.create_function(
        FunctionName="transcode",
        Role=ROLE,
        Runtime=PYTHON,
        Handler="app.handler",
        Timeout=20,
        Code={"ZipFile": make_zip({"app.py": code})},
    )["FunctionArn"]
    functions.get_waiter("function_active_v2").wait(FunctionName="transcode")

    def rules(prefix: str, suffix: str = "") -> dict[str, Any]:
        stated = [{"Name": "Prefix", "Value": prefix}] + ([{"Name": "Suffix", "Value": suffix}] if suffix else [])
        return {"Key": {"FilterRules": stated}}

    configuration = {
        "QueueConfigurations": [
            {
                "Id": "q",
                "QueueArn": queue,
                "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
                "Filter": rules("out/"),
            }
        ],
        "LambdaFunctionConfigurations": [
            {
                "Id": "f",
                "LambdaFunctionArn": function,
                "Events": ["s3:ObjectCreated:Put"],
                "Filter": rules("in/", ".txt"),
            }
        ],
    }
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
    shown = s3.get_bucket_notification_configuration(Bucket=bucket)
    del shown["ResponseMetadata"]
    assert shown == configuration
    (test,) = receive(sqs, url)
    assert (test["Event"], test["Bucket"]) == ("s3:TestEvent", bucket)
    s3.put_object(Bucket=bucket, Key="in/a.bin", Body=b"not for the function")
    s3.put_object(Bucket=bucket, Key="in/a.txt", Body=b"shout")
    (event,) = receive(sqs, url)
    (record,) = event["Records"]
    assert (record["eventName"], record["eventVersion"], record["awsRegion"]) == (
        "ObjectCreated:Put",
        "2.1",
        "us-east-1",
    )
    assert record["s3"]["bucket"] | {"ownerIdentity": None} == {
        "name": bucket,
        "arn": f"arn:aws:s3:::{bucket}",
        "ownerIdentity": None,
    }
    assert (record["s3"]["object"]["key"], record["s3"]["object"]["size"]) == ("out/a.txt", 5)
    assert s3.get_object(Bucket=bucket, Key="out/a.txt")["Body"].read() == b"SHOUT"
    s3.delete_object(Bucket=bucket, Key="out/a.txt")
    (event,) = receive(sqs, url)
    assert event["Records"][0]["eventName"] == "ObjectRemoved:Delete"
    wrong = {"QueueConfigurations": [{"QueueArn": queue + "x", "Events": ["s3:ObjectCreated:*"]}]}
    assert refused(s3.put_bucket_notification_configuration, Bucket=bucket, NotificationConfiguration=wrong) == (
        "InvalidArgument",
        400,
    )


def test_an_object_as_large_as_may_be_takes_no_memory_of_the_node(
    own_node: LambentNode, s3: Any, bucket: str, tmp_path: Path
) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    block = os.urandom(MB)
    with source.open("wb") as file:
        for _ in range(300):
            file.write(block)

    def peak_mb() -> int:
        """Of all the node's processes."""
        found = 0
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text()
            except OSError:
                continue
            if f"\nPPid:\t{own_node.pid}\n" in text or status.parent.name == str(own_node.pid):
                found += int(text.partition("VmHWM:")[2].split()[0]) if "VmHWM:" in text else 0
        return found // 1024

    before = peak_mb()
    with source.open("rb") as opened:
        s3.put_object(Bucket=bucket, Key="large", Body=opened)
    with copy.open("wb") as file:
        for piece in s3.get_object(Bucket=bucket, Key="large")["Body"].iter_chunks(MB):
            file.write(piece)
    assert copy.stat().st_size == 300 * MB
    assert peak_mb() - before < 60


def test_an_acknowledged_object_outlives_a_killed_node_and_an_unfinished_one_leaves_nothing(tmp_path: Path) -> None:
    node = LambentNode(tmp_path / "data")
    with node.running():
        s3 = connect(node)
        s3.create_bucket(Bucket="kept")
        for number in range(20):
            s3.put_object(Bucket="kept", Key=str(number), Body=f"object {number}".encode())
        parts = urlsplit(node.endpoint)
        url = connect(node, signature_version="s3v4").generate_presigned_url(
            "put_object", Params={"Bucket": "kept", "Key": "unfinished"}
        )
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        connection.putrequest("PUT", url.removeprefix(node.endpoint), skip_accept_encoding=True)
        connection.putheader("Content-Length", str(10 * MB))
        connection.endheaders()
        connection.send(bytes(5 * MB))
        node.kill()
        connection.close()
        orphan = tmp_path / "data" / "storage" / "ab" / ("ab" * 32)
        orphan.parent.mkdir(exist_ok=True)
        orphan.write_bytes(b"renamed, and never committed")
        node.start()
        s3 = connect(node)
        assert s3.list_objects_v2(Bucket="kept")["KeyCount"] == 20
        for number in range(20):
            assert s3.get_object(Bucket="kept", Key=str(number))["Body"].read() == f"object {number}".encode()
        assert not list((tmp_path / "data" / "storage" / "incoming").iterdir())
        assert not orphan.exists()

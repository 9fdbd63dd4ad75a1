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


@pytest.fixture(scope="module")
def own_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LambentNode]:
    with LambentNode(tmp_path_factory.mktemp("node") / "data").running() as running:
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
    assert put["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
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
    assert s3.get_object(Bucket=bucket, Key="k", Range="bytes=2-4")["ContentRange"] == "bytes 2-4/10"
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
    assert s3.get_object(Bucket=bucket, Key="big", PartNumber=3)["ContentLength"] == 7 * MB
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


def test_presigned_urls_put_and_get_and_nothing_else(s3: Any, bucket: str) -> None:
    put = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "p q"}, ExpiresIn=60)
    with urllib.request.urlopen(urllib.request.Request(put, data=b"by url", method="PUT")) as response:
        assert response.status == 200
    get = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "p q"}, ExpiresIn=60)
    with urllib.request.urlopen(get) as response:
        assert response.read() == b"by url"
    for url in (get.replace("p%20q", "other"), get[:-4] + "0000", get.split("?")[0]):
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
    for host in (f"{bucket}.s3.localhost", f"{bucket}.localhost"):
        url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "dir/k"})
        assert url  # signed for the path; the host form is signed by a client that addresses so
        client = connect(own_node, s3={"addressing_style": "virtual"})
        signed = client.generate_presigned_url("list_buckets")
        assert signed
        own = boto3.client(
            "s3",
            endpoint_url=f"http://{host.removeprefix(bucket + '.')}:{port}",
            aws_access_key_id=client._request_signer._credentials.access_key,
            aws_secret_access_key=client._request_signer._credentials.secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "virtual"}),
        )
        url = own.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "dir/k"})
        parts = urlsplit(url)
        assert parts.hostname == host
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", f"{parts.path}?{parts.query}", headers={"Host": parts.netloc})
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

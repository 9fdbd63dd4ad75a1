"""Topics, mail and hooks on a real node, through boto3, SMTP and HTTP, with real functions behind them."""

from __future__ import annotations

import email
import email.policy
import hmac
import json
import os
import smtplib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from tests.conftest import PYTHON, ROLE, ask, connect

from lambent.awsapi.sigv4 import sign
from lambent.testing.node import LambentNode, make_zip

LAMBENT = str(Path(sys.executable).parent / "lambent")
KEEPER = """
import json
def handler(event, context):
    print("TOOK " + json.dumps(event))
"""
"""What it was given stands in its log."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class World:
    def __init__(self, node: LambentNode, mail_port: int) -> None:
        self.node = node
        self.mail_port = mail_port
        self.functions = connect(node)
        self._session = boto3.session.Session(
            aws_access_key_id=self.functions._request_signer._credentials.access_key,
            aws_secret_access_key=self.functions._request_signer._credentials.secret_key,
            region_name="us-east-1",
        )
        self.topics = self.client("sns")
        self.mail = self.client("ses")

    def client(self, service: str) -> Any:
        return self._session.client(service, endpoint_url=self.node.endpoint)

    def keeper(self, name: str) -> str:
        made = self.functions.create_function(
            FunctionName=name,
            Role=ROLE,
            Runtime=PYTHON,
            Handler="app.handler",
            Code={"ZipFile": make_zip({"app.py": KEEPER})},
        )
        self.functions.get_waiter("function_active_v2").wait(FunctionName=name)
        return str(made["FunctionArn"])

    def taken(self, name: str, count: int = 1) -> list[Any]:
        """What a keeper was given so far, once it is `count`."""

        def look() -> list[Any] | None:
            lines = self._log(name)
            events = [json.loads(line.partition("TOOK ")[2]) for line in lines if "TOOK " in line]
            return events if len(events) >= count else None

        found: list[Any] = wait_for(look)
        return found

    def _log(self, name: str) -> list[str]:
        credentials = self.functions._request_signer._credentials
        url = f"{self.node.endpoint}/_lambent/functions/{name}/logs"
        headers = sign(
            method="GET",
            url=url,
            headers={},
            body=b"",
            access_key=credentials.access_key,
            secret=credentials.secret_key,
            region="us-east-1",
        )
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as response:
            return [json.loads(line)["message"] for line in response.read().splitlines()]

    def own(self, method: str, path: str, body: Any = None) -> Any:
        credentials = self.functions._request_signer._credentials
        url = f"{self.node.endpoint}{path}"
        data = json.dumps(body).encode() if body is not None else b""
        headers = sign(
            method=method,
            url=url,
            headers={"content-type": "application/json"},
            body=data,
            access_key=credentials.access_key,
            secret=credentials.secret_key,
            region="us-east-1",
        )
        request = urllib.request.Request(url, headers=headers, data=data, method=method)
        with urllib.request.urlopen(request) as response:
            return json.load(response)


def wait_for(look: Callable[[], Any]) -> Any:
    give_up_at = time.monotonic() + 30
    while (found := look()) is None:
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module", params=["one process", "two processes"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port = free_port()
    environ = {"LAMBENT_MAIL_PORT": str(port)}
    arguments = ["--dev"] if request.param == "one process" else ["--dev", "--processes", "2"]
    folder = tmp_path_factory.mktemp("node") / "data"
    with LambentNode(folder, arguments=arguments, environ=environ).running() as node:
        yield World(node, port)


def letters(world: World) -> list[str]:
    folder = world.node.data_dir / "mail"
    found = sorted(path for path in folder.iterdir() if path.suffix == ".eml") if folder.exists() else []
    parsed = [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in found]
    return ["".join(f"{name}: {value}\n" for name, value in letter.items()) + letter.get_content() for letter in parsed]


def test_what_is_published_reaches_a_function_and_a_mailbox(world: World) -> None:
    topic = world.topics.create_topic(Name="orders", Tags=[{"Key": "team", "Value": "shop"}])["TopicArn"]
    function = world.keeper("on-order")
    subscribed = world.topics.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=function)
    mailed = world.topics.subscribe(TopicArn=topic, Protocol="email", Endpoint="ada@example.org")
    assert mailed["SubscriptionArn"] == "pending confirmation"
    (question,) = wait_for(lambda: letters(world) or None)
    link = next(word for word in question.split() if word.startswith("http"))
    with urllib.request.urlopen(link) as response:
        assert response.read().decode() == f"You are subscribed to {topic}.\n"
    attributes = {"kind": {"DataType": "String", "StringValue": "new"}}
    published = world.topics.publish(
        TopicArn=topic, Message="one of each", Subject="Order", MessageAttributes=attributes
    )
    (event,) = world.taken("on-order")
    (record,) = event["Records"]
    assert record["EventSubscriptionArn"] == subscribed["SubscriptionArn"]
    assert (record["Sns"]["Message"], record["Sns"]["MessageId"]) == ("one of each", published["MessageId"])
    letter = wait_for(lambda: next((text for text in letters(world) if "one of each" in text), None))
    assert "Subject: Order" in letter
    listed = world.topics.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert sorted(subscription["Protocol"] for subscription in listed) == ["email", "lambda"]


def test_attributes_keep_their_types_on_their_way_into_a_queue(world: World) -> None:
    queues = connect(world.node, "sqs")
    url = queues.create_queue(QueueName="typed")["QueueUrl"]
    arn = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = world.topics.create_topic(Name="typed")["TopicArn"]
    world.topics.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    attributes = {
        "count": {"DataType": "Number", "StringValue": "5"},
        "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        "kinds": {"DataType": "String.Array", "StringValue": '["a"]'},
    }
    world.topics.publish(TopicArn=topic, Message="typed", MessageAttributes=attributes)
    (message,) = queues.receive_message(QueueUrl=url, WaitTimeSeconds=20, MessageAttributeNames=["All"])["Messages"]
    assert message["MessageAttributes"] == attributes


def test_errors_of_topics_are_botocores(world: World) -> None:
    with pytest.raises(world.topics.exceptions.NotFoundException) as caught:
        world.topics.publish(TopicArn="arn:aws:sns:us-east-1:123456789012:nonesuch", Message="x")
    assert caught.value.response["ResponseMetadata"]["RequestId"]
    with pytest.raises(world.topics.exceptions.InvalidParameterException):
        world.topics.create_topic(Name="a b")
    with pytest.raises(ClientError, match="not implemented by Lambent yet"):
        world.topics.list_phone_numbers_opted_out()


def test_a_letter_is_sent(world: World) -> None:
    sent = world.mail.send_email(
        Source="shop@example.com",
        Destination={"ToAddresses": ["bob@example.org"]},
        Message={"Subject": {"Data": "Welcome"}, "Body": {"Text": {"Data": "Hello, Bob."}}},
    )
    assert sent["MessageId"]
    letter = wait_for(lambda: next((text for text in letters(world) if "Hello, Bob." in text), None))
    assert "X-Envelope-To: bob@example.org" in letter


def test_mail_that_arrives_runs_a_function(world: World) -> None:
    function = world.keeper("on-mail")
    world.mail.create_receipt_rule_set(RuleSetName="main")
    rule = {
        "Name": "orders",
        "Enabled": True,
        "Recipients": ["orders@example.com"],
        "Actions": [{"LambdaAction": {"FunctionArn": function}}],
    }
    world.mail.create_receipt_rule(RuleSetName="main", Rule=rule)
    world.mail.set_active_receipt_rule_set(RuleSetName="main")
    with smtplib.SMTP("127.0.0.1", world.mail_port, timeout=10) as session:
        text = "From: ada@example.org\r\nTo: orders@example.com\r\nSubject: One\r\n\r\nPlease.\r\n"
        session.sendmail("ada@example.org", ["orders@example.com"], text)
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            session.sendmail("ada@example.org", ["bob@elsewhere.org"], text)
    (event,) = world.taken("on-mail")
    assert event["Records"][0]["ses"]["mail"]["commonHeaders"]["subject"] == "One"


def test_a_push_runs_a_function_once(world: World) -> None:
    function = world.keeper("on-push")
    settings = {"kind": "github", "target": function, "secret": "a-secret-of-github", "types": ["push"]}
    shown = world.own("PUT", "/_lambent/hook-settings/shop", settings)
    body = json.dumps({"ref": "refs/heads/main", "after": "1" * 40}).encode()
    headers = {
        "x-github-event": "push",
        "x-github-delivery": "d-1",
        "x-hub-signature-256": "sha256=" + hmac.digest(b"a-secret-of-github", body, "sha256").hex(),
        "content-type": "application/json",
    }
    counts = []
    for _ in range(2):
        with urllib.request.urlopen(urllib.request.Request(shown["url"], data=body, headers=headers)) as response:
            assert response.status == 202
            counts.append(json.load(response))
    assert [count["accepted"] for count in counts] == [1, 0]
    (event,) = world.taken("on-push")
    assert (event["source"], event["detail"]["branch"]) == ("git.github", "main")
    headers["x-hub-signature-256"] = "sha256=" + "0" * 64
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(shown["url"], data=body, headers=headers))
    with caught.value as refused:
        assert refused.code == 401


def test_a_git_push_to_a_local_repository_runs_a_function(world: World, tmp_path: Path) -> None:
    world.keeper("on-git-push")
    run = Runner(world, tmp_path)
    said = run(LAMBENT, "hooks", "add", "local", "--kind", "git", "--function", "on-git-push", "--type", "push")
    secret = tmp_path / "secret"
    secret.write_text(said.stderr.partition("told this once: ")[2].split()[0])
    secret.chmod(0o600)
    run("git", "init", "--bare", "--initial-branch=main", "shop.git")
    script = tmp_path / "shop.git" / "hooks" / "post-receive"
    script.write_text(run(LAMBENT, "hooks", "script", "local", "--secret-file", str(secret)).stdout)
    script.chmod(0o755)
    run("git", "clone", "shop.git", "work")
    (tmp_path / "work" / "file").write_text("1")
    run("git", "-C", "work", "add", "file")
    run("git", "-C", "work", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-m", "one")
    pushed = run("git", "-C", "work", "push", "origin", "main")
    assert "was not told" not in pushed.stderr
    (event,) = world.taken("on-git-push")
    head = run("git", "-C", "work", "rev-parse", "HEAD").stdout.strip()
    detail = event["detail"]
    run("git", "-C", "work", "push", "origin", 'main:quo"ted')
    assert world.taken("on-git-push", 2)[1]["detail"]["branch"] == 'quo"ted'
    assert (detail["repository"]["name"], detail["branch"], detail["after"]) == ("shop", "main", head)
    assert detail["repository"]["clone_url"] == str(tmp_path / "shop.git")
    assert "local" in run(LAMBENT, "hooks", "ls").stdout
    run(LAMBENT, "hooks", "rm", "local")
    assert "was not told" in run("git", "-C", "work", "push", "origin", "main:again").stderr


class Runner:
    """Programs in a folder, with what the command line needs to find the node."""

    def __init__(self, world: World, folder: Path) -> None:
        self._folder = folder
        self._environ = {
            **os.environ,
            "LAMBENT_DATA_DIR": str(world.node.data_dir),
            "LAMBENT_ENDPOINT": world.node.endpoint,
            "GIT_CONFIG_GLOBAL": "/dev/null",
        }

    def __call__(self, *command: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=self._folder, env=self._environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done


def test_the_node_is_well_after_all_this(world: World) -> None:
    assert ask(world.functions, "/_lambent/status")["version"]

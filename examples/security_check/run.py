"""A container that starts is scanned, and who is on duty hears of it: `python examples/security_check/run.py`."""

from __future__ import annotations

import email
import email.policy
import json
import sys
import urllib.error
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from stage import EXAMPLES, Stage, open_stage, post, say, wait_for  # noqa: E402

GOOD = {"name": "web", "image": "shop/web:1.4.2", "config": {"user": "1000", "privileged": False, "mounts": []}}
BAD = {
    "name": "miner",
    "image": "miner:latest",
    "config": {
        "user": "root",
        "privileged": True,
        "network_mode": "host",
        "mounts": [{"source": "/", "target": "/host", "writable": True}],
    },
}


def main() -> dict[str, Any]:
    """The alert that was mailed, the findings that lie in the queue, and the status of a report that was not signed."""
    with open_stage() as stage:
        say("1. A function that scans, and a hook at which container runtimes report (CloudEvents)")
        stage.deploy(EXAMPLES / "security_check" / "scan", "--timeout", "20", "--memory", "256")
        said = stage.run("lambent", "hooks", "add", "runtime", "--kind", "cloudevents", "--function", "scan")
        url, secret = said.split()[0], said.partition("told this once: ")[2].split()[0]
        say("2. Findings on the bus: all into a queue, the serious ones to who is on duty")
        queue = wire_up(stage)
        say("3. Two containers start")
        for number, container in enumerate((GOOD, BAD)):
            post(url, write_event(number, container), headers(secret))
        alert = wait_for(lambda: find_alert(stage), "the alert")
        findings = wait_for(lambda: take_findings(stage, queue, 5), "the findings")
        print(alert.splitlines()[0], flush=True)
        for finding in findings:
            print(f"{finding['severity']:6} {finding['rule']:17} {finding['container']}", flush=True)
        say("4. A report without the secret")
        try:
            post(url, write_event(2, BAD), headers("guessed"))
            status = 202
        except urllib.error.HTTPError as refused:
            with refused:
                status = refused.code
        print(f"refused with {status}", flush=True)
        return {"alert": alert, "findings": findings, "status": status}


def wire_up(stage: Stage) -> str:
    buses, topics, queues = stage.client("events"), stage.client("sns"), stage.client("sqs")
    queue: str = queues.create_queue(QueueName="findings")["QueueUrl"]
    arn = queues.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = topics.create_topic(Name="on-duty")["TopicArn"]
    topics.subscribe(TopicArn=topic, Protocol="email", Endpoint="duty@example.com")
    letter = wait_for(lambda: next(iter(read_letters(stage)), None), "the letter that asks")
    link = next(word for word in letter.split() if word.startswith("http"))
    stage.run("curl", "--silent", "--fail", link, quiet=True)
    found = {"source": ["security.containers"]}
    buses.put_rule(Name="all-findings", EventPattern=json.dumps(found))
    buses.put_targets(Rule="all-findings", Targets=[{"Id": "queue", "Arn": arn, "InputPath": "$.detail"}])
    buses.put_rule(Name="serious", EventPattern=json.dumps({**found, "detail": {"severity": ["HIGH"]}}))
    shown = {"container": "$.detail.container", "text": "$.detail.text"}
    transformer = {"InputPathsMap": shown, "InputTemplate": '"ALERT <container>: <text>"'}
    buses.put_targets(Rule="serious", Targets=[{"Id": "duty", "Arn": topic, "InputTransformer": transformer}])
    return queue


def write_event(number: int, container: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": str(number),
        "source": "/runtimes/host-7",
        "type": "container.start",
        "data": {"action": "start", **container},
    }


def headers(secret: str) -> dict[str, str]:
    return {"content-type": "application/cloudevents+json", "authorization": f"Bearer {secret}"}


def read_letters(stage: Stage) -> list[str]:
    parsed = [email.message_from_string(text, policy=email.policy.default) for text in stage.letters()]
    return [letter.get_content() for letter in parsed]


def find_alert(stage: Stage) -> str | None:
    """Of the two that are sent, in no fixed order."""
    return next((text for text in read_letters(stage) if "ALERT miner: It runs privileged" in text), None)


def take_findings(stage: Stage, queue: str, count: int) -> list[dict[str, Any]] | None:
    found = stage.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=0)
    messages = found.get("Messages", [])
    return [json.loads(message["Body"]) for message in messages] if len(messages) >= count else None


if __name__ == "__main__":
    main()

"""Works through orders in batches. What fails is told by its number, so that the rest is done and it comes again."""

import json
import os

import boto3

topics = boto3.client("sns")


def handler(event, context):
    failures = []
    for record in event["Records"]:
        try:
            order = json.loads(record["body"])
            total = sum(line["price"] * line["count"] for line in order["lines"])
            topics.publish(TopicArn=os.environ["DONE"], Message=json.dumps({"order": order["id"], "total": total}))
        except (ValueError, KeyError, TypeError) as exc:
            print(f"order of message {record['messageId']}: {exc!r}")
            failures.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failures}

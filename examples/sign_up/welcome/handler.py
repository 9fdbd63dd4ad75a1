"""Welcomes who signed up: one letter for each row that was inserted."""

import os

import boto3

mail = boto3.client("ses")


def handler(event, context):
    for record in event["Records"]:
        user = record["postgres"]["new"]
        mail.send_email(
            Source=os.environ["SENDER"],
            Destination={"ToAddresses": [user["email"]]},
            Message={
                "Subject": {"Data": f"Welcome, {user['name']}"},
                "Body": {
                    "Text": {"Data": f"Hello {user['name']},\n\nyou are number {user['id']}. It is good to have you.\n"}
                },
            },
        )

"""A chat: who is there is kept in a bucket, so that any environment of the function knows it."""

import json
import os

import boto3

BUCKET = os.environ["BUCKET"]
PREFIX = "here/"
s3 = boto3.client("s3")


def handler(event, context):
    request = event["requestContext"]
    connection, route = request["connectionId"], request["routeKey"]
    if route == "$connect":
        name = (event.get("queryStringParameters") or {}).get("name", "")
        if not name:
            return {"statusCode": 400}
        s3.put_object(Bucket=BUCKET, Key=PREFIX + connection, Body=name.encode())
        return {"statusCode": 200}
    if route == "$disconnect":
        name = name_of(connection)
        s3.delete_object(Bucket=BUCKET, Key=PREFIX + connection)
        tell_all(request, {"left": name})
        return None
    body = json.loads(event["body"])
    if route == "say":
        tell_all(request, {"from": name_of(connection), "text": body["text"]})
        return None
    return {"statusCode": 200, "body": json.dumps({"error": f"There is no action {body.get('action')!r}."})}


def name_of(connection):
    return s3.get_object(Bucket=BUCKET, Key=PREFIX + connection)["Body"].read().decode()


def tell_all(request, message):
    management = boto3.client(
        "apigatewaymanagementapi",
        endpoint_url=f"{os.environ['AWS_ENDPOINT_URL']}/_lambent/api/{request['apiId']}/{request['stage']}",
    )
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=PREFIX):
        for entry in page.get("Contents", []):
            connection = entry["Key"].removeprefix(PREFIX)
            try:
                management.post_to_connection(ConnectionId=connection, Data=json.dumps(message).encode())
            except management.exceptions.GoneException:
                s3.delete_object(Bucket=BUCKET, Key=entry["Key"])

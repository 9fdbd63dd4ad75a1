"""A build for each push: clone, run the tests, tell everybody who subscribed."""

import json
import os
import subprocess
import time

import boto3

topics = boto3.client("sns")


def handler(event, context):
    push = event["detail"]
    if push["deleted"]:
        return {"state": "skipped"}
    folder = f"/tmp/{push['after'][:12]}"
    began = time.monotonic()
    state, output = build(push, folder, context.get_remaining_time_in_millis() / 1000 - 2)
    status = {
        "repository": push["repository"]["name"],
        "branch": push["branch"],
        "commit": push["after"],
        "state": state,
        "seconds": round(time.monotonic() - began, 1),
        "output": output[-4000:],
    }
    topics.publish(
        TopicArn=os.environ["STATUS_TOPIC"],
        Subject=f"{status['repository']} {status['branch']} {status['commit'][:7]}: {state}",
        Message=json.dumps(status),
        MessageAttributes={"state": {"DataType": "String", "StringValue": state}},
    )
    return status


def build(push, folder, seconds):
    """(state, output): `success`, `failure` of the tests, or `error` of everything else."""
    clone = ["git", "clone", "--quiet", "--depth", "20", "--branch", push["branch"], os.environ["CLONE_URL"], folder]
    try:
        run(["rm", "-rf", folder], seconds)
        run(clone, seconds)
        run(["git", "-C", folder, "checkout", "--quiet", push["after"]], seconds)
    except subprocess.CalledProcessError as exc:
        return "error", exc.output
    try:
        return "success", run(["python3", "-m", "unittest", "discover", "--verbose"], seconds, cwd=folder)
    except subprocess.CalledProcessError as exc:
        return "failure", exc.output
    except subprocess.TimeoutExpired:
        return "error", "The tests took too long."


def run(command, seconds, cwd=None):
    done = subprocess.run(
        command, cwd=cwd, timeout=seconds, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.stdout

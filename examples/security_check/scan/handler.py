"""Looks at the configuration of a container that starts, and puts what it finds on the bus."""

import json

import boto3

bus = boto3.client("events")

RULES = [
    ("privileged", "HIGH", lambda c: c.get("privileged"), "It runs privileged: it is root on the host."),
    ("host-mount", "HIGH", lambda c: any(is_host(m) for m in c.get("mounts", [])), "It can write to the host's files."),
    (
        "docker-socket",
        "HIGH",
        lambda c: any("docker.sock" in m["source"] for m in c.get("mounts", [])),
        "It commands the runtime.",
    ),
    ("host-network", "MEDIUM", lambda c: c.get("network_mode") == "host", "It shares the host's network."),
    ("added-capability", "MEDIUM", lambda c: c.get("capabilities_added"), "It was given capabilities."),
    ("root-user", "LOW", lambda c: c.get("user") in ("", "root", "0"), "It runs as root within."),
    (
        "latest-image",
        "LOW",
        lambda c: c["image"].endswith(":latest") or ":" not in c["image"],
        "Its image has no version.",
    ),
]


def is_host(mount):
    return mount.get("writable") and mount["source"] in ("/", "/etc", "/var", "/usr", "/root")


def handler(event, context):
    data = event["data"]
    config = {**data.get("config", {}), "image": data.get("image", "")}
    findings = [(rule, severity, text) for rule, severity, holds, text in RULES if holds(config)]
    entries = [
        {
            "Source": "security.containers",
            "DetailType": "Finding",
            "Detail": json.dumps(
                {
                    "rule": rule,
                    "severity": severity,
                    "text": text,
                    "container": data.get("name"),
                    "image": data.get("image"),
                }
            ),
        }
        for rule, severity, text in findings
    ]
    for at in range(0, len(entries), 10):
        answer = bus.put_events(Entries=entries[at : at + 10])
        if answer["FailedEntryCount"]:
            raise RuntimeError(answer["Entries"])
    return [rule for rule, _, _ in findings]

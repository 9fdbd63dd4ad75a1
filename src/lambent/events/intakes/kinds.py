"""The kinds of hooks: how each is signed and how it is read. A further kind is a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.events.intakes import cloud_events, git, signatures, webhooks
from lambent.events.intakes.hooks import Hook, Incoming
from lambent.events.intakes.signatures import Verify

Read = Callable[[Hook, HttpRequest], list[Incoming] | HttpResponse]
"""What a verified request reports, or what to answer it with at once. Raises CallerError."""


class Kind(NamedTuple):
    sender: str
    """For people."""
    verify: Verify
    read: Read


def _alone(read: Callable[[HttpRequest], list[Incoming]]) -> Read:
    return lambda _hook, request: read(request)


KINDS: dict[str, Kind] = {
    "github": Kind("GitHub", signatures.verify_github, _alone(git.read_github)),
    "gitea": Kind("Gitea or Forgejo", signatures.verify_github, _alone(git.read_github)),
    "gitlab": Kind("GitLab", signatures.verify_gitlab, _alone(git.read_gitlab)),
    "git": Kind("a post-receive script", signatures.verify_lambent, _alone(git.read_post_receive)),
    "stripe": Kind("Stripe", signatures.verify_stripe, webhooks.read_stripe),
    "slack": Kind("Slack", signatures.verify_slack, webhooks.read_slack),
    "standard": Kind("a sender of Standard Webhooks", signatures.verify_standard, webhooks.read_standard),
    "hmac": Kind("a sender that signs the body", signatures.verify_custom, webhooks.read_custom),
    "cloudevents": Kind("a sender of CloudEvents", signatures.verify_bearer, _alone(cloud_events.read_cloud_events)),
    "s3": Kind("an S3-compatible store", signatures.verify_bearer, webhooks.read_s3),
}

"""Filter policies: which messages a subscription takes (developer guide, "Amazon SNS message filtering")."""

from __future__ import annotations

from lambent.events.topics.model import Message, Subscription
from lambent.model.errors import CallerError

SCOPES = ("MessageAttributes", "MessageBody")


def check_filter_policy(policy: str, scope: str) -> None:
    """Raises CallerError `InvalidParameter`, naming what is wrong with the policy."""
    raise CallerError("InvalidParameter", "Invalid parameter: FilterPolicy: not implemented by Lambent yet")


def takes(subscription: Subscription, message: Message) -> bool:
    return True

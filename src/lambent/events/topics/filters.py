"""Filter policies: which messages a subscription takes (developer guide, "Amazon SNS message filtering")."""

from __future__ import annotations

from functools import lru_cache

from lambent.events.patterns import Policy, compile_policy
from lambent.events.topics.model import Message, Subscription

SCOPES = ("MessageAttributes", "MessageBody")
_COMPILED = 4096


def check_filter_policy(policy: str, scope: str) -> None:
    """Raises CallerError `InvalidParameter`, naming what is wrong with the policy."""
    _compile(policy, scope)


def takes(subscription: Subscription, message: Message) -> bool:
    policy = subscription.attributes.get("FilterPolicy")
    if not policy:
        return True
    compiled = _compile(policy, subscription.attributes.get("FilterPolicyScope", SCOPES[0]))
    attributes = {name: (attribute.type, attribute.value) for name, attribute in message.attributes.items()}
    return compiled.matches(attributes, message.body_for(subscription.protocol))


@lru_cache(maxsize=_COMPILED)
def _compile(policy: str, scope: str) -> Policy:
    return compile_policy(policy, scope)

"""Attributes of topics and subscriptions: which there are, and what they may be (API reference, SetTopicAttributes)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lambent.events.topics.filters import SCOPES, check_filter_policy
from lambent.model.errors import CallerError

TOPIC_ATTRIBUTES = frozenset(
    {"DisplayName", "Policy", "DeliveryPolicy", "FifoTopic", "ContentBasedDeduplication", "FifoThroughputScope"}
)
REFUSED_TOPIC_ATTRIBUTES = {
    "KmsMasterKeyId": "Lambent has no key management service; its data folder lies on your own disk",
    "SignatureVersion": "Lambent does not sign messages",
    "TracingConfig": "traces are always passed on",
    "ArchivePolicy": "topics are not archived; archive a bus instead",
}
SUBSCRIPTION_ATTRIBUTES = frozenset(
    {"DeliveryPolicy", "FilterPolicy", "FilterPolicyScope", "RawMessageDelivery", "RedrivePolicy"}
)
LONGEST_DISPLAY_NAME = 100
MOST_RETRIES = 100
LONGEST_DELAY_S = 3600


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`healthyRetryPolicy` of a delivery policy. Delays in seconds."""

    num_retries: int = 3
    min_delay_target: int = 20
    max_delay_target: int = 20
    num_no_delay_retries: int = 0
    num_min_delay_retries: int = 0
    num_max_delay_retries: int = 0
    backoff_function: str = "linear"

    def check(self) -> None:
        counts = (self.num_no_delay_retries, self.num_min_delay_retries, self.num_max_delay_retries)
        if not 0 <= self.num_retries <= MOST_RETRIES or min(counts) < 0 or sum(counts) > self.num_retries:
            raise invalid(f"DeliveryPolicy: numRetries must be 0 to {MOST_RETRIES} and hold the other counts")
        if not 1 <= self.min_delay_target <= self.max_delay_target <= LONGEST_DELAY_S:
            raise invalid(f"DeliveryPolicy: 1 <= minDelayTarget <= maxDelayTarget <= {LONGEST_DELAY_S} must hold")
        if self.backoff_function not in ("linear", "arithmetic", "geometric", "exponential"):
            raise invalid("DeliveryPolicy: backoffFunction must be linear, arithmetic, geometric or exponential")

    def wait_s(self, attempts: int) -> float | None:
        """Seconds until the next attempt after `attempts` that failed; None when they are used up."""
        retry = attempts - 1
        if retry >= self.num_retries:
            return None
        if retry < self.num_no_delay_retries:
            return 0.0
        if retry < self.num_no_delay_retries + self.num_min_delay_retries:
            return float(self.min_delay_target)
        if retry >= self.num_retries - self.num_max_delay_retries:
            return float(self.max_delay_target)
        first = self.num_no_delay_retries + self.num_min_delay_retries
        between = self.num_retries - self.num_max_delay_retries - first
        share = (retry - first) / max(1, between - 1)
        low, high = self.min_delay_target, self.max_delay_target
        if self.backoff_function in ("geometric", "exponential"):
            return float(low * (high / low) ** share)
        return low + (high - low) * share


def check_topic_attribute(name: str, value: str, *, is_fifo: bool, created: bool) -> None:
    """Raises CallerError `InvalidParameter`. `created`: the topic is there already."""
    if name in REFUSED_TOPIC_ATTRIBUTES:
        raise invalid(f"AttributeName: {name} is not supported: {REFUSED_TOPIC_ATTRIBUTES[name]}")
    if name not in TOPIC_ATTRIBUTES or (name == "FifoTopic" and created):
        raise invalid(f"AttributeName: {name} is not an attribute that can be set")
    if name == "DisplayName" and len(value) > LONGEST_DISPLAY_NAME:
        raise invalid(f"DisplayName must have {LONGEST_DISPLAY_NAME} characters or less")
    if name in ("FifoTopic", "ContentBasedDeduplication"):
        check_boolean(name, value)
    if name == "ContentBasedDeduplication" and value == "true" and not is_fifo:
        raise invalid("ContentBasedDeduplication is an attribute of FIFO topics")
    if name == "FifoThroughputScope" and value not in ("Topic", "MessageGroup"):
        raise invalid("FifoThroughputScope must be Topic or MessageGroup")
    if name in ("Policy", "DeliveryPolicy") and value:
        read_object(name, value)


def check_subscription_attribute(name: str, value: str, attributes: Mapping[str, str], *, protocol: str) -> None:
    """Raises CallerError. `attributes` are the others of the subscription."""
    if name not in SUBSCRIPTION_ATTRIBUTES:
        raise invalid(f"AttributeName: {name} is not an attribute of subscriptions that can be set")
    if name == "RawMessageDelivery":
        check_boolean(name, value)
        if value == "true" and protocol not in ("sqs", "http", "https"):
            raise invalid(f"RawMessageDelivery is not for the protocol {protocol}")
    if name == "FilterPolicyScope" and value not in SCOPES:
        raise invalid("FilterPolicyScope must be MessageAttributes or MessageBody")
    if name == "FilterPolicy" and value:
        check_filter_policy(value, attributes.get("FilterPolicyScope", "MessageAttributes"))
    if name == "FilterPolicyScope" and attributes.get("FilterPolicy"):
        check_filter_policy(attributes["FilterPolicy"], value)
    if name == "RedrivePolicy" and value:
        dead_letter_queue(value)
    if name == "DeliveryPolicy" and value:
        if protocol not in ("http", "https"):
            raise invalid(f"DeliveryPolicy is not for the protocol {protocol}")
        read_retry_policy(value)


def dead_letter_queue(redrive_policy: str) -> str:
    """The ARN in a RedrivePolicy."""
    target = read_object("RedrivePolicy", redrive_policy).get("deadLetterTargetArn")
    if not isinstance(target, str) or not target.startswith("arn:aws:sqs:"):
        raise invalid("RedrivePolicy: deadLetterTargetArn must be the ARN of a queue")
    return target


def read_retry_policy(delivery_policy: str) -> RetryPolicy:
    """Of a topic (`http.defaultHealthyRetryPolicy`) or of a subscription (`healthyRetryPolicy`)."""
    document = read_object("DeliveryPolicy", delivery_policy)
    http = document.get("http")
    of_topic = http.get("defaultHealthyRetryPolicy") if isinstance(http, dict) else None
    try:
        policy = msgspec.convert(document.get("healthyRetryPolicy") or of_topic or {}, RetryPolicy)
    except msgspec.ValidationError as exc:
        raise invalid(f"DeliveryPolicy: {exc}") from exc
    policy.check()
    return policy


def read_object(name: str, value: str) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(value)
    except (ValueError, RecursionError) as exc:
        raise invalid(f"{name}: failed to parse JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise invalid(f"{name}: must be a JSON object")
    return document


def check_boolean(name: str, value: str) -> None:
    if value not in ("true", "false"):
        raise invalid(f"{name} must be true or false")


def invalid(message: str) -> CallerError:
    return CallerError("InvalidParameter", f"Invalid parameter: {message}")


def not_found(what: str, code: str = "NotFound") -> CallerError:
    return CallerError(code, f"{what} does not exist", status=404)

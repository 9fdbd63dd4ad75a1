"""What a mapping of a queue may say, and where the queue is.

`arn:aws:sqs:REGION:ACCOUNT:NAME` is an own queue when ACCOUNT is the mapping's own account. Otherwise it is one of
the connection in lambent.toml whose `account` it is: `url`, `region`, `access_key_id`, `secret_access_key`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from lambent.events.mappings.sources.ports import Configuration, Connections, Rules, Values, split_source
from lambent.model.errors import CallerError

_TAKES = frozenset({"FunctionResponseTypes", "ScalingConfig"})
STANDARD = Rules(takes=_TAKES, default_batch_size=10, free_batch_size=10)
FIFO = Rules(takes=_TAKES, default_batch_size=10, max_batch_size=10, max_window_s=0)

Exists = Callable[[str, str], Awaitable[bool]]


class External(msgspec.Struct, frozen=True, kw_only=True):
    """A queue at another endpoint."""

    url: str
    region: str
    access_key_id: str
    secret_access_key: str
    name: str

    def __repr__(self) -> str:
        return f"External(url={self.url!r}, name={self.name!r})"


def claims(values: Values) -> bool:
    return split_source(values.get("EventSourceArn", ""))[0] == "sqs"


def rules(values: Values) -> Rules:
    return FIFO if values["EventSourceArn"].endswith(".fifo") else STANDARD


def read_external(configuration: Configuration, connections: Connections) -> External | None:
    """None for an own queue. Raises CallerError `InvalidParameterValueException`."""
    _, region, account, name = split_source(configuration.source_arn)
    if not name or "/" in name or ":" in name:
        raise _invalid(f"'{configuration.source_arn}' is not the ARN of a queue.")
    if account == configuration.account:
        if region != configuration.region:
            raise _invalid(f"The queue {configuration.source_arn} is of another region than the function.")
        return None
    for connection in connections.values():
        granted = connection.get("accounts", configuration.account).replace(",", " ").split()
        if connection.get("account") == account and "url" in connection and configuration.account in granted:
            return External(
                url=connection["url"].rstrip("/"),
                region=connection.get("region") or region,
                access_key_id=connection.get("access_key_id", ""),
                secret_access_key=connection.get("secret_access_key", ""),
                name=name,
            )
    raise _invalid(
        f"The queue {configuration.source_arn} belongs to another account, and lambent.toml names "
        f'no connection with account = "{account}" for this one.'
    )


def make_check(exists: Exists) -> Callable[[Configuration, Connections], Awaitable[None]]:
    async def check(configuration: Configuration, connections: Connections) -> None:
        if read_external(configuration, connections) is None and not await exists(
            configuration.account, configuration.source_arn
        ):
            raise _invalid(
                "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. "
                "SQS Error Message: The specified queue does not exist."
            )

    return check


def _invalid(message: str) -> CallerError:
    return CallerError("InvalidParameterValueException", message, members={"Type": "User"})

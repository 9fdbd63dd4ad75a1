"""The operator's `[connections.NAME]`, as the sources read them.

Where a mapping may connect to is the operator's to say: a caller names a connection and never an address, or anyone
with a key could make the node talk to whatever it reaches.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from lambent.events.mappings.sources.ports import Configuration, Connections, Values, missing_extra, split_source
from lambent.model.errors import CallerError

Connection = Mapping[str, str]


def refuse(message: str) -> CallerError:
    return CallerError("InvalidParameterValueException", message, members={"Type": "User"})


def names_service(values: Values, service: str) -> bool:
    return split_source(str(values.get("EventSourceArn") or ""))[0] == service


def find_connection(configuration: Configuration, connections: Connections, kind: str, name: str) -> Connection:
    """Raises CallerError InvalidParameterValueException where there is none of that kind for this account."""
    found = connections.get(name)
    if found is None or found.get("kind", kind) != kind or not is_granted(found, configuration.account):
        raise refuse(
            f"EventSourceArn names the connection {name!r}, which this node does not have: "
            f'the operator adds [connections.{name}] kind = "{kind}", url = "..." to lambent.toml.'
        )
    if not found.get("url"):
        raise refuse(f"[connections.{name}] of lambent.toml has no url.")
    return found


def is_granted(connection: Connection, account: str) -> bool:
    accounts = connection.get("accounts", "")
    return not accounts or account in [entry.strip() for entry in accounts.split(",")]


def read_only_queue(configuration: Configuration, meaning: str) -> str:
    """The one string of Queues. `meaning` says what it is for this kind of source."""
    queues = [str(queue) for queue in configuration.values.get("Queues") or ()]
    if len(queues) != 1 or not queues[0].strip():
        raise refuse(f"Queues takes exactly one entry for this event source: {meaning}.")
    return queues[0].strip()


def require_extra(module: str, extra: str) -> None:
    """Raises CallerError where the client library is not installed, in the one line that names it."""
    if importlib.util.find_spec(module) is None:
        raise refuse(str(missing_extra(extra)))


def consumer_name(configuration: Configuration) -> str:
    """Of groups, durable consumers, sessions and slots: nobody else's, and the same after every restart."""
    return f"lambent-{configuration.uuid}"

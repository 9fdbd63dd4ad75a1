"""An API of API Gateway's second version, with all that belongs to it, as one document.

Collection `http_apis`, key ACCOUNT/APIID. What the contract calls a route, an integration, a stage is kept as the
contract shows it (API reference, "Amazon API Gateway Version 2"): a dict of its members. What is served is a
deployment: a copy of what was configured when it was made.
"""

from __future__ import annotations

from typing import Any

import msgspec

COLLECTION = "http_apis"
HTTP, WEBSOCKET = "HTTP", "WEBSOCKET"

Members = dict[str, Any]


class Configuration(msgspec.Struct, kw_only=True):
    """What a deployment copies."""

    routes: dict[str, Members] = {}
    integrations: dict[str, Members] = {}
    authorizers: dict[str, Members] = {}
    route_responses: dict[str, dict[str, Members]] = {}
    """By route, then by their own ids."""
    integration_responses: dict[str, dict[str, Members]] = {}
    """By integration, then by their own ids."""


class Api(msgspec.Struct, kw_only=True):
    account: str
    region: str
    api_id: str
    protocol: str
    settings: Members
    """Name, Description, CorsConfiguration, RouteSelectionExpression, ..."""
    created_at: str
    tags: dict[str, str] = {}
    configuration: Configuration = msgspec.field(default_factory=Configuration)
    models: dict[str, Members] = {}
    stages: dict[str, Members] = {}
    deployments: dict[str, Members] = {}
    snapshots: dict[str, Configuration] = {}
    """By deployment."""

    @property
    def key(self) -> str:
        return f"{self.account}/{self.api_id}"

    def served(self, stage: str) -> Configuration | None:
        """What a stage serves; None for a stage that is not there or has no deployment."""
        members = self.stages.get(stage)
        return self.snapshots.get(members.get("DeploymentId", "")) if members is not None else None

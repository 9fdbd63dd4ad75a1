"""An API of API Gateway's first version, with all that belongs to it.

Collection `rest_apis`, key ACCOUNT/APIID. What the contract calls a resource, a method, a stage is kept as the contract
shows it (API reference, "Amazon API Gateway"): a dict of its members. What is served is a deployment: a copy of what
was configured when it was made, in a collection of its own, since there are many and a change of the API touches none.
"""

from __future__ import annotations

from typing import Any

import msgspec

COLLECTION, DEPLOYMENTS = "rest_apis", "rest_api_deployments"

Members = dict[str, Any]

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "ANY")


class Configuration(msgspec.Struct, kw_only=True):
    """What a deployment copies."""

    settings: Members = {}
    """name, description, binaryMediaTypes, minimumCompressionSize, apiKeySource, policy, ..."""
    resources: dict[str, Members] = {}
    """id, parentId, pathPart, path, resourceMethods."""
    authorizers: dict[str, Members] = {}
    models: dict[str, Members] = {}
    """By name."""
    validators: dict[str, Members] = {}
    gateway_responses: dict[str, Members] = {}
    """By response type."""


class RestApi(msgspec.Struct, kw_only=True):
    account: str
    region: str
    api_id: str
    created_at: str
    tags: dict[str, str] = {}
    configuration: Configuration = msgspec.field(default_factory=Configuration)
    stages: dict[str, Members] = {}
    deployments: dict[str, Members] = {}

    @property
    def settings(self) -> Members:
        return self.configuration.settings

    @property
    def root(self) -> Members:
        return next(resource for resource in self.configuration.resources.values() if resource["path"] == "/")

    def snapshot_key(self, deployment: str) -> str:
        return f"{self.account}/{self.api_id}/{deployment}"


class Snapshot(msgspec.Struct, kw_only=True):
    """A deployment as it is served."""

    account: str
    api_id: str
    deployment_id: str
    configuration: Configuration

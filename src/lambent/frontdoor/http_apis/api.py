"""All operations of API Gateway's second version: HTTP APIs, and what WebSocket APIs are configured with."""

from __future__ import annotations

from collections.abc import Mapping

from lambent.awsapi.context import Operation
from lambent.frontdoor.http_apis.apis import Address, ApiOperations
from lambent.frontdoor.http_apis.definition_operations import DefinitionOperations
from lambent.frontdoor.http_apis.part_operations import part_operations
from lambent.frontdoor.http_apis.stages import StageOperations
from lambent.substrate.ports import Documents


def http_api_operations(documents: Documents, address: Address) -> Mapping[str, Operation]:
    """By the model's names."""
    return {
        **ApiOperations(documents, address).operations(),
        **DefinitionOperations(documents, address).operations(),
        **part_operations(documents),
        **StageOperations(documents).operations(),
    }

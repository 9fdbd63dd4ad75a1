"""All operations of API Gateway's first version."""

from __future__ import annotations

from collections.abc import Mapping

from lambent.awsapi.context import Operation
from lambent.frontdoor.rest_apis.apis import ApiOperations
from lambent.frontdoor.rest_apis.definition_operations import Address, DefinitionOperations
from lambent.frontdoor.rest_apis.parts import PartOperations
from lambent.frontdoor.rest_apis.quotas import Quotas
from lambent.frontdoor.rest_apis.resources import ResourceOperations
from lambent.frontdoor.rest_apis.stages import StageOperations
from lambent.frontdoor.rest_apis.usage import UsageOperations
from lambent.substrate.ports import Documents


def rest_api_operations(documents: Documents, quotas: Quotas, address: Address) -> Mapping[str, Operation]:
    """By the model's names."""
    return {
        **ApiOperations(documents).operations(),
        **DefinitionOperations(documents, address).operations(),
        **ResourceOperations(documents).operations(),
        **PartOperations(documents).operations(),
        **StageOperations(documents).operations(),
        **UsageOperations(documents, quotas).operations(),
    }

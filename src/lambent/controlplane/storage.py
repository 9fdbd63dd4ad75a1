"""How much code an account keeps, against the contract's quota."""

from __future__ import annotations

from lambent.controlplane.refusals import storage_exceeded
from lambent.controlplane.registry import Registry

TOTAL_CODE_BYTES = 80_530_636_800
"""75 GB for all versions and layers together (developer guide, "Lambda quotas")."""


async def measure_code(registry: Registry, account: str) -> int:
    """Bytes of zips, each version and layer version counted, as the contract counts them."""
    versions = await registry.versions(account)
    layers = await registry.layers(account)
    used = sum(stored.value.code_size for stored in versions)
    return used + sum(stored.value.code_size for stored in layers if not stored.value.deleted)


async def check_room(registry: Registry, account: str, code_size: int) -> None:
    """Raises CallerError `CodeStorageExceededException`."""
    if await measure_code(registry, account) + code_size > TOTAL_CODE_BYTES:
        raise storage_exceeded()

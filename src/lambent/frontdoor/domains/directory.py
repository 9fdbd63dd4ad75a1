"""Which API a request to a custom domain is for: the mapping with the longest path that the request's begins with."""

from __future__ import annotations

from lambent.frontdoor.domains.model import COLLECTION, Domain
from lambent.frontdoor.place import APIS, Place
from lambent.frontdoor.records import Followed
from lambent.substrate.ports import Documents


class DomainDirectory:
    def __init__(self, documents: Documents) -> None:
        self._domains = Followed(documents, COLLECTION, Domain)

    async def start(self) -> None:
        await self._domains.start()

    async def stop(self) -> None:
        await self._domains.stop()

    def find(self, host: str, raw_path: bytes) -> Place | None:
        """Implements the door's `FindDomain`. `*.example.com` is good for one level."""
        domain = self._domains.get(host) or self._domains.get("*." + host.partition(".")[2])
        if domain is None:
            return None
        best: dict[str, str] | None = None
        for mapping in domain.mappings.values():
            if _begins(raw_path, mapping["ApiMappingKey"]) and (
                best is None or len(mapping["ApiMappingKey"]) > len(best["ApiMappingKey"])
            ):
                best = mapping
        if best is None:
            # Of the domain, but of nothing in it: no other service answers there.
            return Place(kind=APIS, id="", domain=host)
        key = best["ApiMappingKey"].encode()
        prefix = b"/" + key if key else b""
        return Place(kind=APIS, id=best["ApiId"], prefix=prefix, stage=best["Stage"], domain=host)


def _begins(raw_path: bytes, key: str) -> bool:
    prefix = b"/" + key.encode()
    return not key or raw_path == prefix or raw_path.startswith(prefix + b"/")

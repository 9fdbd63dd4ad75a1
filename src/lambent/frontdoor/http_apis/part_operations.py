"""Create, get, list, update and delete of what belongs to an API of the second version."""

from __future__ import annotations

from collections.abc import Mapping

from lambent.awsapi.context import Operation, RequestContext
from lambent.frontdoor.answers import Params, find
from lambent.frontdoor.http_apis.answers import cut
from lambent.frontdoor.http_apis.deployments import deploy
from lambent.frontdoor.http_apis.model import Api, Members
from lambent.frontdoor.http_apis.parts import PARTS, Part
from lambent.frontdoor.http_apis.store import ApiStore
from lambent.substrate.ports import Documents


def part_operations(documents: Documents) -> Mapping[str, Operation]:
    """By the model's names."""
    store = ApiStore(documents)

    async def delete_request_parameter(context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> None:
            route = find(api.configuration.routes, "Route", params["RouteId"])
            parameters = route.get("RequestParameters", {})
            find(parameters, "RequestParameter", params["RequestParameterKey"])
            del parameters[params["RequestParameterKey"]]
            deploy(api)

        await store.change(context.account, params["ApiId"], work)
        return {}

    operations: dict[str, Operation] = {"DeleteRouteRequestParameter": delete_request_parameter}
    for part in PARTS:
        operations |= _PartOperations(store, part).operations()
    return operations


class _PartOperations:
    def __init__(self, store: ApiStore, part: Part) -> None:
        self._store = store
        self._part = part

    def operations(self) -> dict[str, Operation]:
        name = self._part.name
        return {
            f"Create{name}": self.create,
            f"Get{name}": self.get,
            f"Get{name}s": self.list,
            f"Update{name}": self.update,
            f"Delete{name}": self.delete,
        }

    async def create(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> Members:
            members = self._part.add(api, params)
            self._note_change(api)
            return members

        return await self._store.change(context.account, params["ApiId"], work)

    async def get(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["ApiId"])
        return find(self._part.all(api, params), self._part.name, params[self._part.id_member])

    async def list(self, context: RequestContext, params: Params) -> Params:
        api = await self._store.get(context.account, params["ApiId"])
        page = cut(params, list(self._part.all(api, params).values()), lambda members: members[self._part.id_member])
        return {"Items": page[0], "NextToken": page[1]}

    async def update(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> Members:
            members = self._part.change(api, params)
            self._note_change(api)
            return members

        return await self._store.change(context.account, params["ApiId"], work)

    async def delete(self, context: RequestContext, params: Params) -> Params:
        def work(api: Api) -> None:
            self._part.remove(api, params)
            self._note_change(api)

        await self._store.change(context.account, params["ApiId"], work)
        return {}

    def _note_change(self, api: Api) -> None:
        if self._part.redeploys:
            deploy(api)

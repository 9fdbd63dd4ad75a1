"""The front door of a node: its sites, in every process. What they serve is managed where the state is owned."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from lambent.awsapi.context import Operation, RequestContext
from lambent.dataplane.dispatch.directory import Directory
from lambent.dataplane.sandbox.network.policy import AllowedHost, EgressPolicy
from lambent.frontdoor.access_logs import AccessWriter, Write
from lambent.frontdoor.authorizers.iam import Authenticator
from lambent.frontdoor.domains.api import DomainOperations
from lambent.frontdoor.domains.directory import DomainDirectory
from lambent.frontdoor.domains.first_version import FirstDomainOperations
from lambent.frontdoor.door import FrontDoor
from lambent.frontdoor.forwarded import TrustedProxies
from lambent.frontdoor.function_urls import FunctionUrls
from lambent.frontdoor.functions import Functions
from lambent.frontdoor.http_apis.api import http_api_operations
from lambent.frontdoor.http_apis.directory import ApiDirectory
from lambent.frontdoor.http_apis.model import HTTP, WEBSOCKET
from lambent.frontdoor.http_apis.site import HttpApis
from lambent.frontdoor.place import APIS, write_address
from lambent.frontdoor.rest_apis.api import rest_api_operations
from lambent.frontdoor.rest_apis.directory import RestApiDirectory
from lambent.frontdoor.rest_apis.quotas import Quotas, TakeQuota
from lambent.frontdoor.rest_apis.site import RestApis
from lambent.frontdoor.web_sockets.connections import Connections
from lambent.frontdoor.web_sockets.site import Lifetime, WebSocketApis
from lambent.model.errors import OperatorError
from lambent.model.invocation import Invoker
from lambent.node.config import Settings
from lambent.node.late_http import LateHttp
from lambent.substrate.ports import Documents

SIGNING_NAMES = frozenset(("execute-api",))
"""What requests to the front door are signed for, beside the services' own names."""


def front_door_operations(
    settings: Settings, documents: Documents, quotas: Quotas
) -> dict[str, Mapping[str, Operation]]:
    """By botocore's names of the services."""

    def address(context: RequestContext, api_id: str, protocol: str) -> str:
        url = write_address(APIS, api_id, context.region, host=context.host, public_url=settings.public_url)
        return url.replace("http", "ws", 1) if protocol == WEBSOCKET else url

    domains = DomainOperations(documents)
    return {
        "apigateway": {
            **rest_api_operations(documents, quotas, lambda context, api_id: address(context, api_id, HTTP)),
            **FirstDomainOperations(domains).operations(),
        },
        "apigatewayv2": {**http_api_operations(documents, address), **domains.operations()},
    }


async def open_front_door(
    settings: Settings,
    documents: Documents,
    directory: Directory,
    *,
    invoker: Invoker,
    authenticator: Authenticator,
    connections: Connections,
    take_quota: TakeQuota,
    write_log: Write,
    stack: contextlib.AsyncExitStack,
) -> FrontDoor:
    outgoing = open_outgoing(settings)
    stack.push_async_callback(outgoing.close)
    functions = Functions(directory.resolve, invoker)
    urls = FunctionUrls(documents, resolve=directory.resolve, invoker=invoker, authenticator=authenticator)
    apis = ApiDirectory(documents)
    rest_directory = RestApiDirectory(documents)
    domains = DomainDirectory(documents)
    for part in (urls, apis, rest_directory, domains):
        await part.start()
        stack.push_async_callback(part.stop)
    access = AccessWriter(write_log)
    http_apis = HttpApis(apis, functions=functions, authenticator=authenticator, outgoing=outgoing, access=access)
    rest_apis = RestApis(
        rest_directory,
        functions=functions,
        authenticator=authenticator,
        outgoing=outgoing,
        take_quota=take_quota,
        access=access,
    )
    web_sockets = WebSocketApis(
        apis,
        functions=functions,
        authenticator=authenticator,
        connections=connections,
        access=access,
        lifetime=_lifetime(settings),
    )
    return FrontDoor(
        [urls, http_apis, rest_apis, web_sockets],
        find_domain=domains.find,
        web_sockets=web_sockets,
        proxies=_proxies(settings),
    )


def _proxies(settings: Settings) -> TrustedProxies:
    try:
        return TrustedProxies(settings.http.trusted_proxies)
    except ValueError as exc:
        raise OperatorError(f"http.trusted_proxies: {exc}; write addresses or networks like 10.0.0.0/8.") from exc


def _lifetime(settings: Settings) -> Lifetime:
    given = settings.web_sockets
    return Lifetime(idle_s=given.idle_seconds, longest_s=given.longest_seconds)


def open_outgoing(settings: Settings) -> LateHttp:
    """What the node asks for users, it asks only where their functions might."""
    allowed = tuple(AllowedHost.parse(text) for text in settings.network.allow_hosts)
    policy = EgressPolicy(allow_private=settings.network.allow_private, allow_hosts=allowed)
    return LateHttp(policy, allow_loopback=settings.dev)

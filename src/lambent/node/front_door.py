"""The front door of a node: its sites, in every process. What they serve is managed where the state is owned."""

from __future__ import annotations

import contextlib

from lambent.dataplane.dispatch.directory import Directory
from lambent.frontdoor.door import FrontDoor
from lambent.frontdoor.function_urls import Authenticator, FunctionUrls
from lambent.model.invocation import Invoker
from lambent.substrate.ports import Documents


async def open_front_door(
    documents: Documents,
    directory: Directory,
    invoker: Invoker,
    authenticator: Authenticator,
    stack: contextlib.AsyncExitStack,
) -> FrontDoor:
    urls = FunctionUrls(documents, resolve=directory.resolve, invoker=invoker, authenticator=authenticator)
    await urls.start()
    stack.push_async_callback(urls.stop)
    return FrontDoor([urls])

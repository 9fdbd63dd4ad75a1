"""What an application is, found by looking at it: `main:app` names it where a handler would be named.

An ASGI application is called with (scope, receive, send), one of ASGI 2 with the scope alone; a WSGI application with
(environ, start_response).
"""

from __future__ import annotations

import inspect
from typing import Any, Optional, Union

from lambent.dataplane.runtime.applications.asgi import AsgiHandler
from lambent.dataplane.runtime.applications.azure import AzureHandler, adapt_app
from lambent.dataplane.runtime.applications.google import GoogleHandler, adapt_function
from lambent.dataplane.runtime.applications.wsgi import WsgiHandler

Application = Union[AsgiHandler, WsgiHandler, GoogleHandler, AzureHandler]


def adapt(app: Any) -> Optional[Application]:
    """The application as a handler; None for what is none."""
    azure = adapt_app(app)
    if azure is not None:
        return azure
    if not callable(app):
        return None
    google = adapt_function(app, getattr(app, "__name__", ""))
    if google is not None:
        return google
    if _is_coroutine(app):
        return AsgiHandler(app, is_second_version=False)
    count = _count_parameters(app)
    if count == 3:
        return AsgiHandler(app, is_second_version=False)
    if count == 1:
        return AsgiHandler(app, is_second_version=True)
    if count == 2:
        return WsgiHandler(app)
    return None


def _is_coroutine(app: Any) -> bool:
    if inspect.iscoroutinefunction(app):
        return True
    return not inspect.isclass(app) and inspect.iscoroutinefunction(type(app).__call__)


def _count_parameters(app: Any) -> int:
    """Of those that must be given; -1 where that cannot be told."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return -1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(1 for each in parameters if each.kind in positional and each.default is inspect.Parameter.empty)

"""Finding the handler: `package/module.function` to a callable."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Callable

from lambent.dataplane.runtime import faults
from lambent.dataplane.runtime.applications import recognition, static
from lambent.dataplane.runtime.applications.server import ServerHandler, ServerNotStarted, read_settings
from lambent.dataplane.runtime.applications.static import StaticFiles
from lambent.dataplane.runtime.faults import Fault

STATIC = "lambent_static:"
"""Before the folder that is served without any code."""
Handler = Callable[[Any, Any], Any]

# For functions: the files of this package are out of their sight.
sys.modules.setdefault("lambent_static", static)


class HandlerNotLoaded(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def load_handler(reference: str, *, is_template: bool = False) -> Handler:
    """Raises HandlerNotLoaded with the contract's error document; what is no Exception passes through.

    `module:name` names a web application instead. That of a template starts in its forks.
    """
    if reference.startswith(STATIC):
        return StaticFiles(reference[len(STATIC) :])
    if ":" in reference:
        return _load_application(reference, starts=not is_template)
    module_name, dot, name = reference.rpartition(".")
    if not dot:
        message = "Bad handler '{}': not enough values to unpack (expected 2, got 1)".format(reference)
        raise HandlerNotLoaded(_fault("Runtime.MalformedHandlerName", message))
    if module_name.split(".")[0] in sys.builtin_module_names:
        message = "Cannot use built-in module {} as a handler module".format(module_name)
        raise HandlerNotLoaded(_fault("Runtime.BuiltInModuleConflict", message))
    module = _import(module_name)
    try:
        # One that cannot be called is an error of each invocation, not of the init.
        return getattr(module, name)  # type: ignore[no-any-return]
    except AttributeError as exc:
        message = "Handler '{}' missing on module '{}'".format(name, module_name)
        raise HandlerNotLoaded(_fault("Runtime.HandlerNotFound", message)) from exc
    except Exception as exc:
        raise HandlerNotLoaded(faults.describe(exc, "")) from exc


def _load_application(reference: str, *, starts: bool) -> Handler:
    module_name, _, path = reference.partition(":")
    found: Any = _import(module_name)
    try:
        for name in path.replace("()", "").split("."):
            found = getattr(found, name)
    except AttributeError as exc:
        message = "Application '{}' missing on module '{}'".format(path, module_name)
        raise HandlerNotLoaded(_fault("Runtime.HandlerNotFound", message)) from exc
    try:
        application = recognition.adapt(found() if path.endswith("()") else found)
    except Exception as exc:
        raise HandlerNotLoaded(faults.describe(exc, "")) from exc
    if application is None:
        message = "'{}' is no application that Lambent knows: ASGI, WSGI, functions_framework, azure.functions".format(
            reference
        )
        raise HandlerNotLoaded(_fault("Runtime.HandlerNotFound", message))
    if starts:
        try:
            application.startup()
        except Exception as exc:
            raise HandlerNotLoaded(faults.describe(exc, "")) from exc
    return application


def start_server(program: str, *, shares_loopback: bool, is_template: bool = False) -> Handler:
    """An HTTP server as the handler. Raises HandlerNotLoaded."""
    try:
        handler = ServerHandler(program, read_settings(dict(os.environ), shares_loopback=shares_loopback))
        if not is_template:
            handler.startup()
    except ServerNotStarted as exc:
        raise HandlerNotLoaded(_fault("Runtime.ServerNotStarted", str(exc))) from exc
    return handler


def _import(module_name: str) -> Any:
    try:
        return importlib.import_module(module_name.replace("/", "."))
    except ImportError as exc:
        message = "Unable to import module '{}': {}".format(module_name, exc)
        raise HandlerNotLoaded(_fault("Runtime.ImportModuleError", message)) from exc
    except SyntaxError as exc:
        where = '  File "{}" Line {}\n    {}'.format(exc.filename, exc.lineno, exc.text)
        message = "Syntax error in module '{}': {}".format(module_name, exc)
        raise HandlerNotLoaded(_fault("Runtime.UserCodeSyntaxError", message, [where])) from exc
    except Exception as exc:
        raise HandlerNotLoaded(faults.describe(exc, "")) from exc


def _fault(error_type: str, message: str, stack: Any = ()) -> Fault:
    return Fault(error_type, message, "", list(stack))

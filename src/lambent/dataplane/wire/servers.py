"""Which functions are HTTP servers, started as a program (Lambda Web Adapter's convention). Standard library only."""

from __future__ import annotations

from typing import Mapping

EXEC_WRAPPER = "/opt/bootstrap"
"""What AWS_LAMBDA_EXEC_WRAPPER names where the adapter's layer is attached."""


def is_server(runtime: str, handler: str, variables: Mapping[str, str]) -> bool:
    """A script as the handler, or what people set for the adapter; a `bootstrap` with settings of the adapter's."""
    if handler.endswith(".sh") or variables.get("AWS_LAMBDA_EXEC_WRAPPER") == EXEC_WRAPPER:
        return True
    return runtime.startswith("provided") and any(name.startswith("AWS_LWA_") for name in variables)

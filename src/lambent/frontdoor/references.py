"""What a URI of an integration or an authorizer names."""

from __future__ import annotations

import re

_FUNCTION_ARN = re.compile(
    r"(?:arn:aws[a-z-]*:apigateway:[a-z0-9-]+:lambda:path/20\d\d-\d\d-\d\d/functions/)?"
    r"(arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:[A-Za-z0-9_${}.-]+(?::[A-Za-z0-9_${}.-]+)?)"
    r"(?:/(?:invocations|response-streaming-invocations))?"
)


def function_reference(uri: str) -> str:
    """The ARN of the function, stage variables in it as they are; empty for another URI."""
    matched = _FUNCTION_ARN.fullmatch(uri)
    return matched[1] if matched is not None else ""

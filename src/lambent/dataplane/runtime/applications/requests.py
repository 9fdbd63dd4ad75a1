"""HTTP as events have it, and back: what adapters of web applications work on.

Payload formats 2.0 (function URLs, HTTP APIs) and 1.0 (REST APIs, HTTP APIs that ask for it, load balancers).
"""

from __future__ import annotations

import base64
from typing import Any, Dict, List, NamedTuple, Tuple
from urllib.parse import quote, unquote_to_bytes, urlencode

from lambent.dataplane.runtime.faults import Refused

Header = Tuple[str, str]

_PATH_SAFE = "/!$&'()*+,;=:@-._~%"
_TEXT = ("text/", "application/json", "application/javascript", "application/xml", "image/svg+xml")
_TEXT_SUFFIXES = ("+json", "+xml")


class NotHttp(Refused):
    """The event is of no HTTP request."""

    error_type = "Runtime.NotAnHttpEvent"


class Request(NamedTuple):
    method: str
    raw_path: str
    """Percent-encoded, without the stage."""
    root_path: str
    """The stage as a path, where the address has it."""
    query: str
    headers: List[Header]
    """Names in lower case; the cookies as one header."""
    body: bytes
    scheme: str
    host: str
    port: int
    client: str
    protocol: str
    is_first_format: bool

    @property
    def path(self) -> str:
        """Decoded."""
        return unquote_to_bytes(self.raw_path).decode("utf-8", "replace")


class Response(NamedTuple):
    status: int
    headers: List[Header]
    """Names in lower case."""
    body: bytes


def read_request(event: Any) -> Request:
    """Raises NotHttp."""
    if isinstance(event, dict):
        context = event.get("requestContext")
        if event.get("version") == "2.0" and isinstance(context, dict) and "http" in context:
            return _read_second(event, context)
        if "httpMethod" in event and "path" in event:
            return _read_first(event, context if isinstance(context, dict) else {})
    raise NotHttp(
        "This function is a web application: it is invoked through a function URL or an API, with an event of payload "
        "format 2.0 or 1.0"
    )


def _read_second(event: Dict[str, Any], context: Dict[str, Any]) -> Request:
    headers = [(str(name).lower(), str(value)) for name, value in (event.get("headers") or {}).items()]
    if event.get("cookies"):
        headers.append(("cookie", "; ".join(event["cookies"])))
    stage = context.get("stage") or "$default"
    path, root = _without_stage(_encode_path(event.get("rawPath") or "/"), stage if stage != "$default" else "")
    http = context["http"]
    return _make(
        event,
        method=http.get("method", "GET"),
        path=path,
        root=root,
        query=event.get("rawQueryString") or "",
        headers=headers,
        client=http.get("sourceIp") or "",
        protocol=http.get("protocol") or "HTTP/1.1",
        is_first_format=False,
    )


def _read_first(event: Dict[str, Any], context: Dict[str, Any]) -> Request:
    several = event.get("multiValueHeaders") or {name: [value] for name, value in (event.get("headers") or {}).items()}
    headers = [(str(name).lower(), str(value)) for name, values in several.items() for value in values]
    pairs = event.get("multiValueQueryStringParameters") or {
        name: [value] for name, value in (event.get("queryStringParameters") or {}).items()
    }
    identity = context.get("identity") or {}
    # The event's path is without the stage, the context's with it, where the address has it.
    path = _encode_path(event["path"] or "/")
    stage = context.get("stage") or ""
    whole = str(context.get("path") or "")
    root = "/" + stage if stage and whole == "/" + stage + event["path"] else ""
    if not root:
        path, root = _without_stage(path, stage if event.get("version") == "1.0" else "")
    return _make(
        event,
        method=event["httpMethod"],
        path=path,
        root=root,
        query=urlencode([(name, value) for name, values in pairs.items() for value in values]),
        headers=headers,
        client=identity.get("sourceIp") or "",
        protocol=context.get("protocol") or "HTTP/1.1",
        is_first_format=True,
    )


def _make(event: Dict[str, Any], *, path: str, root: str, headers: List[Header], **members: Any) -> Request:
    found = dict(headers)
    host, _, port = found.get("host", "").partition(":")
    scheme = found.get("x-forwarded-proto", "https")
    shown = port or found.get("x-forwarded-port", "")
    body = event.get("body") or ""
    data = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode("utf-8", "surrogatepass")
    return Request(
        raw_path=path,
        root_path=root,
        headers=headers,
        body=data,
        scheme=scheme,
        host=host,
        port=int(shown) if shown.isdigit() else (443 if scheme == "https" else 80),
        **members,
    )


def _encode_path(path: str) -> str:
    """HTTP APIs decode the path, function URLs do not: what is encoded already stays as it is."""
    return quote(path, safe=_PATH_SAFE)


def _without_stage(path: str, stage: str) -> Tuple[str, str]:
    prefix = "/" + stage
    if stage and (path == prefix or path.startswith(prefix + "/")):
        return path[len(prefix) :] or "/", prefix
    return path, ""


def write_response(request: Request, response: Response) -> Dict[str, Any]:
    """As the format of the request's event wants it."""
    is_text = _is_text(response)
    document: Dict[str, Any] = {
        "statusCode": response.status,
        "body": response.body.decode("utf-8") if is_text else base64.b64encode(response.body).decode(),
        "isBase64Encoded": not is_text,
    }
    if request.is_first_format:
        several: Dict[str, List[str]] = {}
        for name, value in response.headers:
            several.setdefault(name, []).append(value)
        document["multiValueHeaders"] = several
        return document
    document.update(write_head(response.status, response.headers))
    return document


def write_head(status: int, headers: List[Header]) -> Dict[str, Any]:
    """Status, headers and cookies of payload format 2.0."""
    joined: Dict[str, str] = {}
    cookies = []
    for name, value in headers:
        if name == "set-cookie":
            cookies.append(value)
        else:
            joined[name] = joined[name] + ", " + value if name in joined else value
    head: Dict[str, Any] = {"statusCode": status, "headers": joined}
    if cookies:
        head["cookies"] = cookies
    return head


def _is_text(response: Response) -> bool:
    found = dict(response.headers)
    kind = found.get("content-type", "").partition(";")[0].strip().lower()
    if found.get("content-encoding", "identity") != "identity":
        return False
    if response.body and not (kind.startswith(_TEXT) or kind.endswith(_TEXT_SUFFIXES)):
        return False
    try:
        response.body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True

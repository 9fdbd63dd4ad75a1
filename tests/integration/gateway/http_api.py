"""An HTTP API as its tests make and ask it."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.conftest import Deployed

from lambent.testing.node import LambentNode

ECHO = "import json\ndef handler(event, context):\n    return {'statusCode': 200, 'body': json.dumps(event)}\n"


def ask(
    node: LambentNode,
    host: str,
    path: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by their lower-case names, and body; over a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(node.endpoint).netloc, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Host": host, **(headers or {})})
        response = connection.getresponse()
        shown = {name.lower(): value for name, value in response.getheaders()}
        return response.status, shown, response.read()


class HttpApi:
    """An API as a client without any SDK sees it."""

    def __init__(self, node: LambentNode, api: Mapping[str, Any], *, client: Any) -> None:
        self.node = node
        self.client = client
        self.id: str = api["ApiId"]
        self.endpoint: str = api["ApiEndpoint"]

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        host: str | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        return ask(self.node, host or urlsplit(self.endpoint).netloc, path, method=method, body=body, headers=headers)

    def event(self, path: str, **parameters: Any) -> Any:
        status, _, body = self.ask(path, **parameters)
        assert status == 200, (status, body)
        return json.loads(body)

    def integrate(self, function: str, version: str = "2.0", **parameters: Any) -> str:
        created = self.client.create_integration(
            ApiId=self.id,
            **{
                "IntegrationType": "AWS_PROXY",
                "IntegrationUri": function,
                "PayloadFormatVersion": version,
                **parameters,
            },
        )
        return f"integrations/{created['IntegrationId']}"

    def route(self, key: str, target: str, **parameters: Any) -> str:
        created = self.client.create_route(ApiId=self.id, RouteKey=key, Target=target, **parameters)
        return str(created["RouteId"])


def arn_of(function: Deployed) -> str:
    return str(function.client.get_function(FunctionName=function.name)["Configuration"]["FunctionArn"])


def create(node: LambentNode, gateway: Any, *, stage: str = "$default", **parameters: Any) -> HttpApi:
    api = gateway.create_api(Name="test", ProtocolType="HTTP", **parameters)
    if "Target" not in parameters:
        gateway.create_stage(ApiId=api["ApiId"], StageName=stage, AutoDeploy=True)
    return HttpApi(node, api, client=gateway)

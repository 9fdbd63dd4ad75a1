"""A REST API as its tests make and ask it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.integration.gateway.http_api import ask

from lambent.testing.node import LambentNode


def uri_of(function: str, *, action: str = "2015-03-31/functions/{}/invocations") -> str:
    return "arn:aws:apigateway:us-east-1:lambda:path/" + action.format(function)


class RestApi:
    """An API as whoever defines it sees it, and as its callers do."""

    def __init__(self, node: LambentNode, client: Any, **parameters: Any) -> None:
        self.node = node
        self.client = client
        created = client.create_rest_api(name="test", **parameters)
        self.id: str = created["id"]
        self._resources: dict[str, str] = {"/": created["rootResourceId"]}

    def resource(self, path: str) -> str:
        """Its id; made, with all above it, when it is not there."""
        if path not in self._resources:
            above, _, part = path.rpartition("/")
            parent = self.resource(above or "/")
            created = self.client.create_resource(restApiId=self.id, parentId=parent, pathPart=part)
            assert created["path"] == path
            self._resources[path] = created["id"]
        return self._resources[path]

    def method(self, method: str, path: str, **parameters: Any) -> dict[str, str]:
        place = {"restApiId": self.id, "resourceId": self.resource(path), "httpMethod": method}
        self.client.put_method(**place, **{"authorizationType": "NONE", **parameters})
        return place

    def proxy(self, method: str, path: str, function: str, *, integration: Any = None, **parameters: Any) -> None:
        place = self.method(method, path, **parameters)
        given = {"type": "AWS_PROXY", "integrationHttpMethod": "POST", "uri": uri_of(function), **(integration or {})}
        self.client.put_integration(**place, **given)

    def mock(self, method: str, path: str, *, template: str = '{"statusCode": 200}', **response: Any) -> None:
        place = self.method(method, path)
        self.client.put_integration(**place, type="MOCK", requestTemplates={"application/json": template})
        self.client.put_method_response(**place, statusCode="200")
        self.client.put_integration_response(**place, statusCode="200", **response)

    def deploy(self, stage: str = "test", **parameters: Any) -> str:
        return str(self.client.create_deployment(restApiId=self.id, stageName=stage, **parameters)["id"])

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        host: str = "",
    ) -> tuple[int, dict[str, str], bytes]:
        own = f"{self.id}.execute-api.us-east-1.localhost:{urlsplit(self.node.endpoint).port}"
        return ask(self.node, host or own, path, method=method, body=body, headers=headers)

    def event(self, path: str, **parameters: Any) -> Any:
        status, _, body = self.ask(path, **parameters)
        assert status == 200, (status, body)
        return json.loads(body)

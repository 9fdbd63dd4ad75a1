"""A node that answers from memory: the Lambda wire as far as clients of ours speak it, signatures checked."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from lambent.awsapi.http import HttpRequest
from lambent.awsapi.sigv4 import Secret, Verifier
from lambent.model.errors import CallerError

ACCESS_KEY, SECRET, REGION, ACCOUNT = "LKIATESTTESTTESTTEST", "s" * 40, "eu-central-1", "123456789012"
PAGE = 2
Json = dict[str, Any]


class FakeNode(ThreadingHTTPServer):
    """`functions` by name; `calls` lists what was asked; `answers` what Invoke returns, by name."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.functions: dict[str, Json] = {}
        self.packages: dict[str, bytes] = {}
        self.tags: dict[str, Json] = {}
        self.calls: list[str] = []
        self.events: list[tuple[str, bytes]] = []
        self.answers: dict[str, tuple[bytes, str]] = {}
        self.log_lines: dict[str, list[Json]] = {}
        self.versions: dict[str, int] = {}
        self.polls_until_ready = 0
        self.available = {"python3.12", "python3.11", "nodejs20.x"}
        self.verifier = Verifier(lambda key, _token: Secret(SECRET, ACCOUNT) if key == ACCESS_KEY else None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of ours."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[FakeNode]:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()

    def environ(self) -> dict[str, str]:
        return {
            "LAMBENT_ENDPOINT": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
        }

    def add_function(self, name: str, **members: Any) -> Json:
        self.functions[name] = {
            "FunctionName": name,
            "FunctionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}",
            "Runtime": "python3.12",
            "Handler": "app.handler",
            "MemorySize": 128,
            "Timeout": 3,
            "CodeSize": 300,
            "CodeSha256": "none",
            "Version": "$LATEST",
            "LastModified": "2026-11-23T05:38:54.683+0000",
            "State": "Active",
            "LastUpdateStatus": "Successful",
            **members,
        }
        return self.functions[name]


class _Refusal(Exception):
    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: FakeNode
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests read stderr."""

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = urlsplit(self.path)
        self.server.calls.append(f"{self.command} {self.path}")
        try:
            if parts.path != "/health":
                self._check_signature(parts.path, parts.query, body)
            self._route(parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}, body)
        except _Refusal as refusal:
            told = {"Type": "User", "Message": str(refusal)}
            self._write(refusal.status, told, {"x-amzn-errortype": refusal.code})
        except CallerError as exc:
            self._write(exc.status, {"message": exc.message}, {"x-amzn-errortype": exc.code})

    def _check_signature(self, path: str, query: str, body: bytes) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
        request = HttpRequest(
            method=self.command, raw_path=path.encode(), query_string=query.encode(), headers=headers, body=body
        )
        self.server.verifier.verify(request)

    def _route(self, path: str, query: dict[str, str], body: bytes) -> None:
        steps = [unquote(step) for step in path.strip("/").split("/")]
        if path == "/health":
            self._write(200, {"status": "ok", "version": "0"})
        elif steps[0] == "_lambent":
            self._serve_own(steps[1:], query)
        elif steps[1] == "tags":
            self.server.tags[steps[2]] = json.loads(body)["Tags"]
            self._write(204, None)
        elif steps[1] == "layers":
            self._write(201, {"LayerVersionArn": f"arn:layer:{steps[2]}:1", "Version": 1})
        elif len(steps) == 2:
            self._serve_all(query, body)
        else:
            self._serve_function(steps[2], steps[3] if len(steps) > 3 else "", query, body)

    def _serve_own(self, steps: list[str], query: dict[str, str]) -> None:
        if steps == ["status"]:
            self._write(200, _STATUS)
        elif steps == ["runtimes"]:
            self._write(200, {"runtimes": [_runtime(name, self.server.available) for name in _RUNTIMES]})
        else:
            lines = [
                line for line in self.server.log_lines.get(steps[1], []) if line["timestamp_ms"] >= int(query["since"])
            ]
            text = "".join(json.dumps(line) + "\n" for line in lines[-int(query["limit"]) :])
            self._write_bytes(200, text.encode(), {})

    def _serve_all(self, query: dict[str, str], body: bytes) -> None:
        if self.command == "POST":
            wanted = json.loads(body)
            package = base64.b64decode(wanted.pop("Code")["ZipFile"])
            wanted.setdefault("MemorySize", 128)
            function = self.server.add_function(wanted["FunctionName"], **wanted, State="Pending")
            self._take_code(function, package)
            self._write(201, function)
            return
        names = sorted(self.server.functions)
        start = int(query.get("Marker", 0))
        page: Json = {"Functions": [self.server.functions[name] for name in names[start : start + PAGE]]}
        if start + PAGE < len(names):
            page["NextMarker"] = str(start + PAGE)
        self._write(200, page)

    def _serve_function(self, name: str, what: str, query: dict[str, str], body: bytes) -> None:
        function = self.server.functions.get(name)
        if function is None:
            arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
            raise _Refusal("ResourceNotFoundException", f"Function not found: {arn}", 404)
        if what == "invocations":
            self._invoke(name, body)
        elif what == "configuration":
            function.update(json.loads(body))
            self._write(200, function)
        elif what == "code":
            self._take_code(function, base64.b64decode(json.loads(body)["ZipFile"]))
            self._write(200, function)
        elif what == "versions":
            self._serve_versions(name)
        elif what == "aliases":
            self._write(200, {"Aliases": []})
        elif self.command == "DELETE":
            del self.server.functions[name]
            self._write(204, None)
        else:
            if self.server.polls_until_ready:
                self.server.polls_until_ready -= 1
            elif function["State"] == "Pending":
                function["State"] = "Active"
            self._write(200, {"Configuration": function, "Code": {}, "Tags": {}})

    def _serve_versions(self, name: str) -> None:
        if self.command == "GET":
            self._write(200, {"Versions": [self.server.functions[name]]})
            return
        self.server.versions[name] = self.server.versions.get(name, 0) + 1
        self._write(201, {**self.server.functions[name], "Version": str(self.server.versions[name])})

    def _invoke(self, name: str, body: bytes) -> None:
        self.server.events.append((name, body))
        if self.headers.get("x-amz-invocation-type") == "Event":
            self._write(202, None)
            return
        payload, error = self.server.answers.get(name, (body, ""))
        headers = {"x-amz-executed-version": "$LATEST"}
        if error:
            headers["x-amz-function-error"] = error
        if self.headers.get("x-amz-log-type") == "Tail":
            headers["x-amz-log-result"] = base64.b64encode(b"START\nhello\nEND\n").decode()
        self._write_bytes(200, payload, headers)

    def _take_code(self, function: Json, package: bytes) -> None:
        function["CodeSha256"] = base64.b64encode(hashlib.sha256(package).digest()).decode()
        function["CodeSize"] = len(package)
        self.server.packages[function["FunctionName"]] = package

    def _write(self, status: int, document: Json | None, headers: dict[str, str] | None = None) -> None:
        self._write_bytes(status, b"" if document is None else json.dumps(document).encode(), headers or {})

    def _write_bytes(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"x-amzn-requestid": "r-1", "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


_RUNTIMES = ("python3.11", "python3.12", "python3.13", "nodejs20.x", "nodejs22.x", "provided.al2023")
_STATUS: Json = {
    "version": "0.1.0",
    "uptime_s": 75.0,
    "isolation": "root",
    "data_dir": "/data",
    "account": ACCOUNT,
    "region": REGION,
    "environments": [
        {"function": "hello", "version": "$LATEST", "state": "idle", "pid": 7, "memory_mb": 9, "idle_s": 1.5}
    ],
    "concurrency": {"limit": 1000, "in_use": 1},
    "counters": {"invocations": 3, "errors": 1, "cold_starts": 2, "cold_first": 1, "cold_new_code": 1},
}


def _runtime(name: str, available: set[str]) -> Json:
    here = name in available or name.startswith("provided")
    return {
        "name": name,
        "available": here,
        "executable": f"/usr/bin/{name}" if here else "",
        "version": "1.2.3" if here else "",
        "hint": "" if here else f"{name} is not installed: install it",
    }

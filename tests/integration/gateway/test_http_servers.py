"""HTTP servers deployed as they are: a program that listens on $PORT, reached through function URLs of a real node."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from tests.conftest import Deploy
from tests.integration.gateway.test_function_urls import Site

PYTHON_SERVER = """
import http.server, json, os

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        text = json.dumps({"path": self.path, "name": os.environ["AWS_LAMBDA_FUNCTION_NAME"]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

print("listening")
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
NODE_SERVER = """
require("node:http").createServer((request, response) => {
  response.setHeader("content-type", "text/plain");
  response.end(process.version.split(".")[0] + " " + request.url);
}).listen(process.env.PORT, "127.0.0.1");
"""


def test_a_server_in_python_is_a_function(deploy: Deploy) -> None:
    files: dict[str, str | bytes] = {"run.sh": "#!/bin/sh\nexec python3 server.py\n", "server.py": PYTHON_SERVER}
    function = deploy(files, Handler="run.sh", executable=("run.sh",), Timeout=10)
    site = Site(function)
    for _ in range(2):
        status, _, body = site.ask("/a%20b?c=d")
        assert (status, json.loads(body)) == (200, {"path": "/a%20b?c=d", "name": function.name})


def test_a_server_in_node_is_a_function(deploy: Deploy) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js on this machine")
    major = subprocess.run([node, "--version"], capture_output=True, check=True, text=True).stdout.split(".")[0][1:]
    if major not in ("20", "22", "24"):
        pytest.skip(f"node {major} runs none of the contract's runtimes")
    files: dict[str, str | bytes] = {"run.sh": "#!/bin/sh\nexec node server.js\n", "server.js": NODE_SERVER}
    variables = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap", "AWS_LWA_PORT": "7777"}
    function = deploy(
        files,
        Handler="run.sh",
        executable=("run.sh",),
        Runtime=f"nodejs{major}.x",
        Timeout=10,
        MemorySize=256,
        Environment={"Variables": variables},
    )
    status, _, body = Site(function).ask("/x")
    assert (status, body.decode()) == (200, f"v{major} /x")


def test_a_bootstrap_that_is_a_server_is_a_function(deploy: Deploy) -> None:
    script = f"#!/bin/sh\nexec python3 -c '{PYTHON_SERVER}'\n"
    function = deploy(
        {"bootstrap": script},
        Handler="bootstrap",
        executable=("bootstrap",),
        Runtime="provided.al2023",
        Timeout=10,
        Environment={"Variables": {"AWS_LWA_READINESS_CHECK_PATH": "/healthy"}},
    )
    status, _, body = Site(function).ask("/x")
    assert (status, json.loads(body)["path"]) == (200, "/x")


def test_a_server_that_ends_at_once_is_an_init_error(deploy: Deploy) -> None:
    function = deploy({"run.sh": "#!/bin/sh\nexit 4\n"}, Handler="run.sh", executable=("run.sh",))
    answer = function({"version": "2.0"})
    assert (answer.error, answer.payload["errorType"]) == ("Unhandled", "Runtime.ServerNotStarted")
    assert answer.payload["errorMessage"] == "the server ended with status 4 before it was ready"

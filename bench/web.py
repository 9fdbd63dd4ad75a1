"""The front door beside bare uvicorn: function URLs, HTTP API routes, a FastAPI application, the first streamed byte.

    python -m bench.web

Floor and subject take turns; each ratio is the median of the turns.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
from bench.run import HELLO, Caller, load, port_of, say
from botocore.config import Config

from lambent.testing.node import LambentNode, make_zip
from lambent.testing.packages import collect_package

HERE = Path(__file__).parent
TURNS = 3
CONNECTIONS = (1, 16, 64)
BARE_PORT, FASTAPI_PORT = 8796, 8797
ROLE = "arn:aws:iam::123456789012:role/any"
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
FASTAPI = """
from fastapi import FastAPI

app = FastAPI()

@app.get("/items/{number}")
async def item(number: int, tag: str = "none") -> dict:
    return {"number": number, "tag": tag}
"""
ANSWER = 'def handler(event, context):\n    return {"statusCode": 200, "body": "Hello, world!"}\n'
STREAMING = """
import time

def handler(event, context):
    for _ in range(20):
        yield f"{time.time():.6f}\\n"
        time.sleep(0.02)
"""
QUIET = ("--no-access-log", "--log-level", "error")
TARGETS = {
    "function URL at 16 / bare": (">=", 0.45),
    "FastAPI at 16 / itself under uvicorn": (">=", 0.6),
    "FastAPI, 16 at a time / itself under uvicorn": (">=", 0.6),
    "first streamed byte, ms": ("<=", 5.0),
}


def connect(node: LambentNode, service: str) -> Any:
    os.environ.update(node.environ())
    config = Config(retries={"max_attempts": 0})
    return boto3.session.Session(profile_name="lambent").client(service, config=config)


def deploy(client: Any, name: str, files: Mapping[str, str | bytes], **parameters: Any) -> str:
    """The id of the function's URL."""
    created = {"Runtime": RUNTIME, "Role": ROLE, "Handler": "app.handler", "Timeout": 10, **parameters}
    invoke_mode = created.pop("InvokeMode", "BUFFERED")
    client.create_function(FunctionName=name, Code={"ZipFile": make_zip(files)}, **created)
    client.get_waiter("function_active_v2").wait(FunctionName=name)
    url = client.create_function_url_config(FunctionName=name, AuthType="NONE", InvokeMode=invoke_mode)
    client.add_permission(
        FunctionName=name,
        StatementId="everybody",
        Action="lambda:InvokeFunctionUrl",
        Principal="*",
        FunctionUrlAuthType="NONE",
    )
    return str(url["FunctionUrl"].removeprefix("http://").split(".")[0])


def make_rest_api(gateway: Any, function: str) -> str:
    """Its id; the method is `GET /` of the stage `bench`."""
    api = gateway.create_rest_api(name="bench")
    place = {"restApiId": api["id"], "resourceId": api["rootResourceId"], "httpMethod": "GET"}
    gateway.put_method(**place, authorizationType="NONE")
    uri = f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{function}/invocations"
    gateway.put_integration(**place, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)
    gateway.create_deployment(restApiId=api["id"], stageName="bench")
    return str(api["id"])


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()


def measure(
    subjects: Mapping[str, tuple[int, bytes]], floor: str, connections: int, wait_settled: Callable[[], None]
) -> dict[str, float]:
    """Requests a second of each beside the floor, as ratios. Environments that still start are waited for."""
    for name, (port, request) in subjects.items():
        if name != floor:
            load(port, connections, request)
            wait_settled()
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in subjects}
    for _ in range(TURNS):
        for name, (port, request) in subjects.items():
            runs[name].append(load(port, connections, request))
            wait_settled()
    ratios = {}
    for name, taken in runs.items():
        rate = statistics.median(run["requests_per_s"] for run in taken)
        ratios[name] = statistics.median(
            run["requests_per_s"] / base["requests_per_s"] for run, base in zip(taken, runs[floor], strict=True)
        )
        p50, p99 = (statistics.median(run[key] for run in taken) for key in ("p50_ms", "p99_ms"))
        say(f"{connections:3} connections: {name} {rate:.0f}/s p50 {p50:.2f} p99 {p99:.2f} ms (x{ratios[name]:.2f})")
    return ratios


def measure_first_byte(port: int, path: str) -> float:
    """From the function's write to the client's read, the median of all pieces, in ms."""
    waits = []
    for _ in range(3):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", path)
        response = connection.getresponse()
        while line := response.readline():
            waits.append((time.time() - float(line)) * 1000)
        connection.close()
    return statistics.median(waits)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="lambent-bench-") as name:
        folder = Path(name)
        (folder / "fastapi_app.py").write_text(FASTAPI)
        servers = [
            subprocess.Popen([sys.executable, str(HERE / "bare.py"), str(BARE_PORT), '{"message": "Hello, world!"}']),
            subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port", str(FASTAPI_PORT), *QUIET],
                cwd=folder,
            ),
        ]
        try:
            with LambentNode(folder / "data", arguments=["--log-level", "warning"]).running() as node:
                verdicts = measure_all(node)
        finally:
            for server in servers:
                server.terminate()
                server.wait()
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    path = results / f"web-{time.strftime('%Y%m%dT%H%M%S')}.json"
    path.write_text(json.dumps(verdicts, indent=2))
    say(f"written to {path}")


def measure_all(node: LambentNode) -> dict[str, Any]:
    client, gateway = connect(node, "lambda"), connect(node, "apigatewayv2")
    port = port_of(node.endpoint)
    hello = deploy(client, "hello", {"app.py": HELLO})
    arn = client.get_function(FunctionName="hello")["Configuration"]["FunctionArn"]
    api = gateway.create_api(Name="bench", ProtocolType="HTTP", Target=arn)["ApiId"]
    deploy(client, "answer", {"app.py": ANSWER})
    rest = make_rest_api(connect(node, "apigateway"), arn.replace(":hello", ":answer"))
    streaming = deploy(client, "streaming", {"app.py": STREAMING}, InvokeMode="RESPONSE_STREAM")
    fastapi = deploy(
        client, "fastapi", {**collect_package("fastapi"), "main.py": FASTAPI}, Handler="main:app", MemorySize=512
    )
    together = deploy(
        client,
        "fastapi-together",
        {**collect_package("fastapi"), "main.py": FASTAPI},
        Handler="main:app",
        MemorySize=512,
        Environment={"Variables": {"LAMBENT_CONCURRENCY": "16"}},
    )
    plain = {
        "bare uvicorn": (BARE_PORT, get("/")),
        "function URL": (port, get(f"/_lambent/url/{hello}/")),
        "HTTP API route": (port, get(f"/_lambent/api/{api}/")),
        "REST API method": (port, get(f"/_lambent/api/{rest}/bench/")),
    }
    item = "/items/7?tag=x"
    apps = {
        "FastAPI under uvicorn": (FASTAPI_PORT, get(item)),
        "FastAPI on Lambent": (port, get(f"/_lambent/url/{fastapi}{item}")),
        "FastAPI, 16 at a time": (port, get(f"/_lambent/url/{together}{item}")),
    }
    caller = Caller(node)

    def wait_settled() -> None:
        while any(each["state"] == "starting" for each in caller.send("GET", "/_lambent/status")["environments"]):
            time.sleep(0.1)

    figures: dict[str, float] = {}
    for connections in CONNECTIONS:
        ratios = measure(plain, "bare uvicorn", connections, wait_settled)
        applied = measure(apps, "FastAPI under uvicorn", connections, wait_settled)
        if connections == 16:
            figures["function URL at 16 / bare"] = ratios["function URL"]
            figures["FastAPI at 16 / itself under uvicorn"] = applied["FastAPI on Lambent"]
            figures["FastAPI, 16 at a time / itself under uvicorn"] = applied["FastAPI, 16 at a time"]
    figures["first streamed byte, ms"] = measure_first_byte(port, f"/_lambent/url/{streaming}/")
    verdicts = {}
    for name, (sign, goal) in TARGETS.items():
        met = figures[name] >= goal if sign == ">=" else figures[name] <= goal
        verdicts[name] = {"measured": round(figures[name], 3), "goal": f"{sign} {goal}", "met": met}
        say(f"{'ok ' if met else 'MISS'}  {name}: {figures[name]:.2f} (goal {sign} {goal})")
    return verdicts


if __name__ == "__main__":
    main()

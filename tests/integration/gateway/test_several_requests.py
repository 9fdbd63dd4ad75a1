"""Web applications whose environments take several requests at a time, on a real node."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.conftest import PYTHON, ROLE, Deploy, Deployed, ask, read_log
from tests.integration.gateway.test_function_urls import Site

from lambent.testing.node import make_zip

APP = """
import asyncio, json, logging, os

arrived = 0
gone = 0
changed = None

async def meet(count):
    \"\"\"Until so many requests are here at once.\"\"\"
    global arrived, changed
    changed = changed or asyncio.Condition()
    async with changed:
        arrived += 1
        changed.notify_all()
        await changed.wait_for(lambda: arrived >= count)

async def app(scope, receive, send):
    global gone
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
    parts = scope["path"].strip("/").split("/")
    context = scope["aws.context"]
    answer = {"environment": context.log_stream_name, "gone": gone, "id": context.aws_request_id}
    if parts[0] == "meet":
        await meet(int(parts[1]))
    elif parts[0] == "log":
        logging.warning("before %s", parts[1])
        await meet(2)
        logging.warning("after %s", parts[1])
        print("printed")
    elif parts[0] == "hang":
        await asyncio.Event().wait()
    elif parts[0] == "exit":
        await meet(2)
        os._exit(3)
    elif parts[0] == "flood":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(int(parts[1])):
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        await send({"type": "http.response.body"})
        return
    elif parts[0] == "stay":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here", "more_body": True})
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        gone += 1
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
"""


def variables(concurrency: int) -> dict[str, Any]:
    return {"Variables": {"LAMBENT_CONCURRENCY": str(concurrency)}}


Start = Callable[..., Site]


@pytest.fixture
def start(deploy: Deploy) -> Start:
    def start_application(concurrency: int, *, mode: str = "BUFFERED", **parameters: Any) -> Site:
        function = deploy(
            {"main.py": APP}, Handler="main:app", Environment=variables(concurrency), **{"Timeout": 20, **parameters}
        )
        return Site(function, InvokeMode=mode)

    return start_application


def get(site: Site, path: str) -> Any:
    status, _, body = site.ask(path)
    assert status == 200, (status, body)
    return json.loads(body)


def environments_of(site: Site) -> list[dict[str, Any]]:
    environments = ask(site.client, "/_lambent/status")["environments"]
    return [environment for environment in environments if environment["function"] == site.name]


def wait_until(is_true: Callable[[], bool]) -> None:
    end_at = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < end_at
        time.sleep(0.01)


def running(site: Site) -> int:
    return sum(environment["running"] for environment in environments_of(site))


class Together:
    """Requests that are under way at the same time."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._pool = ThreadPoolExecutor(32)

    def ask(self, path: str) -> Future[Any]:
        return self._pool.submit(self._site.ask, path)

    def get_all(self, *paths: str) -> list[Any]:
        answers = [answer.result() for answer in [self.ask(path) for path in paths]]
        assert {status for status, _, _ in answers} == {200}, answers
        return [json.loads(body) for _, _, body in answers]


def test_requests_are_in_one_environment_at_the_same_time(start: Start) -> None:
    site = start(16)
    answers = Together(site).get_all(*["/meet/16"] * 16)
    assert len({answer["environment"] for answer in answers}) == 1
    assert len({answer["id"] for answer in answers}) == 16
    assert len(environments_of(site)) == 1
    # What was idle is used again.
    assert get(site, "/")["environment"] == answers[0]["environment"]


def test_beyond_its_concurrency_another_environment_is_started(start: Start) -> None:
    site = start(2, Timeout=3)
    first = get(site, "/")["environment"]
    together = Together(site)
    full = [together.ask("/hang") for _ in range(2)]
    wait_until(lambda: [environment["running"] for environment in environments_of(site)] == [2])
    assert get(site, "/")["environment"] != first
    assert [answer.result()[0] for answer in full] == [502, 502]


def test_those_who_wait_for_a_start_take_all_that_it_has_room_for(start: Start) -> None:
    site = start(2)
    answers = Together(site).get_all(*["/meet/2"] * 4)
    assert len(answers) == 4
    assert len(environments_of(site)) <= 2


def test_each_request_counts_in_the_limit_of_the_function(start: Start) -> None:
    site = start(16)
    site.client.put_function_concurrency(FunctionName=site.name, ReservedConcurrentExecutions=2)
    together = Together(site)
    waiting = [together.ask("/meet/3") for _ in range(2)]
    wait_until(lambda: running(site) == 2)
    assert site.ask("/")[0] == 429
    site.client.put_function_concurrency(FunctionName=site.name, ReservedConcurrentExecutions=3)
    last = together.ask("/meet/3")
    assert [answer.result()[0] for answer in [*waiting, last]] == [200, 200, 200]
    assert len(environments_of(site)) == 1


def test_a_request_that_takes_too_long_ends_alone_and_its_environment_after_the_others(start: Start) -> None:
    site = start(16, Timeout=3)
    together = Together(site)
    before = get(site, "/")["environment"]
    hanging = together.ask("/hang")
    wait_until(lambda: running(site) == 1)
    time.sleep(1)
    other = together.ask("/meet/2")
    wait_until(lambda: running(site) == 2)
    status, _, body = hanging.result()
    assert (status, body) == (502, b"Internal Server Error")
    # The other goes on; whoever comes now is elsewhere.
    assert running(site) == 1
    assert get(site, "/")["environment"] != before
    assert other.result()[0] == 502
    wait_until(lambda: len(environments_of(site)) == 1)


def test_the_end_of_the_process_is_that_of_all_its_requests(start: Start) -> None:
    site = start(16)
    before = get(site, "/")["environment"]
    together = Together(site)
    assert [answer.result()[0] for answer in [together.ask("/exit"), together.ask("/exit")]] == [502, 502]
    assert get(site, "/")["environment"] != before
    wait_until(lambda: len(environments_of(site)) == 1)


def test_a_slow_reader_holds_up_nobody_else(start: Start) -> None:
    site = start(16, mode="RESPONSE_STREAM")
    pieces = 800
    connection = site.open()
    connection.request("GET", f"/flood/{pieces}", headers={"Host": site.host})
    response = connection.getresponse()
    used = {get(site, "/")["environment"] for _ in range(20)}
    assert len(used) == 1
    assert running(site) == 1
    assert len(response.read()) == pieces * 65_536
    connection.close()


def test_an_application_is_told_that_its_reader_has_left(start: Start) -> None:
    site = start(16, mode="RESPONSE_STREAM")
    connection = site.open()
    connection.request("GET", "/stay", headers={"Host": site.host})
    assert connection.getresponse().read(4) == b"here"
    connection.sock.shutdown(2)
    connection.close()
    wait_until(lambda: get(site, "/")["gone"] == 1)


def test_a_log_tells_the_requests_apart(start: Start, deploy: Deploy) -> None:
    site = start(16)
    function = Deployed(client=site.client, name=site.name)

    def invoke(path: str) -> tuple[str, str]:
        answer = function(http_event(path))
        assert answer.payload["statusCode"] == 200, answer
        return json.loads(answer.payload["body"])["id"], answer.log

    with ThreadPoolExecutor(2) as pool:
        (first, log), (second, _) = list(pool.map(invoke, ["/log/1", "/log/2"]))
    lines = [line.split("\t") for line in log.splitlines() if line.startswith("[WARNING]")]
    found = {(parts[2], parts[3].split()[1]) for parts in lines}
    assert found == {(first, "1"), (second, "2")}
    assert log.count(f"START RequestId: {first}") == log.count(f"REPORT RequestId: {first}") == 1
    assert log.startswith(f"START RequestId: {first}")
    assert f"RequestId: {second}" not in log.replace("[WARNING]", "")


def http_event(path: str) -> dict[str, Any]:
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {},
        "requestContext": {"http": {"method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"}},
        "isBase64Encoded": False,
    }


def test_what_is_no_request_fails_alone(start: Start) -> None:
    site = start(16)
    answer = Deployed(client=site.client, name=site.name)({"not": "http"})
    assert answer.error == "Unhandled"
    assert get(site, "/")


def test_a_fork_of_a_template_takes_several_too(start: Start) -> None:
    site = start(16, SnapStart={"ApplyOn": "PublishedVersions"})
    version = site.client.publish_version(FunctionName=site.name)["Version"]
    name = f"{site.name}:{version}"
    wait_until(lambda: site.client.get_function_configuration(FunctionName=name)["State"] == "Active")
    site.client.create_alias(FunctionName=site.name, Name="live", FunctionVersion=version)
    alias = Deployed(client=site.client, name=f"{site.name}:live")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: alias(http_event("/meet/4")), range(4)))
    used = {json.loads(answer.payload["body"])["environment"] for answer in answers}
    assert len(used) == 1


def test_a_handler_that_is_no_application_takes_one_at_a_time(deploy: Deploy) -> None:
    function = deploy(
        "import time\ndef handler(event, context):\n    time.sleep(0.2)\n    return context.log_stream_name\n",
        Environment=variables(16),
    )
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: function(), range(3)))
    assert len({answer.payload for answer in answers}) == 3
    assert any("LAMBENT_CONCURRENCY is for ASGI applications" in line["message"] for line in read_log(function))


@pytest.mark.parametrize("text", ["", "0", "-1", "1001", "many", "1.5", "\u0661"])
def test_a_concurrency_that_is_no_number_of_requests_is_refused(client: Any, text: str) -> None:
    with pytest.raises(ClientError, match=r"LAMBENT_CONCURRENCY.*whole number from 1 to 1000") as caught:
        client.create_function(
            FunctionName="never",
            Role=ROLE,
            Runtime=PYTHON,
            Handler="main:app",
            Code={"ZipFile": make_zip({"main.py": APP})},
            Environment={"Variables": {"LAMBENT_CONCURRENCY": text}},
        )
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"

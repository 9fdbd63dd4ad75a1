"""From a request at a hook to a record at its target."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from lambent.awsapi.context import RequestContext
from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.events.deliveries import Deliveries, Delivery
from lambent.events.intakes.api import HookSettings
from lambent.events.intakes.intake import Intake
from lambent.events.intakes.store import SCHEMA, SEEN_S, HookStore
from lambent.model.errors import CallerError, PlatformError
from lambent.substrate.memory import MemoryTables
from lambent.substrate.ports import Tables
from lambent.substrate.sqlite import open_tables

ACCOUNT, OTHER = "123456789012", "999999999999"
QUEUE, BUS = f"arn:aws:sqs:us-east-1:{ACCOUNT}:builds", f"arn:aws:events:us-east-1:{ACCOUNT}:event-bus/default"
CONTEXT = RequestContext(account=ACCOUNT, region="us-east-1", access_key="k", request_id="r", host="node:8700")
SECRET = "a-secret-of-github"

ADAPTERS: dict[str, Callable[[Path], Tables]] = {
    "memory": lambda folder: MemoryTables([SCHEMA]),
    "sqlite": lambda folder: open_tables(folder / "events.db", [SCHEMA]),
}


class World:
    """Hooks on real tables, with targets that remember; `fail` makes the next delivery fail."""

    def __init__(self, tables: Tables) -> None:
        self.now = 1_000_000.0
        self.taken: list[Delivery] = []
        self.fail: Exception | None = None
        self.gate: asyncio.Event | None = None
        deliveries = Deliveries()
        for service in ("sqs", "events"):
            deliveries.serve(service, self._deliver, self._exists)
        store = HookStore(tables)
        self.settings = HookSettings(store, deliveries, now=lambda: self.now)
        self.intake = Intake(store, deliveries, now=lambda: self.now)

    async def _deliver(self, delivery: Delivery) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.fail is not None:
            failure, self.fail = self.fail, None
            raise failure
        self.taken.append(delivery)

    async def _exists(self, account: str, arn: str) -> bool:
        return arn in (QUEUE, BUS)

    async def set_up(self, method: str, name: str = "", body: object = None, account: str = ACCOUNT) -> HttpResponse:
        path = "/_lambent/hook-settings" + (f"/{name}" if name else "")
        data = b"" if body is None else json.dumps(body).encode()
        request = HttpRequest(method=method, raw_path=path.encode(), headers=[], body=data)
        return await self.settings.serve(request, msgspec.structs.replace(CONTEXT, account=account))

    async def put(self, **members: object) -> dict[str, object]:
        body = {"kind": "github", "target": QUEUE, "secret": SECRET, **members}
        shown: dict[str, object] = json.loads((await self.set_up("PUT", "shop", body)).body)
        return shown

    async def push(self, delivery: str = "1", *, ref: str = "refs/heads/main", event: str = "push") -> dict[str, int]:
        body = json.dumps({"ref": ref}).encode()
        signature = "sha256=" + hmac.digest(SECRET.encode(), body, "sha256").hex()
        headers = [
            (b"x-hub-signature-256", signature.encode()),
            (b"x-github-event", event.encode()),
            (b"x-github-delivery", delivery.encode()),
        ]
        return await self.post(headers, body)

    async def post(
        self, headers: list[tuple[bytes, bytes]], body: bytes, *, path: str = f"/_lambent/hooks/{ACCOUNT}/shop"
    ) -> dict[str, int]:
        request = HttpRequest(method="POST", raw_path=path.encode(), headers=headers, body=body)
        response = await self.intake.serve(request, CONTEXT)
        assert response.status == 202
        counts: dict[str, int] = json.loads(response.body)
        return counts


@pytest.fixture(params=ADAPTERS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    tables = ADAPTERS[request.param](tmp_path)
    yield World(tables)
    await tables.close()


async def test_a_push_reaches_the_target_of_its_hook(world: World) -> None:
    shown = await world.put()
    assert shown["url"] == f"http://node:8700/_lambent/hooks/{ACCOUNT}/shop"
    assert await world.push("72d3") == {"accepted": 1, "repeated": 0, "filtered": 0}
    (delivery,) = world.taken
    event = json.loads(delivery.body)
    assert (event["id"], event["detail-type"], event["source"]) == ("72d3", "push", "git.github")
    assert event["detail"]["branch"] == "main"
    assert event["time"] == "1970-01-12T13:46:40Z"
    assert event["resources"] == [shown["arn"]] == [delivery.source_arn]


async def test_a_bus_is_given_the_detail_and_is_told_source_and_type(world: World) -> None:
    await world.put(target=BUS)
    await world.push()
    (delivery,) = world.taken
    assert json.loads(delivery.body)["branch"] == "main"
    assert delivery.attributes == {"Source": "git.github", "DetailType": "push"}


async def test_a_delivery_that_is_repeated_is_taken_once(world: World) -> None:
    await world.put()
    await world.push("1")
    assert await world.push("1") == {"accepted": 0, "repeated": 1, "filtered": 0}
    assert await world.push("2") == {"accepted": 1, "repeated": 0, "filtered": 0}
    assert len(world.taken) == 2


async def test_a_delivery_that_is_repeated_while_it_is_being_handed_over_is_taken_once(world: World) -> None:
    await world.put()
    world.gate = asyncio.Event()
    both = [asyncio.ensure_future(world.push("1")) for _ in range(2)]
    world.gate.set()
    counts = await asyncio.gather(*both)
    assert sorted(count["accepted"] for count in counts) == [0, 1]
    assert len(world.taken) == 1


async def test_a_delivery_that_could_not_be_handed_over_is_taken_when_it_is_repeated(world: World) -> None:
    await world.put()
    world.fail = PlatformError("The store's disk is full; nothing was written.", retry_safe=True)
    with pytest.raises(PlatformError):
        await world.push("1")
    assert (await world.push("1"))["accepted"] == 1


async def test_a_delivery_is_known_for_a_week(world: World) -> None:
    await world.put()
    await world.push("1")
    world.now += SEEN_S - 1
    assert (await world.push("1"))["repeated"] == 1
    world.now += 2
    await world.push("2")
    assert (await world.push("1"))["accepted"] == 1


async def test_filters_by_type_and_by_branch(world: World) -> None:
    await world.put(types=["push", "tag"], refs=["main", "release/*", "v[0-9]*"])
    passed = [
        (await world.push(str(number), ref=ref, event=event))["accepted"]
        for number, (ref, event) in enumerate(
            [
                ("refs/heads/main", "push"),
                ("refs/heads/mainly", "push"),
                ("refs/heads/release/1/2", "push"),
                ("refs/tags/v1", "push"),
                ("refs/tags/beta", "push"),
                ("", "issues"),
            ]
        )
    ]
    assert passed == [1, 0, 1, 1, 0, 0]


async def test_what_is_wrongly_signed_changes_nothing(world: World) -> None:
    await world.put()
    with pytest.raises(CallerError) as caught:
        await world.post([(b"x-hub-signature-256", b"sha256=" + b"0" * 64)], b"{}")
    assert caught.value.status == 401
    assert world.taken == []


@pytest.mark.parametrize(
    "path",
    [
        f"/_lambent/hooks/{ACCOUNT}/other",
        f"/_lambent/hooks/{OTHER}/shop",
        "/_lambent/hooks/shop",
        f"/_lambent/hooks/{ACCOUNT}/shop/more",
        f"/_lambent/hooks/{ACCOUNT}/%2e%2e",
    ],
)
async def test_what_is_no_hook_is_not_found(world: World, path: str) -> None:
    await world.put()
    with pytest.raises(CallerError) as caught:
        await world.post([], b"{}", path=path)
    assert caught.value.status == 404


async def test_a_hook_takes_nothing_but_post(world: World) -> None:
    await world.put()
    request = HttpRequest(method="GET", raw_path=f"/_lambent/hooks/{ACCOUNT}/shop".encode(), headers=[])
    with pytest.raises(CallerError) as caught:
        await world.intake.serve(request, CONTEXT)
    assert (caught.value.status, caught.value.headers) == (405, {"allow": "POST"})


async def test_a_secret_that_was_made_up_is_told_once(world: World) -> None:
    made = await world.put(secret="")
    assert len(str(made["secret"])) > 40
    again = await world.put(secret="")
    assert "secret" not in again
    assert "secret" not in json.loads((await world.set_up("GET", "shop")).body)
    assert str(made["secret"]).encode() not in (await world.set_up("GET")).body


async def test_a_hook_can_be_changed_and_deleted_and_what_came_in_by_it_is_forgotten(world: World) -> None:
    assert (await world.set_up("PUT", "shop", {"kind": "github", "target": QUEUE, "secret": SECRET})).status == 201
    assert (await world.set_up("PUT", "shop", {"kind": "github", "target": BUS, "secret": SECRET})).status == 200
    await world.push("1")
    assert (await world.set_up("DELETE", "shop")).status == 204
    with pytest.raises(CallerError, match="no hook 'shop'"):
        await world.set_up("GET", "shop")
    await world.put()
    assert (await world.push("1"))["accepted"] == 1


async def test_an_account_sees_nothing_of_anothers_hooks(world: World) -> None:
    await world.put()
    assert json.loads((await world.set_up("GET", account=OTHER)).body) == {"hooks": []}
    for method in ("GET", "DELETE"):
        with pytest.raises(CallerError) as caught:
            await world.set_up(method, "shop", account=OTHER)
        assert caught.value.status == 404
    assert len(json.loads((await world.set_up("GET")).body)["hooks"]) == 1


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("shop", {"kind": "svn", "target": QUEUE}, "kind 'svn' must be one of github, "),
        ("shop", {"kind": "github"}, "`target`"),
        ("shop", {"kind": "github", "target": QUEUE, "sekret": "x"}, "sekret"),
        ("shop", {"kind": "github", "target": QUEUE, "secret": "short"}, "16 characters"),
        ("shop", {"kind": "github", "target": QUEUE + "2"}, "does not exist"),
        ("shop", {"kind": "github", "target": QUEUE.replace(ACCOUNT, OTHER)}, "another account"),
        ("shop", {"kind": "github", "target": QUEUE, "custom": {}}, "kind hmac alone"),
        ("shop", {"kind": "hmac", "target": QUEUE, "custom": {"algorithm": "md5"}}, "custom.algorithm"),
        ("shop", {"kind": "github", "target": QUEUE, "types": ["x"] * 101}, "100 entries"),
        ("a.b", {"kind": "github", "target": QUEUE}, "must match"),
    ],
)
async def test_settings_that_cannot_be_are_refused_and_change_nothing(
    world: World, name: str, body: object, message: str
) -> None:
    with pytest.raises(CallerError, match=message):
        await world.set_up("PUT", name, body)
    assert json.loads((await world.set_up("GET")).body) == {"hooks": []}

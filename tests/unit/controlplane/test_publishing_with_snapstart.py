"""A version with SnapStart is initialised before it is Active; what came of it is what the contract shows."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.controlplane.conftest import Api

from lambent.controlplane import states
from lambent.controlplane.activation import Activation
from lambent.controlplane.plane import ControlPlane
from lambent.model.function import Version
from lambent.model.optimization import Optimization


class FakeTemplates:
    """Answers with what it is told to."""

    def __init__(self) -> None:
        self.answer = Optimization(on=True, init_ms=12.0)
        self.asked: list[tuple[str, str]] = []

    async def optimize(self, version: Version, network: str) -> Optimization:
        self.asked.append((version.version, network))
        return self.answer


@pytest.fixture
def templates(plane: ControlPlane) -> FakeTemplates:
    templates = FakeTemplates()
    plane.activation = Activation(plane.registry, plane.code, optimize=templates.optimize)
    return templates


async def publish(api: Api, **parameters: Any) -> dict[str, Any]:
    await api.create(SnapStart={"ApplyOn": "PublishedVersions"}, **parameters)
    await api.plane.activation.wait_idle()
    answer = await api.settled("PublishVersion", FunctionName="hello")
    assert (answer["State"], answer["StateReasonCode"]) == ("Pending", "Creating")
    return await api.call("GetFunctionConfiguration", FunctionName="hello", Qualifier="1")


async def test_a_version_is_active_once_it_has_been_initialised(api: Api, templates: FakeTemplates) -> None:
    shown = await publish(api)
    assert shown["State"] == "Active"
    assert shown["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
    assert templates.asked == [("1", "outgoing")]


async def test_init_has_the_network_of_the_function(api: Api, templates: FakeTemplates) -> None:
    await publish(api, Tags={"lambent:network": "none"})
    assert templates.asked == [("1", "none")]


async def test_why_there_is_no_template_stands_on_the_version(api: Api, templates: FakeTemplates) -> None:
    templates.answer = Optimization(reason="SnapStart is off: init left 2 threads")
    shown = await publish(api)
    assert (shown["State"], shown["StateReason"]) == ("Active", "SnapStart is off: init left 2 threads")
    assert shown["SnapStart"]["OptimizationStatus"] == "Off"


async def test_an_init_that_fails_fails_the_version_with_its_own_error(api: Api, templates: FakeTemplates) -> None:
    templates.answer = Optimization(failure="no config", failure_code="FunctionError.RuntimeInitError")
    shown = await publish(api)
    assert shown["State"] == "Failed"
    assert (shown["StateReason"], shown["StateReasonCode"]) == ("no config", "FunctionError.RuntimeInitError")


async def test_what_the_end_of_the_node_interrupted_is_initialised_at_its_next_start(
    api: Api, templates: FakeTemplates
) -> None:
    templates.answer = Optimization(abandoned=True)
    assert (await publish(api))["State"] == "Pending"
    templates.answer = Optimization(on=True)
    await api.plane.recover()
    await api.plane.activation.wait_idle()
    shown = await api.call("GetFunctionConfiguration", FunctionName="hello", Qualifier="1")
    assert (shown["State"], shown["SnapStart"]["OptimizationStatus"]) == ("Active", "On")


async def test_what_init_told_is_no_change_that_publishes_again(api: Api, templates: FakeTemplates) -> None:
    await publish(api)
    again = await api.settled("PublishVersion", FunctionName="hello")
    assert again["Version"] == "1"
    assert len(templates.asked) == 1


async def test_latest_is_never_initialised_ahead(api: Api, templates: FakeTemplates) -> None:
    await api.create(SnapStart={"ApplyOn": "PublishedVersions"})
    await api.plane.activation.wait_idle()
    assert templates.asked == []
    stored = await api.plane.registry.version(api.context.account, "hello", "$LATEST")
    assert stored is not None
    assert states.phase_of(stored.value) is states.Phase.READY

"""The four operations, and what other operations may do to what is provisioned."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from tests.unit.controlplane.conftest import Api

from lambent.model.errors import CallerError, PlatformError
from lambent.model.provisioned import Allocation

ARN = "arn:aws:lambda:us-east-1:123456789012:function:hello"


@pytest.fixture
async def published(api: Api) -> Api:
    """`hello` with versions 1 and 2, and an alias `live` for 1."""
    await api.create(Publish=True)
    await api.settled("UpdateFunctionConfiguration", FunctionName="hello", Description="second")
    await api.settled("PublishVersion", FunctionName="hello")
    await api.call("CreateAlias", FunctionName="hello", Name="live", FunctionVersion="1")
    return api


async def provision(api: Api, qualifier: str, executions: int = 3) -> dict[str, object]:
    return await api.call(
        "PutProvisionedConcurrencyConfig",
        FunctionName="hello",
        Qualifier=qualifier,
        ProvisionedConcurrentExecutions=executions,
    )


async def get(api: Api, qualifier: str) -> dict[str, object]:
    return await api.call("GetProvisionedConcurrencyConfig", FunctionName="hello", Qualifier=qualifier)


def allocate(api: Api, allocation: Allocation) -> None:
    async def ask(function: str) -> Mapping[str, Allocation]:
        assert function == "123456789012/hello"
        return {"live": allocation, "1": allocation}

    api.plane.allocations = ask


async def test_what_is_put_is_accepted_and_in_progress(published: Api) -> None:
    assert await provision(published, "live") == {
        "HTTPStatusCode": 202,
        "RequestedProvisionedConcurrentExecutions": 3,
        "AvailableProvisionedConcurrentExecutions": 0,
        "AllocatedProvisionedConcurrentExecutions": 0,
        "Status": "IN_PROGRESS",
        "LastModified": "2026-11-23T05:38:54+0000",
    }


@pytest.mark.parametrize(
    ("allocation", "status", "reason"),
    [
        (Allocation(allocated=3, available=2), "IN_PROGRESS", None),
        (Allocation(allocated=3, available=3), "READY", None),
        (Allocation(allocated=1, available=1, failure="it broke"), "FAILED", "it broke"),
        (Allocation(allocated=3, available=3, failure="it broke before"), "READY", None),
    ],
)
async def test_the_status_says_what_has_come_of_it(
    published: Api, allocation: Allocation, status: str, reason: str | None
) -> None:
    await provision(published, "live")
    allocate(published, allocation)
    shown = await get(published, "live")
    assert (shown["Status"], shown.get("StatusReason")) == (status, reason)
    assert shown["AvailableProvisionedConcurrentExecutions"] == allocation.available
    assert shown["AllocatedProvisionedConcurrentExecutions"] == allocation.allocated


async def test_a_process_that_cannot_be_asked_has_nothing_ready(published: Api) -> None:
    async def fail(_function: str) -> Mapping[str, Allocation]:
        raise PlatformError("gone", retry_safe=True)

    published.plane.allocations = fail
    assert (await provision(published, "live"))["Status"] == "IN_PROGRESS"


async def test_a_list_names_each_by_its_arn_in_pages(published: Api) -> None:
    await provision(published, "live", 3)
    await provision(published, "2", 4)
    first = await published.call("ListProvisionedConcurrencyConfigs", FunctionName="hello", MaxItems=1)
    second = await published.call(
        "ListProvisionedConcurrencyConfigs", FunctionName="hello", MaxItems=1, Marker=first["NextMarker"]
    )
    shown = [*first["ProvisionedConcurrencyConfigs"], *second["ProvisionedConcurrencyConfigs"]]
    assert [(config["FunctionArn"], config["RequestedProvisionedConcurrentExecutions"]) for config in shown] == [
        (f"{ARN}:2", 4),
        (f"{ARN}:live", 3),
    ]
    assert "NextMarker" not in second


async def test_what_is_deleted_is_gone_and_deleting_it_again_does_nothing(published: Api) -> None:
    await provision(published, "live")
    for _ in range(2):
        answer = await published.call("DeleteProvisionedConcurrencyConfig", FunctionName="hello", Qualifier="live")
        assert answer == {"HTTPStatusCode": 204}
    with pytest.raises(CallerError) as caught:
        await get(published, "live")
    assert (caught.value.code, caught.value.status) == ("ProvisionedConcurrencyConfigNotFoundException", 404)


@pytest.mark.parametrize("operation", ["GetProvisionedConcurrencyConfig", "PutProvisionedConcurrencyConfig"])
@pytest.mark.parametrize(
    ("qualifier", "refusal", "status"),
    [
        ("$LATEST", "InvalidParameterValueException", 400),
        ("7", "ResourceNotFoundException", 404),
        ("nobody", "ResourceNotFoundException", 404),
    ],
)
async def test_only_published_versions_and_aliases_have_it(
    published: Api, operation: str, qualifier: str, refusal: str, status: int
) -> None:
    more = {"ProvisionedConcurrentExecutions": 1} if operation.startswith("Put") else {}
    with pytest.raises(CallerError) as caught:
        await published.call(operation, FunctionName="hello", Qualifier=qualifier, **more)
    assert (caught.value.code, caught.value.status) == (refusal, status)


async def test_an_alias_of_latest_cannot_have_it(published: Api) -> None:
    await published.call("CreateAlias", FunctionName="hello", Name="newest", FunctionVersion="$LATEST")
    with pytest.raises(CallerError, match="cannot be applied to unpublished function versions"):
        await provision(published, "newest")
    await provision(published, "live")
    with pytest.raises(CallerError, match="cannot be applied to unpublished function versions"):
        await published.call("UpdateAlias", FunctionName="hello", Name="live", FunctionVersion="$LATEST")


async def test_a_version_and_an_alias_of_it_do_not_both_have_it(published: Api) -> None:
    await provision(published, "live")
    with pytest.raises(CallerError, match="pointed by a Provisioned Concurrency alias") as caught:
        await provision(published, "1")
    assert caught.value.code == "ResourceConflictException"
    await provision(published, "2")
    with pytest.raises(CallerError, match="already Provisioned version") as caught:
        await published.call("UpdateAlias", FunctionName="hello", Name="live", FunctionVersion="2")
    assert caught.value.code == "ResourceConflictException"
    await published.call("CreateAlias", FunctionName="hello", Name="second", FunctionVersion="2")
    with pytest.raises(CallerError, match="already Provisioned version"):
        await provision(published, "second")


async def test_versions_with_snapstart_cannot_have_it(published: Api) -> None:
    await published.settled(
        "UpdateFunctionConfiguration", FunctionName="hello", SnapStart={"ApplyOn": "PublishedVersions"}
    )
    await published.settled("PublishVersion", FunctionName="hello")
    with pytest.raises(CallerError, match="SnapStart") as caught:
        await provision(published, "3")
    assert caught.value.code == "InvalidParameterValueException"


async def test_no_more_is_provisioned_than_is_reserved_and_no_less_reserved_than_provisioned(published: Api) -> None:
    await published.call("PutFunctionConcurrency", FunctionName="hello", ReservedConcurrentExecutions=5)
    await provision(published, "live", 3)
    with pytest.raises(CallerError, match="greater than the reservedConcurrentExecution"):
        await provision(published, "2", 3)
    await provision(published, "2", 2)
    with pytest.raises(CallerError, match=r"total provisioned concurrency \[5\]"):
        await published.call("PutFunctionConcurrency", FunctionName="hello", ReservedConcurrentExecutions=4)


async def test_what_is_provisioned_leaves_the_account_the_least_it_must_have(published: Api) -> None:
    with pytest.raises(CallerError, match=r"greater than account's unreserved concurrency \[1000\]"):
        await provision(published, "live", 1_001)
    with pytest.raises(CallerError, match=r"below its minimum value of \[100\]"):
        await provision(published, "live", 901)
    await provision(published, "live", 600)
    settings = await published.call("GetAccountSettings")
    assert settings["AccountLimit"]["UnreservedConcurrentExecutions"] == 400
    await provision(published, "live", 700)
    await published.create("other")
    with pytest.raises(CallerError, match=r"below its minimum value of \[100\]"):
        await published.call("PutFunctionConcurrency", FunctionName="other", ReservedConcurrentExecutions=201)
    # Within a reservation it counts once.
    await published.call("PutFunctionConcurrency", FunctionName="hello", ReservedConcurrentExecutions=750)
    settings = await published.call("GetAccountSettings")
    assert settings["AccountLimit"]["UnreservedConcurrentExecutions"] == 250


@pytest.mark.parametrize(
    ("operation", "parameters", "left"),
    [
        ("DeleteAlias", {"Name": "live"}, ["2"]),
        ("DeleteFunction", {"Qualifier": "2"}, ["live"]),
        ("DeleteFunction", {}, []),
    ],
)
async def test_what_is_deleted_takes_what_was_provisioned_for_it_along(
    published: Api, operation: str, parameters: dict[str, str], left: list[str]
) -> None:
    await provision(published, "live")
    await provision(published, "2")
    await published.call(operation, FunctionName="hello", **parameters)
    kept = await published.plane.registry.all_provisioned("123456789012")
    assert [entry.value.qualifier for entry in kept] == left


async def test_an_alias_with_weights_may_have_it(published: Api) -> None:
    routing = {"AdditionalVersionWeights": {"2": 0.5}}
    await published.call("UpdateAlias", FunctionName="hello", Name="live", FunctionVersion="1", RoutingConfig=routing)
    assert (await provision(published, "live"))["Status"] == "IN_PROGRESS"
    with pytest.raises(CallerError, match="pointed by a Provisioned Concurrency alias"):
        await provision(published, "2")


async def test_less_than_one_is_refused_by_the_model(published: Api, zip_of: Callable[..., bytes]) -> None:
    with pytest.raises(CallerError) as caught:
        await provision(published, "live", 0)
    assert caught.value.code == "ValidationException"

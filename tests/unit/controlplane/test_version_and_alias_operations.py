from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from lambent.model.errors import CallerError

if TYPE_CHECKING:
    from tests.unit.controlplane.conftest import Api

ARN = "arn:aws:lambda:us-east-1:123456789012:function:hello"


async def refused(api: Api, name: str, **params: Any) -> tuple[str, str]:
    with pytest.raises(CallerError) as caught:
        await api.call(name, **params)
    return caught.value.code, caught.value.message


async def publish_twice(api: Api) -> None:
    await api.create()
    await api.call("PublishVersion", FunctionName="hello")
    await api.settled("UpdateFunctionConfiguration", FunctionName="hello", Timeout=9)
    await api.call("PublishVersion", FunctionName="hello")


async def test_a_published_version_is_active_at_once_and_never_changes(api: Api) -> None:
    await api.create()
    published = await api.call("PublishVersion", FunctionName="hello", Description="first")
    assert published["HTTPStatusCode"] == 201
    assert (published["State"], published["LastUpdateStatus"]) == ("Active", "Successful")
    assert (published["Version"], published["FunctionArn"]) == ("1", f"{ARN}:1")
    await api.settled("UpdateFunctionConfiguration", FunctionName="hello", Timeout=9)
    shown = await api.call("GetFunctionConfiguration", FunctionName="hello", Qualifier="1")
    assert (shown["Timeout"], shown["Description"]) == (3, "first")


async def test_publishing_what_did_not_change_returns_the_last_version(api: Api) -> None:
    await api.create(Description="of the function")
    first = await api.call("PublishVersion", FunctionName="hello", Description="of the version")
    again = await api.call("PublishVersion", FunctionName="hello", Description="ignored")
    assert again == first


@pytest.mark.parametrize(
    "change", [{"Description": "new"}, {"Timeout": 9}, {"Environment": {"Variables": {"A1": "1"}}}]
)
async def test_publishing_after_a_change_makes_a_version(api: Api, change: dict[str, Any]) -> None:
    await api.create()
    await api.call("PublishVersion", FunctionName="hello")
    await api.settled("UpdateFunctionConfiguration", FunctionName="hello", **change)
    assert (await api.call("PublishVersion", FunctionName="hello"))["Version"] == "2"


async def test_the_number_of_a_deleted_version_is_never_given_again(api: Api) -> None:
    await publish_twice(api)
    await api.call("DeleteFunction", FunctionName="hello", Qualifier="2")
    assert (await api.call("PublishVersion", FunctionName="hello"))["Version"] == "3"


async def test_publishing_other_code_than_the_caller_meant_is_refused(api: Api) -> None:
    created = await api.create()
    code, message = await refused(api, "PublishVersion", FunctionName="hello", CodeSha256="other")
    assert code == "InvalidParameterValueException"
    assert message == (
        f"CodeSHA256 (other) is different from current CodeSHA256 in $LATEST ({created['CodeSha256']}). "
        "Please try again with the CodeSHA256 in $LATEST."
    )
    assert await api.call("PublishVersion", FunctionName="hello", CodeSha256=created["CodeSha256"])


async def test_concurrent_publications_make_one_version(api: Api) -> None:
    await api.create()
    results = await asyncio.gather(
        *(api.call("PublishVersion", FunctionName="hello") for _ in range(5)), return_exceptions=True
    )
    assert {result["Version"] for result in results if isinstance(result, dict)} == {"1"}
    listed = await api.call("ListVersionsByFunction", FunctionName="hello")
    assert [version["Version"] for version in listed["Versions"]] == ["$LATEST", "1"]


async def test_versions_are_listed_by_number_in_pages(api: Api) -> None:
    await api.create()
    for timeout in range(10, 21):
        await api.settled("UpdateFunctionConfiguration", FunctionName="hello", Timeout=timeout)
        await api.call("PublishVersion", FunctionName="hello")
    first = await api.call("ListVersionsByFunction", FunctionName="hello", MaxItems=10)
    assert [version["Version"] for version in first["Versions"]] == ["$LATEST", *map(str, range(1, 10))]
    assert first["Versions"][0]["FunctionArn"] == f"{ARN}:$LATEST"
    second = await api.call("ListVersionsByFunction", FunctionName="hello", Marker=first["NextMarker"])
    assert [version["Version"] for version in second["Versions"]] == ["10", "11"]


async def test_an_alias_lives_as_the_contract_has_it(api: Api) -> None:
    await publish_twice(api)
    created = await api.call(
        "CreateAlias",
        FunctionName="hello",
        Name="prod",
        FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.2}},
    )
    assert created.pop("HTTPStatusCode") == 201
    revision = created.pop("RevisionId")
    assert created == {
        "AliasArn": f"{ARN}:prod",
        "Description": "",
        "FunctionVersion": "1",
        "Name": "prod",
        "RoutingConfig": {"AdditionalVersionWeights": {"2": 0.2}},
    }
    stale = await refused(api, "UpdateAlias", FunctionName="hello", Name="prod", RevisionId="stale")
    assert stale[0] == "PreconditionFailedException"
    updated = await api.call(
        "UpdateAlias",
        FunctionName="hello",
        Name="prod",
        FunctionVersion="2",
        RoutingConfig={},
        Description="new",
        RevisionId=revision,
    )
    assert updated["RevisionId"] != revision
    assert "RoutingConfig" not in updated
    shown = await api.call("GetFunctionConfiguration", FunctionName="hello", Qualifier="prod")
    assert (shown["FunctionArn"], shown["Version"]) == (f"{ARN}:prod", "2")
    for _ in range(2):
        assert (await api.call("DeleteAlias", FunctionName="hello", Name="prod"))["HTTPStatusCode"] == 204
    assert await refused(api, "GetAlias", FunctionName="hello", Name="prod") == (
        "ResourceNotFoundException",
        f"Cannot find alias arn: {ARN}:prod",
    )
    assert (await refused(api, "UpdateAlias", FunctionName="hello", Name="prod"))[0] == "ResourceNotFoundException"


@pytest.mark.parametrize(
    ("version", "weights", "error", "message"),
    [
        ("9", {}, "ResourceNotFoundException", f"Function not found: {ARN}:9"),
        ("1", {"9": 0.5}, "ResourceNotFoundException", f"Function not found: {ARN}:9"),
        (
            "1",
            {"2": 0.1, "3": 0.1},
            "InvalidParameterValueException",
            "Number of items in AdditionalVersionWeights cannot be greater than 1",
        ),
        (
            "1",
            {"1": 0.5},
            "InvalidParameterValueException",
            "Invalid function version 1. Function version 1 is already included in routing configuration.",
        ),
        (
            "$LATEST",
            {"1": 0.5},
            "InvalidParameterValueException",
            "$LATEST is not supported for an alias pointing to more than 1 version",
        ),
    ],
)
async def test_an_alias_that_cannot_work_is_refused(
    api: Api, version: str, weights: dict[str, float], error: str, message: str
) -> None:
    await publish_twice(api)
    routing = {"AdditionalVersionWeights": weights}
    params = {"FunctionName": "hello", "Name": "prod", "FunctionVersion": version, "RoutingConfig": routing}
    assert await refused(api, "CreateAlias", **params) == (error, message)


@pytest.mark.parametrize("weights", [{"2": 1.5}, {"2": -0.1}, {"$LATEST": 0.5}])
async def test_a_weight_out_of_bounds_is_refused_by_the_model(api: Api, weights: dict[str, float]) -> None:
    await publish_twice(api)
    routing = {"AdditionalVersionWeights": weights}
    params = {"FunctionName": "hello", "Name": "prod", "FunctionVersion": "1", "RoutingConfig": routing}
    assert (await refused(api, "CreateAlias", **params))[0] == "ValidationException"


async def test_one_alias_twice_is_a_conflict(api: Api) -> None:
    await publish_twice(api)
    params = {"FunctionName": "hello", "Name": "prod", "FunctionVersion": "1"}
    await api.call("CreateAlias", **params)
    assert await refused(api, "CreateAlias", **params) == (
        "ResourceConflictException",
        f"Alias already exists: {ARN}:prod",
    )


async def test_aliases_are_listed_by_name_and_by_version(api: Api) -> None:
    await publish_twice(api)
    for name, version in (("b", "1"), ("a", "2"), ("c", "2")):
        await api.call("CreateAlias", FunctionName="hello", Name=name, FunctionVersion=version)
    first = await api.call("ListAliases", FunctionName="hello", MaxItems=2)
    assert [alias["Name"] for alias in first["Aliases"]] == ["a", "b"]
    second = await api.call("ListAliases", FunctionName="hello", Marker=first["NextMarker"])
    assert [alias["Name"] for alias in second["Aliases"]] == ["c"]
    filtered = await api.call("ListAliases", FunctionName="hello", FunctionVersion="2")
    assert [alias["Name"] for alias in filtered["Aliases"]] == ["a", "c"]


async def test_an_alias_made_while_its_version_is_deleted_never_points_to_nothing(api: Api) -> None:
    await publish_twice(api)
    await asyncio.gather(
        api.call("CreateAlias", FunctionName="hello", Name="prod", FunctionVersion="1"),
        api.call("DeleteFunction", FunctionName="hello", Qualifier="1"),
        return_exceptions=True,
    )
    for alias in (await api.call("ListAliases", FunctionName="hello"))["Aliases"]:
        assert await api.call("GetFunction", FunctionName="hello", Qualifier=alias["FunctionVersion"])


@pytest.mark.parametrize("reference", ["hello:1", f"{ARN}:1", "hello:live"])
@pytest.mark.parametrize(
    ("operation", "change"),
    [
        ("UpdateFunctionConfiguration", {"Timeout": 9}),
        ("UpdateFunctionCode", {"ZipFile": b"any"}),
        ("PublishVersion", {}),
    ],
)
async def test_what_changes_the_latest_version_is_refused_for_another(
    api: Api, reference: str, operation: str, change: dict[str, Any]
) -> None:
    await publish_twice(api)
    await api.call("CreateAlias", FunctionName="hello", Name="live", FunctionVersion="1")
    code, message = await refused(api, operation, FunctionName=reference, **change)
    assert code == "InvalidParameterValueException"
    assert message.startswith("This operation is permitted on Lambda functions only.")
    assert (await api.call("GetFunctionConfiguration", FunctionName="hello"))["Timeout"] == 9

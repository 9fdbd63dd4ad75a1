from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from lambent.controlplane import states
from lambent.controlplane.registry import put
from lambent.model.errors import CallerError
from lambent.substrate.memory.documents import MemoryDocuments

if TYPE_CHECKING:
    from tests.unit.controlplane.conftest import Api

MakeZip = Callable[..., bytes]
ARN = "arn:aws:lambda:us-east-1:123456789012:function:hello"


async def refused(api: Api, name: str, **params: Any) -> tuple[str, int, str]:
    with pytest.raises(CallerError) as caught:
        await api.call(name, **params)
    return caught.value.code, caught.value.status, caught.value.message


async def test_a_new_function_is_shown_as_the_contract_shows_it(api: Api) -> None:
    created = await api.create(Description="says hello", Environment={"Variables": {"A1": "1"}})
    assert re.fullmatch(r"2026-11-23T05:38:54\.\d{3}\+0000", created.pop("LastModified"))
    assert len(created.pop("CodeSha256")) == 44
    assert created.pop("CodeSize") > 0
    assert created == {
        "HTTPStatusCode": 201,
        "Architectures": ["x86_64"],
        "Description": "says hello",
        "Environment": {"Variables": {"A1": "1"}},
        "EphemeralStorage": {"Size": 512},
        "FunctionArn": ARN,
        "FunctionName": "hello",
        "Handler": "app.handler",
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/hello"},
        "MemorySize": 128,
        "PackageType": "Zip",
        "RevisionId": "00000000-0000-0000-0000-000000000000",
        "Role": "arn:aws:iam::123456789012:role/any",
        "Runtime": "python3.12",
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "State": "Pending",
        "StateReason": "The function is being created.",
        "StateReasonCode": "Creating",
        "Timeout": 3,
        "TracingConfig": {"Mode": "PassThrough"},
        "Version": "$LATEST",
    }


async def test_a_created_function_becomes_active(api: Api) -> None:
    await api.create()
    shown = await api.call("GetFunctionConfiguration", FunctionName="hello")
    assert (shown["State"], shown["LastUpdateStatus"]) == ("Active", "Successful")
    assert "StateReason" not in shown


async def test_get_function_tells_where_the_code_can_be_downloaded(api: Api) -> None:
    await api.create(Tags={"team": "one"})
    await api.call("PutFunctionConcurrency", FunctionName="hello", ReservedConcurrentExecutions=5)
    shown = await api.call("GetFunction", FunctionName="hello")
    assert shown["Code"]["RepositoryType"] == "S3"
    assert shown["Code"]["Location"].startswith("http://localhost:8700/_lambent/code/")
    assert shown["Tags"] == {"team": "one"}
    assert shown["Concurrency"] == {"ReservedConcurrentExecutions": 5}


@pytest.mark.parametrize("reference", ["hello", ARN, "123456789012:function:hello", "function:hello", f"{ARN}:$LATEST"])
async def test_a_function_is_found_by_every_form_of_its_name(api: Api, reference: str) -> None:
    await api.create()
    assert (await api.call("GetFunction", FunctionName=reference))["Configuration"]["FunctionName"] == "hello"


async def test_one_name_twice_is_a_conflict(api: Api) -> None:
    await api.create()
    with pytest.raises(CallerError, match="Function already exist: hello") as caught:
        await api.create()
    assert (caught.value.code, caught.value.status) == ("ResourceConflictException", 409)


async def test_of_two_concurrent_creations_one_wins(api: Api) -> None:
    results = await asyncio.gather(*(api.create() for _ in range(4)), return_exceptions=True)
    assert len([result for result in results if isinstance(result, dict)]) == 1
    assert {error.code for error in results if isinstance(error, CallerError)} == {"ResourceConflictException"}


async def test_create_and_publish_answers_with_version_1(api: Api) -> None:
    created = await api.create(Publish=True)
    assert (created["Version"], created["FunctionArn"]) == ("1", ARN)
    again = await api.call("PublishVersion", FunctionName="hello")
    assert (again["Version"], again["State"], again["FunctionArn"]) == ("1", "Active", f"{ARN}:1")


async def test_what_is_not_there_is_not_found(api: Api) -> None:
    not_found = ("ResourceNotFoundException", 404, f"Function not found: {ARN}")
    for operation in ("GetFunction", "GetFunctionConfiguration", "DeleteFunction", "ListVersionsByFunction"):
        assert await refused(api, operation, FunctionName="hello") == not_found
    assert (await refused(api, "GetFunction", FunctionName="hello", Qualifier="7"))[2] == f"Function not found: {ARN}:7"
    await api.create()
    assert (await refused(api, "GetFunction", FunctionName="hello:prod"))[2] == f"Function not found: {ARN}:prod"


async def test_another_region_or_account_is_out_of_reach(api: Api) -> None:
    await api.create()
    elsewhere = ARN.replace("us-east-1", "eu-west-1")
    assert (await refused(api, "GetFunction", FunctionName=elsewhere))[0] == "ResourceNotFoundException"
    foreign = ARN.replace("123456789012", "999999999999")
    assert (await refused(api, "GetFunction", FunctionName=foreign))[:2] == ("AccessDeniedException", 403)


async def test_new_code_is_in_progress_then_successful_and_active_all_along(api: Api, zip_of: MakeZip) -> None:
    before = await api.create()
    updated = await api.call("UpdateFunctionCode", FunctionName="hello", ZipFile=zip_of({"app.py": "new"}))
    assert (updated["State"], updated["LastUpdateStatus"]) == ("Active", "InProgress")
    assert updated["LastUpdateStatusReasonCode"] == "Creating"
    assert updated["CodeSha256"] != before["CodeSha256"]
    await api.plane.activation.wait_idle()
    shown = await api.call("GetFunctionConfiguration", FunctionName="hello")
    assert (shown["LastUpdateStatus"], shown["CodeSha256"]) == ("Successful", updated["CodeSha256"])
    assert shown["RevisionId"] == updated["RevisionId"]


async def test_an_update_while_one_is_under_way_is_a_conflict(api: Api, zip_of: MakeZip) -> None:
    await api.create()
    data = zip_of({"app.py": "new"})
    await api.call("UpdateFunctionConfiguration", FunctionName="hello", Timeout=5)
    expected = (
        "ResourceConflictException",
        409,
        f"The operation cannot be performed at this time. An update is in progress for resource: {ARN}",
    )
    stored = await api.plane.registry.version("123456789012", "hello", "$LATEST")
    assert stored is not None
    assert states.phase_of(stored.value) is states.Phase.UPDATING
    assert await refused(api, "UpdateFunctionConfiguration", FunctionName="hello", Timeout=6) == expected
    assert await refused(api, "PublishVersion", FunctionName="hello") == expected
    await api.plane.activation.wait_idle()
    results = await asyncio.gather(
        *(api.call("UpdateFunctionCode", FunctionName="hello", ZipFile=data) for _ in range(3)), return_exceptions=True
    )
    assert len([result for result in results if isinstance(result, dict)]) == 1
    assert {error.message for error in results if isinstance(error, CallerError)} == {expected[2]}


async def test_a_dry_run_changes_nothing(api: Api, zip_of: MakeZip) -> None:
    before = await api.create()
    tried = await api.call("UpdateFunctionCode", FunctionName="hello", ZipFile=zip_of({"a": "b"}), DryRun=True)
    assert tried["CodeSha256"] != before["CodeSha256"]
    shown = await api.call("GetFunctionConfiguration", FunctionName="hello")
    assert (shown["CodeSha256"], shown["RevisionId"]) == (before["CodeSha256"], before["RevisionId"])


async def test_update_and_publish_answers_with_the_version(api: Api, zip_of: MakeZip) -> None:
    await api.create()
    new = zip_of({"app.py": "new"})
    updated = await api.settled("UpdateFunctionCode", FunctionName="hello", ZipFile=new, Publish=True)
    assert (updated["Version"], updated["FunctionArn"], updated["State"]) == ("1", f"{ARN}:1", "Pending")
    shown = await api.call("GetFunctionConfiguration", FunctionName="hello", Qualifier="1")
    assert (shown["State"], shown["CodeSha256"]) == ("Active", updated["CodeSha256"])


@pytest.mark.parametrize("operation", ["UpdateFunctionCode", "UpdateFunctionConfiguration", "PublishVersion"])
async def test_a_stale_revision_is_refused(api: Api, operation: str, zip_of: MakeZip) -> None:
    await api.create()
    params = {"ZipFile": zip_of({"a": "b"})} if operation == "UpdateFunctionCode" else {}
    code, status, message = await refused(api, operation, FunctionName="hello", RevisionId="stale", **params)
    assert (code, status) == ("PreconditionFailedException", 412)
    assert "does not match the latest Revision Id" in message


async def test_settings_that_are_not_sent_stay(api: Api) -> None:
    await api.create(Environment={"Variables": {"A1": "1"}}, Description="first")
    await api.settled("UpdateFunctionConfiguration", FunctionName="hello", MemorySize=256)
    shown = await api.call("GetFunctionConfiguration", FunctionName="hello")
    assert (shown["MemorySize"], shown["Environment"]["Variables"], shown["Description"]) == (256, {"A1": "1"}, "first")
    await api.settled("UpdateFunctionConfiguration", FunctionName="hello", Environment={}, Description="")
    shown = await api.call("GetFunctionConfiguration", FunctionName="hello")
    assert ("Environment" in shown, shown["Description"]) == (False, "")


async def test_functions_are_listed_in_pages(api: Api) -> None:
    for name in ("b", "a", "a-1"):
        await api.create(name)
    await api.call("PublishVersion", FunctionName="a")
    first = await api.call("ListFunctions", MaxItems=2)
    assert [item["FunctionName"] for item in first["Functions"]] == ["a", "a-1"]
    assert "State" not in first["Functions"][0]
    second = await api.call("ListFunctions", Marker=first["NextMarker"])
    assert [item["FunctionName"] for item in second["Functions"]] == ["b"]
    assert "NextMarker" not in second
    everything = await api.call("ListFunctions", FunctionVersion="ALL")
    assert [item["FunctionArn"].partition("function:")[2] for item in everything["Functions"]] == [
        "a:$LATEST",
        "a:1",
        "a-1:$LATEST",
        "b:$LATEST",
    ]


async def test_a_deleted_function_takes_everything_with_it(api: Api, documents: MemoryDocuments) -> None:
    await api.create(Publish=True)
    await api.call("CreateAlias", FunctionName="hello", Name="prod", FunctionVersion="1")
    assert (await api.call("DeleteFunction", FunctionName="hello"))["HTTPStatusCode"] == 204
    for collection in ("functions", "versions", "aliases"):
        assert not await documents.list(collection)
    assert len((await api.plane.sweeper.collect(grace_s=0)).removed) == 1
    assert not list(api.plane.code.trees.iterdir())


async def test_latest_and_aliases_cannot_be_deleted_by_qualifier(api: Api) -> None:
    await api.create(Publish=True)
    await api.call("CreateAlias", FunctionName="hello", Name="prod", FunctionVersion="1")
    assert (await refused(api, "DeleteFunction", FunctionName="hello", Qualifier="$LATEST"))[2] == (
        "$LATEST version cannot be deleted without deleting the function."
    )
    assert (await refused(api, "DeleteFunction", FunctionName="hello", Qualifier="prod"))[2] == (
        "Deletion of aliases is not currently supported."
    )


async def test_a_version_that_an_alias_needs_cannot_be_deleted(api: Api) -> None:
    await api.create(Publish=True)
    await api.call("CreateAlias", FunctionName="hello", Name="prod", FunctionVersion="1")
    assert (await refused(api, "DeleteFunction", FunctionName="hello:1"))[:2] == ("ResourceConflictException", 409)
    await api.call("DeleteAlias", FunctionName="hello", Name="prod")
    await api.call("DeleteFunction", FunctionName="hello", Qualifier="1")
    assert (await refused(api, "GetFunction", FunctionName="hello:1"))[0] == "ResourceNotFoundException"
    assert await api.call("GetFunction", FunctionName="hello")


async def test_code_in_s3_needs_an_upstream_and_says_how_to_name_one(api: Api) -> None:
    with pytest.raises(CallerError, match=r"\[upstream\.s3\]"):
        await api.create(Code={"S3Bucket": "bucket", "S3Key": "key"})


async def test_code_is_fetched_from_the_upstream_s3(api: Api, zip_of: MakeZip) -> None:
    async def fetch(account: str, bucket: str, key: str, version: str | None) -> bytes:
        return zip_of({"app.py": f"{account} {bucket} {key} {version}"})

    api.plane.fetch_s3 = fetch
    await api.create(Code={"S3Bucket": "bucket", "S3Key": "key", "S3ObjectVersion": "3"})
    [tree] = api.plane.code.trees.iterdir()
    assert (tree / "app.py").read_text() == "123456789012 bucket key 3"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({}, "Please provide a source for function code"),
        ({"ZipFile": b""}, "Uploaded file must be a non-empty zip"),
        ({"ZipFile": b"no zip"}, "Could not unzip uploaded file"),
        ({"ImageUri": "image:1"}, "Code.ImageUri is not supported"),
        ({"ZipFile": b"x", "S3Bucket": "bucket", "S3Key": "k"}, "other FunctionCode parameters"),
    ],
)
async def test_bad_sources_of_code_are_refused(api: Api, source: dict[str, Any], text: str) -> None:
    with pytest.raises(CallerError, match=text) as caught:
        await api.create(Code=source)
    assert caught.value.code == "InvalidParameterValueException"


async def test_a_node_killed_while_a_function_was_pending_finishes_it(api: Api) -> None:
    created = await api.create()
    stored = await api.plane.registry.version("123456789012", "hello", "$LATEST")
    assert stored is not None
    pending = states.enter(stored.value, states.Phase.CREATING)
    await api.plane.registry.commit(put(pending, expect=stored.revision))
    [tree] = api.plane.code.trees.iterdir()
    tree.rename(tree.parent.parent / "lost")
    await api.plane.recover()
    shown = await api.call("GetFunctionConfiguration", FunctionName="hello")
    assert (shown["State"], shown["RevisionId"]) == ("Active", created["RevisionId"])
    assert (tree / "app.py").is_file()


async def test_a_function_whose_package_is_lost_is_failed_at_start_and_mended_by_an_update(
    api: Api, zip_of: MakeZip
) -> None:
    await api.create()
    stored = await api.plane.registry.version("123456789012", "hello", "$LATEST")
    assert stored is not None
    lost = msgspec.structs.replace(states.enter(stored.value, states.Phase.CREATING), digest="ab" * 32)
    await api.plane.registry.commit(put(lost, expect=stored.revision))
    await api.plane.recover()
    shown = await api.call("GetFunctionConfiguration", FunctionName="hello")
    assert (shown["State"], shown["StateReasonCode"]) == ("Failed", "InternalError")
    await api.settled("UpdateFunctionCode", FunctionName="hello", ZipFile=zip_of({"app.py": "x"}))
    assert (await api.call("GetFunctionConfiguration", FunctionName="hello"))["State"] == "Active"


async def test_account_settings_count_what_is_kept(api: Api) -> None:
    created = await api.create(Publish=True)
    await api.call("PutFunctionConcurrency", FunctionName="hello", ReservedConcurrentExecutions=100)
    settings = await api.call("GetAccountSettings")
    assert settings["AccountUsage"] == {"TotalCodeSize": 2 * created["CodeSize"], "FunctionCount": 1}
    assert settings["AccountLimit"] == {
        "TotalCodeSize": 80530636800,
        "CodeSizeUnzipped": 262144000,
        "CodeSizeZipped": 52428800,
        "ConcurrentExecutions": 1000,
        "UnreservedConcurrentExecutions": 900,
    }


async def test_what_deploy_tools_ask_on_each_refresh_is_answered(api: Api) -> None:
    await api.create()
    signing = await api.call("GetFunctionCodeSigningConfig", FunctionName="hello")
    assert (signing["FunctionName"], signing.get("CodeSigningConfigArn", "")) == ("hello", "")
    management = await api.call("GetRuntimeManagementConfig", FunctionName="hello")
    assert (management["UpdateRuntimeOn"], management["FunctionArn"]) == ("Auto", f"{ARN}:$LATEST")
    assert await refused(api, "GetPolicy", FunctionName="hello") == (
        "ResourceNotFoundException",
        404,
        "The resource you requested does not exist.",
    )

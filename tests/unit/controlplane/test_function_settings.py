from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lambent.model.errors import CallerError

if TYPE_CHECKING:
    from tests.unit.controlplane.conftest import Api

ARN = "arn:aws:lambda:us-east-1:123456789012:function:hello"


async def refused(api: Api, **params: Any) -> tuple[str, str]:
    with pytest.raises(CallerError) as caught:
        await api.create(**params)
    return caught.value.code, caught.value.message


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("VpcConfig", {"SubnetIds": ["subnet-1"], "SecurityGroupIds": []}),
        ("KMSKeyArn", "arn:aws:kms:us-east-1:123456789012:key/1"),
        (
            "FileSystemConfigs",
            [
                {
                    "Arn": "arn:aws:elasticfilesystem:us-east-1:123456789012:access-point/fsap-0123456789abcdef0",
                    "LocalMountPath": "/mnt/x",
                }
            ],
        ),
        ("ImageConfig", {"Command": ["x"]}),
        ("PackageType", "Image"),
        (
            "CodeSigningConfigArn",
            "arn:aws:lambda:us-east-1:123456789012:code-signing-config:csc-0123456789abcdef0",
        ),
        ("TenancyConfig", {"TenantIsolationMode": "PER_TENANT"}),
        ("DurableConfig", {"ExecutionTimeout": 60}),
        ("PublishTo", "LATEST_PUBLISHED"),
    ],
)
async def test_a_setting_without_effect_is_refused_by_name(api: Api, member: str, value: Any) -> None:
    code, message = await refused(api, **{member: value})
    assert code == "InvalidParameterValueException"
    assert message.startswith(f"{member} is not supported: ")


async def test_dead_letters_go_to_a_queue_or_a_topic_and_are_shown(api: Api) -> None:
    queue = "arn:aws:sqs:us-east-1:123456789012:q"
    assert (await api.create(DeadLetterConfig={"TargetArn": queue}))["DeadLetterConfig"] == {"TargetArn": queue}
    code, message = await refused(api, DeadLetterConfig={"TargetArn": queue.replace("sqs", "s3")})
    assert (code, message.split(":")[0]) == ("InvalidParameterValueException", "DeadLetterConfig")


async def test_what_deploy_tools_send_for_nothing_is_accepted(api: Api) -> None:
    await api.create(
        VpcConfig={"SubnetIds": [], "SecurityGroupIds": [], "Ipv6AllowedForDualStack": False},
        DeadLetterConfig={"TargetArn": ""},
        KMSKeyArn="",
        FileSystemConfigs=[],
        ImageConfig={},
        SnapStart={"ApplyOn": "None"},
        TracingConfig={"Mode": "PassThrough"},
        PackageType="Zip",
        Architectures=["x86_64"],
        Layers=[],
    )


async def test_another_architecture_than_the_machines_is_refused(api: Api) -> None:
    code, message = await refused(api, Architectures=["arm64"])
    assert (code, message.startswith("Architectures: this machine is x86_64")) == (
        "InvalidParameterValueException",
        True,
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"Timeout": 901}, "Value '901' at 'timeout' failed to satisfy constraint: Member must have value less"),
        ({"MemorySize": 10241}, "Value '10241' at 'memorySize' failed to satisfy constraint: Member must have value"),
        ({"EphemeralStorage": {"Size": 10241}}, "Value '10241' at 'ephemeralStorage.size' failed to satisfy"),
        (
            {"Timeout": 0},
            "at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1",
        ),
        ({"MemorySize": 127}, "at 'memorySize' failed to satisfy constraint: Member must have value greater"),
    ],
)
async def test_sizes_out_of_the_contracts_bounds_are_refused(api: Api, setting: dict[str, Any], message: str) -> None:
    code, text = await refused(api, **setting)
    assert (code, message in text) == ("ValidationException", True)


async def test_the_largest_sizes_are_accepted(api: Api) -> None:
    created = await api.create(Timeout=900, MemorySize=10240, EphemeralStorage={"Size": 10240})
    assert (created["Timeout"], created["MemorySize"], created["EphemeralStorage"]) == (900, 10240, {"Size": 10240})


async def test_reserved_variables_are_refused_in_the_contracts_words(api: Api) -> None:
    assert await refused(api, Environment={"Variables": {"AWS_REGION": "x", "MINE": "y"}}) == (
        "InvalidParameterValueException",
        "Lambda was unable to configure your environment variables because the environment variables you have provided "
        "contains reserved keys that are currently not supported for modification. "
        "Reserved keys used in this request: AWS_REGION",
    )


async def test_variables_that_are_not_reserved_are_accepted(api: Api) -> None:
    await api.create(Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/w", "AWS_ENDPOINT_URL": "http://x"}})


async def test_variables_are_measured_as_the_contract_measures_them(api: Api) -> None:
    overhead = len('{"NAME":""}')
    await api.create(Environment={"Variables": {"NAME": "x" * (4096 - overhead)}})
    code, message = await refused(api, Environment={"Variables": {"NAME": "x" * (4097 - overhead)}})
    assert code == "InvalidParameterValueException"
    assert 'exceeded the 4KB limit. String measured: {"NAME":"xxx' in message


async def test_a_variable_that_no_process_can_have_is_refused(api: Api) -> None:
    assert "NUL" in (await refused(api, Environment={"Variables": {"NAME": "a\0b"}}))[1]


@pytest.mark.parametrize("runtime", ["python3.8", "nodejs18.x", "provided"])
async def test_a_retired_runtime_is_refused_with_those_that_are_not(api: Api, runtime: str) -> None:
    code, message = await refused(api, Runtime=runtime)
    assert code == "InvalidParameterValueException"
    assert f"The runtime parameter of {runtime} is no longer supported" in message
    assert "python3.14" in message


@pytest.mark.parametrize("runtime", ["java21", "ruby3.4", "dotnet8"])
async def test_a_runtime_that_lambent_lacks_is_refused_with_the_way_round(api: Api, runtime: str) -> None:
    code, message = await refused(api, Runtime=runtime)
    assert (code, "provided.al2023 with an executable named bootstrap" in message) == (
        "InvalidParameterValueException",
        True,
    )


async def test_a_runtime_that_cannot_be_had_here_is_refused_with_its_reason(api: Api) -> None:
    api.plane.runtime_available = lambda runtime: f"{runtime} is not installed. Install it with uv."
    assert (await refused(api))[1] == "python3.12 is not installed. Install it with uv."


@pytest.mark.parametrize("missing", ["Runtime", "Handler"])
async def test_runtime_and_handler_are_mandatory(api: Api, missing: str) -> None:
    assert (await refused(api, **{missing: None}))[1] == (
        "Runtime and Handler are mandatory parameters for functions created with deployment packages."
    )


async def test_log_levels_belong_to_the_json_format(api: Api) -> None:
    code, message = await refused(api, LoggingConfig={"ApplicationLogLevel": "DEBUG"})
    assert (code, "JSON log format only" in message) == ("InvalidParameterValueException", True)
    created = await api.create(LoggingConfig={"LogFormat": "JSON", "SystemLogLevel": "WARN", "LogGroup": "own"})
    assert created["LoggingConfig"] == {
        "LogFormat": "JSON",
        "LogGroup": "own",
        "ApplicationLogLevel": "INFO",
        "SystemLogLevel": "WARN",
    }
    updated = await api.settled(
        "UpdateFunctionConfiguration", FunctionName="hello", LoggingConfig={"ApplicationLogLevel": "ERROR"}
    )
    assert updated["LoggingConfig"]["SystemLogLevel"] == "WARN"
    plain = await api.settled("UpdateFunctionConfiguration", FunctionName="hello", LoggingConfig={"LogFormat": "Text"})
    assert plain["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "own"}


async def test_tags_live_as_the_contract_has_them(api: Api) -> None:
    await api.create(Tags={"a": "1"})
    assert (await api.call("TagResource", Resource=ARN, Tags={"b": "2", "a": "3"}))["HTTPStatusCode"] == 204
    assert (await api.call("ListTags", Resource=ARN))["Tags"] == {"a": "3", "b": "2"}
    await api.call("UntagResource", Resource=ARN, TagKeys=["a", "unknown"])
    assert (await api.call("ListTags", Resource=ARN))["Tags"] == {"b": "2"}
    with pytest.raises(CallerError, match="Tags on function aliases and versions are not supported"):
        await api.call("TagResource", Resource=f"{ARN}:1", Tags={"a": "1"})
    with pytest.raises(CallerError, match="Function not found"):
        await api.call("ListTags", Resource=f"{ARN}-unknown")


@pytest.mark.parametrize(
    ("tag", "value", "text"),
    [
        ("lambent:network", "host", "'host' is not one of outgoing, none"),
        ("lambent:max-wait-seconds", "901", "whole number from 0 to 900"),
        ("lambent:max-wait-seconds", "-1", "whole number from 0 to 900"),
        ("lambent:max-wait-seconds", "1.5", "whole number from 0 to 900"),
        ("lambent:typo", "x", "Lambent has no such setting"),
        ("aws:mine", "x", "are reserved"),
    ],
)
async def test_lambents_own_settings_are_checked(api: Api, tag: str, value: str, text: str) -> None:
    code, message = await refused(api, Tags={tag: value})
    assert (code, text in message) == ("InvalidParameterValueException", True)
    await api.create()
    with pytest.raises(CallerError, match="Tag"):
        await api.call("TagResource", Resource=ARN, Tags={tag: value})
    assert (await api.call("ListTags", Resource=ARN))["Tags"] == {}


async def test_lambents_own_settings_are_kept_as_tags(api: Api) -> None:
    settings = {"lambent:network": "none", "lambent:max-wait-seconds": "900"}
    await api.create(Tags=settings)
    assert (await api.call("ListTags", Resource=ARN))["Tags"] == settings


async def test_more_than_fifty_tags_are_refused(api: Api) -> None:
    await api.create(Tags={f"tag{number}": "" for number in range(50)})
    with pytest.raises(CallerError, match="Number of tags exceeds resource tag limit"):
        await api.call("TagResource", Resource=ARN, Tags={"one": "more"})


async def test_reserved_concurrency_is_put_and_taken_away(api: Api) -> None:
    await api.create()
    answer = await api.call("GetFunctionConcurrency", FunctionName="hello")
    assert "ReservedConcurrentExecutions" not in answer
    await api.call("PutFunctionConcurrency", FunctionName="hello", ReservedConcurrentExecutions=0)
    answer = await api.call("GetFunctionConcurrency", FunctionName="hello")
    assert answer["ReservedConcurrentExecutions"] == 0
    deleted = await api.call("DeleteFunctionConcurrency", FunctionName="hello")
    assert deleted["HTTPStatusCode"] == 204


async def test_a_hundred_stay_for_functions_without_a_reservation(api: Api) -> None:
    await api.create("hello")
    await api.create("other")
    await api.call("PutFunctionConcurrency", FunctionName="other", ReservedConcurrentExecutions=400)
    await api.call("PutFunctionConcurrency", FunctionName="hello", ReservedConcurrentExecutions=500)
    # What the function has itself does not count against it.
    await api.call("PutFunctionConcurrency", FunctionName="hello", ReservedConcurrentExecutions=499)
    with pytest.raises(CallerError) as caught:
        await api.call("PutFunctionConcurrency", FunctionName="hello", ReservedConcurrentExecutions=501)
    assert caught.value.message == (
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below "
        "its minimum value of [100]."
    )


async def test_of_a_small_account_a_tenth_stays(api: Api) -> None:
    api.plane.account_concurrency = 50
    await api.create()
    await api.call("PutFunctionConcurrency", FunctionName="hello", ReservedConcurrentExecutions=45)
    with pytest.raises(CallerError, match=r"minimum value of \[5\]"):
        await api.call("PutFunctionConcurrency", FunctionName="hello", ReservedConcurrentExecutions=46)


async def test_reserved_concurrency_is_for_functions_only(api: Api) -> None:
    with pytest.raises(CallerError, match="Aliases and versions do not support this operation"):
        await api.call("PutFunctionConcurrency", FunctionName="hello:1", ReservedConcurrentExecutions=1)
    with pytest.raises(CallerError, match=r"function:hello:\$LATEST"):
        await api.call("PutFunctionConcurrency", FunctionName="hello", ReservedConcurrentExecutions=1)

"""The service's own words for what breaks a constraint."""

from __future__ import annotations

from typing import Any

import pytest

from lambent.awsapi.models import load_model
from lambent.awsapi.validation import _compile, validate
from lambent.model.errors import CallerError

MODEL = load_model("lambda")
CREATE: dict[str, Any] = {"FunctionName": "f", "Role": "arn:aws:iam::123456789012:role/r", "Code": {}}
NAME = {"FunctionName": "f"}
QUALIFIER = MODEL.shapes["NumericLatestPublishedOrAliasQualifier"]["pattern"]


def refuse(operation: str, parameters: dict[str, Any]) -> str:
    shape = MODEL.operations[operation].input
    assert shape is not None
    with pytest.raises(CallerError) as caught:
        validate(parameters, shape)
    assert (caught.value.code, caught.value.status) == ("ValidationException", 400)
    return caught.value.message


def test_what_keeps_every_constraint_passes() -> None:
    shape = MODEL.operations["CreateFunction"].input
    assert shape is not None
    validate({**CREATE, "Architectures": ["x86_64"], "Tags": {"a": "é 1"}, "Timeout": 1}, shape)


@pytest.mark.parametrize(
    ("operation", "parameters", "problem"),
    [
        ("GetFunction", {}, "Value null at 'functionName' failed to satisfy constraint: Member must not be null"),
        (
            "CreateFunction",
            {**CREATE, "Timeout": 0},
            "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1",
        ),
        (
            "CreateFunction",
            {**CREATE, "Description": "d" * 257},
            f"Value '{'d' * 257}' at 'description' failed to satisfy constraint: "
            "Member must have length less than or equal to 256",
        ),
        (
            "CreateFunction",
            {**CREATE, "PackageType": "Tar"},
            "Value 'Tar' at 'packageType' failed to satisfy constraint: Member must satisfy enum value set: "
            "[Zip, Image]",
        ),
        (
            "GetFunction",
            {**NAME, "Qualifier": "a!"},
            "Value 'a!' at 'qualifier' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {QUALIFIER}",
        ),
        (
            "CreateFunction",
            {**CREATE, "Architectures": ["foo"]},
            "Value '[foo]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: "
            "[Member must satisfy enum value set: [x86_64, arm64], Member must not be null]",
        ),
        (
            "CreateFunctionUrlConfig",
            {**NAME, "AuthType": "NONE", "Cors": {"AllowMethods": ["GET", "POST", "OPTIONS"]}},
            "Value '[GET, POST, OPTIONS]' at 'cors.allowMethods' failed to satisfy constraint: Member must satisfy "
            "constraint: [Member must have length less than or equal to 6, Member must have length greater than or "
            "equal to 0, Member must satisfy regular expression pattern: .*, Member must not be null]",
        ),
        (
            "CreateAlias",
            {**NAME, "Name": "a", "FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"x": 0.5}}},
            "Value '{x=0.5}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map keys must "
            "satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater "
            "than or equal to 1, Member must satisfy regular expression pattern: [0-9]+]",
        ),
        (
            "CreateAlias",
            {**NAME, "Name": "a", "FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"1": 2.0}}},
            "Value '{1=2.0}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map value must "
            "satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater "
            "than or equal to 0.0]",
        ),
    ],
)
def test_one_problem_is_told_as_the_service_tells_it(operation: str, parameters: dict[str, Any], problem: str) -> None:
    assert refuse(operation, parameters) == f"1 validation error detected: {problem}"


def test_several_problems_are_told_at_once() -> None:
    message = refuse("CreateFunction", {**CREATE, "Timeout": 0, "MemorySize": 1})
    assert message.startswith("2 validation errors detected: Value '")
    assert message.count("; Value '") == 1


def test_environment_variables_are_not_repeated_in_a_message() -> None:
    message = refuse("CreateFunction", {**CREATE, "Environment": {"Variables": {"1bad": "hunter2"}}})
    assert message == (
        "1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: Map keys must "
        "satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]"
    )


def test_a_member_deep_in_a_list_is_named_by_its_way() -> None:
    message = refuse("CreateFunction", {**CREATE, "FileSystemConfigs": [{"Arn": "x", "LocalMountPath": "/mnt/a"}]})
    assert "at 'fileSystemConfigs.1.member.arn'" in message


def test_every_pattern_of_the_model_compiles() -> None:
    patterns = {shape["pattern"] for shape in MODEL.shapes.values() if "pattern" in shape}
    assert patterns
    for pattern in patterns:
        _compile(pattern)


@pytest.mark.parametrize("text", ["ключ", "a b", "x_.:/=+-@", "٣"])
def test_tags_may_hold_letters_digits_and_blanks_of_every_script(text: str) -> None:
    assert _compile(MODEL.shapes["TagKey"]["pattern"]).fullmatch(text)


@pytest.mark.parametrize("text", ["a#", "a*", "<"])
def test_tags_may_hold_no_other_signs(text: str) -> None:
    assert not _compile(MODEL.shapes["TagKey"]["pattern"]).fullmatch(text)

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from lambent.controlplane.packages import merged_name
from lambent.model import limits
from lambent.model.errors import CallerError

if TYPE_CHECKING:
    from tests.unit.controlplane.conftest import Api

MakeZip = Callable[..., bytes]
ARN = "arn:aws:lambda:us-east-1:123456789012:layer:lib"


async def refused(api: Api, name: str, **params: Any) -> tuple[str, str]:
    with pytest.raises(CallerError) as caught:
        await api.call(name, **params)
    return caught.value.code, caught.value.message


async def publish(api: Api, data: bytes, name: str = "lib", **params: Any) -> dict[str, Any]:
    return await api.call("PublishLayerVersion", LayerName=name, Content={"ZipFile": data}, **params)


async def test_a_layer_version_is_shown_as_the_contract_shows_it(api: Api, zip_of: MakeZip) -> None:
    published = await publish(api, zip_of({"a": "1"}), Description="d", CompatibleRuntimes=["python3.12"])
    assert published.pop("HTTPStatusCode") == 201
    content = published.pop("Content")
    assert content["Location"].startswith("http://localhost:8700/")
    assert len(content["CodeSha256"]) == 44
    assert published.pop("CreatedDate").endswith("+0000")
    assert published == {
        "LayerArn": ARN,
        "LayerVersionArn": f"{ARN}:1",
        "Description": "d",
        "Version": 1,
        "CompatibleRuntimes": ["python3.12"],
    }
    assert (await api.call("GetLayerVersion", LayerName="lib", VersionNumber=1))["Content"] == content
    assert (await api.call("GetLayerVersion", LayerName=ARN, VersionNumber=1))["Content"] == content
    assert (await api.call("GetLayerVersionByArn", Arn=f"{ARN}:1"))["Content"] == content


async def test_the_number_of_a_deleted_layer_version_is_never_given_again(api: Api, zip_of: MakeZip) -> None:
    await publish(api, zip_of({"a": "1"}))
    for _ in range(2):
        deleted = await api.call("DeleteLayerVersion", LayerName="lib", VersionNumber=1)
        assert deleted["HTTPStatusCode"] == 204
    missing = ("ResourceNotFoundException", "The resource you requested does not exist.")
    assert await refused(api, "GetLayerVersion", LayerName="lib", VersionNumber=1) == missing
    assert await refused(api, "GetLayerVersionByArn", Arn=f"{ARN}:1") == missing
    assert (await publish(api, zip_of({"a": "1"})))["Version"] == 2
    assert (await refused(api, "GetLayerVersion", LayerName="lib", VersionNumber=0))[1] == (
        "Layer Version Cannot be less than 1"
    )


async def test_layers_are_listed_with_their_latest_version_that_matches(api: Api, zip_of: MakeZip) -> None:
    data = zip_of({"a": "1"})
    await publish(api, data, CompatibleRuntimes=["python3.12"], CompatibleArchitectures=["x86_64"])
    await publish(api, data, CompatibleRuntimes=["nodejs22.x"], CompatibleArchitectures=["arm64"])
    await publish(api, data, name="another")
    listed = await api.call("ListLayers")
    assert [(item["LayerName"], item["LatestMatchingVersion"]["Version"]) for item in listed["Layers"]] == [
        ("another", 1),
        ("lib", 2),
    ]
    python = await api.call("ListLayers", CompatibleRuntime="python3.12")
    assert [item["LatestMatchingVersion"]["Version"] for item in python["Layers"]] == [1]
    arm = await api.call("ListLayerVersions", LayerName="lib", CompatibleArchitecture="arm64")
    assert [item["Version"] for item in arm["LayerVersions"]] == [2]
    first = await api.call("ListLayerVersions", LayerName="lib", MaxItems=1)
    assert [item["Version"] for item in first["LayerVersions"]] == [2]
    second = await api.call("ListLayerVersions", LayerName="lib", Marker=first["NextMarker"])
    assert [item["Version"] for item in second["LayerVersions"]] == [1]


async def test_the_layers_of_a_function_are_merged_before_it_is_active(api: Api, zip_of: MakeZip) -> None:
    arns = [
        (await publish(api, zip_of({"lib.py": name}), name=name))["LayerVersionArn"] for name in ("first", "second")
    ]
    created = await api.create(Layers=arns)
    assert [layer["Arn"] for layer in created["Layers"]] == arns
    stored = await api.plane.registry.version("123456789012", "hello", "$LATEST")
    assert stored is not None
    merged = api.plane.code.tree(merged_name([layer.digest for layer in stored.value.layers]))
    assert (merged / "lib.py").read_text() == "second"


async def test_a_deleted_layer_stays_with_the_functions_that_use_it(api: Api, zip_of: MakeZip) -> None:
    arn = (await publish(api, zip_of({"lib.py": "x"})))["LayerVersionArn"]
    await api.create(Layers=[arn])
    await api.call("DeleteLayerVersion", LayerName="lib", VersionNumber=1)
    assert not (await api.plane.sweeper.collect(grace_s=0)).removed
    await api.settled("UpdateFunctionConfiguration", FunctionName="hello", Layers=[])
    assert len((await api.plane.sweeper.collect(grace_s=0)).removed) == 1


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([f"{ARN}:7"], f"Layer version {ARN}:7 does not exist."),
        (
            [f"{ARN}:1", f"{ARN}:2"],
            "Two different versions of the same layer are not allowed to be referenced in the same function. "
            f"{ARN}:1 and {ARN}:2 are versions of the same layer.",
        ),
        ([f"{ARN}:1"] * 6, "Cannot reference more than 5 layers."),
        (
            [f"{ARN}:1".replace("us-east-1", "eu-west-1")],
            "Layers are not in the same region as the function. Layers are expected to be in region us-east-1.",
        ),
    ],
)
async def test_layers_that_cannot_be_used_are_refused(
    api: Api, layers: list[str], message: str, zip_of: MakeZip
) -> None:
    await publish(api, zip_of({"a": "1"}))
    await publish(api, zip_of({"a": "2"}))
    with pytest.raises(CallerError) as caught:
        await api.create(Layers=layers)
    assert (caught.value.code, caught.value.message) == ("InvalidParameterValueException", message)


async def test_code_and_layers_are_weighed_together(api: Api, zip_of: MakeZip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNZIPPED_CODE_BYTES", 1000)
    arn = (await publish(api, zip_of({"a": "x" * 600})))["LayerVersionArn"]
    with pytest.raises(CallerError, match=r"Function code combined with layers .* actual size is 1100 bytes"):
        await api.create(Layers=[arn], Code={"ZipFile": zip_of({"app.py": "x" * 500})})
    await api.create(Code={"ZipFile": zip_of({"app.py": "x" * 500})})
    code, message = await refused(api, "UpdateFunctionConfiguration", FunctionName="hello", Layers=[arn])
    assert (code, "combined with layers" in message) == ("InvalidParameterValueException", True)


async def test_a_bad_zip_is_refused_for_a_layer_too(api: Api) -> None:
    code, message = await refused(api, "PublishLayerVersion", LayerName="lib", Content={"ZipFile": b"no"})
    assert (code, message.startswith("Could not unzip")) == ("InvalidParameterValueException", True)

"""Names of functions and layers, markers of pages, and the model files."""

from __future__ import annotations

import gzip
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from lambent.awsapi import arns, pagination
from lambent.awsapi.context import RequestContext
from lambent.awsapi.models import load_model
from lambent.model.errors import CallerError, OperatorError

HERE = RequestContext(account="123456789012", region="us-east-1", access_key="LKIA", request_id="r")
ARN = "arn:aws:lambda:us-east-1:123456789012:function:f"


@pytest.mark.parametrize("reference", ["f", "function:f", "123456789012:function:f", "123456789012:f", ARN])
def test_a_function_is_named_in_every_form(reference: str) -> None:
    assert arns.parse_function(reference, context=HERE) == ("f", None)
    assert arns.parse_function(f"{reference}:prod", context=HERE) == ("f", "prod")
    assert arns.parse_function(f"{reference}:$LATEST", context=HERE) == ("f", "$LATEST")
    assert arns.parse_function(reference, "7", context=HERE) == ("f", "7")
    assert arns.parse_function(f"{reference}:7", "7", context=HERE) == ("f", "7")


def test_two_qualifiers_must_agree() -> None:
    with pytest.raises(CallerError) as caught:
        arns.parse_function("f:1", "2", context=HERE)
    assert caught.value.code == "InvalidParameterValueException"
    assert caught.value.message == (
        "The derived qualifier from the function name does not match the specified qualifier."
    )


@pytest.mark.parametrize(
    ("reference", "code", "status"),
    [
        (ARN.replace("us-east-1", "eu-west-1"), "ResourceNotFoundException", 404),
        (ARN.replace("123456789012", "210987654321"), "AccessDeniedException", 403),
        ("210987654321:function:f", "AccessDeniedException", 403),
        ("", "ValidationException", 400),
        ("a b", "ValidationException", 400),
        ("f\n", "ValidationException", 400),
        ("f" * 65, "ValidationException", 400),
        ("f:", "ValidationException", 400),
        ("f:a:b", "ValidationException", 400),
        ("٣" * 12 + ":function:f", "ValidationException", 400),
        ("f" * 100_000, "ValidationException", 400),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(reference: str, code: str, status: int) -> None:
    with pytest.raises(CallerError) as caught:
        arns.parse_function(reference, context=HERE)
    assert (caught.value.code, caught.value.status) == (code, status)


def test_layers_are_named_by_name_and_by_arn() -> None:
    arn = arns.format_layer("123456789012", "us-east-1", "l")
    assert arns.parse_layer("l", context=HERE) == ("123456789012", "us-east-1", "l", None)
    assert arns.parse_layer(arn, context=HERE) == ("123456789012", "us-east-1", "l", None)
    versioned = arns.format_layer("123456789012", "us-east-1", "l", 3)
    assert versioned == f"{arn}:3"
    assert arns.parse_layer(versioned, context=HERE) == ("123456789012", "us-east-1", "l", 3)


@pytest.mark.parametrize("reference", ["", "a b", "l:x", f"l:{'9' * 5000}", "l:٣", ARN])
def test_what_names_no_layer_is_refused(reference: str) -> None:
    with pytest.raises(CallerError) as caught:
        arns.parse_layer(reference, context=HERE)
    assert caught.value.code == "InvalidParameterValueException"


@pytest.mark.parametrize("key", ["a", "ключ", "a/b?c", "1" * 200])
def test_a_marker_leads_back_to_its_key(key: str) -> None:
    assert pagination.decode_marker(pagination.encode_marker(key)) == key


@pytest.mark.parametrize("marker", ["é", "!!", "a", "_w==", "\ud800"])
def test_a_marker_that_was_never_given_is_refused(marker: str) -> None:
    with pytest.raises(CallerError) as caught:
        pagination.decode_marker(marker)
    assert caught.value.code == "InvalidParameterValueException"


def test_pages_hold_every_item_once() -> None:
    items = [f"{number:03}" for number in range(120)]
    seen: list[str] = []
    marker: str | None = None
    while True:
        page, marker = pagination.cut_page(items, marker=marker, max_items=None, key=str)
        assert len(page) <= 50
        seen += page
        if marker is None:
            break
    assert seen == items


def test_a_page_of_the_last_items_has_no_marker() -> None:
    assert pagination.cut_page(["a", "b"], marker=None, max_items=2, key=str) == (["a", "b"], None)
    assert pagination.cut_page(["a", "b"], marker=None, max_items=10_000, key=str) == (["a", "b"], None)


def test_loading_a_model_does_not_import_botocore() -> None:
    code = (
        "import sys; from lambent.awsapi.models import load_model; "
        "assert load_model('lambda').operations; assert 'botocore' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(source_folder())})


def source_folder() -> Path:
    return Path(arns.__file__).parents[2]


def point_botocore_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    spec = ModuleSpec("botocore", None, origin=str(folder / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: spec)
    versions = folder / "data" / "toy"
    (versions / "2020-01-01").mkdir(parents=True)
    (versions / "2021-01-01").mkdir()
    return versions


TOY = b'{"metadata":{"apiVersion":"%s"},"operations":{},"shapes":{"A":{"type":"string","documentation":"long"}}}'


def test_the_newest_version_is_read_packed_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = point_botocore_at(tmp_path, monkeypatch)
    (versions / "2020-01-01" / "service-2.json").write_bytes(TOY % b"old")
    (versions / "2021-01-01" / "service-2.json.gz").write_bytes(gzip.compress(TOY % b"new"))
    assert load_model("toy").metadata["apiVersion"] == "new"
    assert load_model("toy", "2020-01-01").metadata["apiVersion"] == "old"
    assert load_model("toy").shapes["A"] == {"type": "string"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("other.json", b"{}"),
        ("service-2.json", b"{"),
        ("service-2.json", b"{}"),
        ("service-2.json", b"[]"),
        ("service-2.json.gz", b"not gzip"),
        ("service-2.json.gz", gzip.compress(TOY, mtime=0)[:40]),
    ],
)
def test_a_damaged_model_is_the_operators_to_mend(
    name: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (point_botocore_at(tmp_path, monkeypatch) / "2021-01-01" / name).write_bytes(content)
    with pytest.raises(OperatorError, match="missing or damaged; reinstall it") as caught:
        load_model("toy")
    assert "\n" not in str(caught.value)


def test_without_botocore_the_operator_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(OperatorError, match="pip install botocore"):
        load_model("lambda")


def test_a_service_that_botocore_does_not_know_is_named() -> None:
    with pytest.raises(OperatorError, match="no service model of nonesuch"):
        load_model("nonesuch")

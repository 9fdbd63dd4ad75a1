from __future__ import annotations

import os
import stat
from pathlib import Path

import botocore.session
import pytest

from lambent.identity.accounts import AccessKey
from lambent.identity.profile import write_profile
from lambent.model.errors import OperatorError

KEY = AccessKey(access_key_id="LKIAAAAAAAAAAAAAAAAA", secret="s" * 40, account="123456789012", created_at="2026-11-23")


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "aws" / "credentials"
    write_profile(path, KEY, region="eu-central-1", endpoint_url="http://127.0.0.1:8700")
    return path


@pytest.mark.parametrize("name", [None, "default", "lambent"])
@pytest.mark.parametrize(
    "variables",
    [
        ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"),
        ("AWS_CONFIG_FILE",),
        ("AWS_SHARED_CREDENTIALS_FILE",),
    ],
    ids="+".join,
)
def test_aws_tools_find_key_region_and_endpoint(
    profile: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: tuple[str, ...], name: str | None
) -> None:
    for variable in [variable for variable in os.environ if variable.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in variables:
        monkeypatch.setenv(variable, str(profile))
    session = botocore.session.Session(profile=name)
    credentials = session.get_credentials()
    assert (credentials.access_key, credentials.secret_key) == (KEY.access_key_id, KEY.secret)
    client = session.create_client("lambda")
    assert client.meta.region_name == "eu-central-1"
    assert client.meta.endpoint_url == "http://127.0.0.1:8700"


def test_only_the_owner_can_read_the_profile(profile: Path) -> None:
    assert stat.S_IMODE(profile.stat().st_mode) == 0o600
    assert [file.name for file in profile.parent.iterdir()] == ["credentials"]


def test_a_profile_that_was_readable_by_all_is_replaced_by_one_that_is_not(profile: Path) -> None:
    profile.chmod(0o644)
    write_profile(profile, KEY, region="us-east-1", endpoint_url="http://127.0.0.1:9000")
    assert stat.S_IMODE(profile.stat().st_mode) == 0o600
    assert "endpoint_url = http://127.0.0.1:9000" in profile.read_text()
    assert "8700" not in profile.read_text()


def test_a_place_that_cannot_be_written_is_the_operators_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OperatorError, match="cannot be written"):
        write_profile(tmp_path / "taken", KEY, region="us-east-1", endpoint_url="http://127.0.0.1:8700")
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]

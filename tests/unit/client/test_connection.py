from __future__ import annotations

from pathlib import Path

import pytest

from lambent.client.connection import DEFAULT_ENDPOINT, resolve_connection
from lambent.client.errors import BadConnection
from lambent.identity.accounts import AccessKey
from lambent.identity.profile import write_profile

KEY = AccessKey(access_key_id="LKIA", secret="hidden", account="123456789012", created_at="2026-11-23")
ENDPOINT = "http://127.0.0.1:8701"
AWS_KEY = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "aws", "AWS_REGION": "us-west-2"}


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    write_profile(path, KEY, region="eu-central-1", endpoint_url=ENDPOINT)
    return path


def test_on_the_nodes_machine_nothing_needs_to_be_said(profile: Path) -> None:
    found = resolve_connection(environ={}, profiles=[profile.parent / "none", profile])
    assert found.credentials is not None
    assert (found.endpoint, found.region, found.credentials.access_key) == (ENDPOINT, "eu-central-1", "LKIA")


def test_a_key_for_aws_in_the_environment_is_not_used_for_the_profiles_node(profile: Path) -> None:
    for environ in (AWS_KEY, {**AWS_KEY, "LAMBENT_ENDPOINT": ENDPOINT}):
        found = resolve_connection(environ=environ, profiles=[profile])
        assert found.credentials is not None
        assert (found.credentials.access_key, found.region) == ("LKIA", "eu-central-1")


def test_the_variables_of_aws_tools_belong_together(profile: Path) -> None:
    found = resolve_connection(environ={**AWS_KEY, "AWS_ENDPOINT_URL": ENDPOINT + "/"}, profiles=[profile])
    assert found.credentials is not None
    assert (found.endpoint, found.region, found.credentials.access_key) == (ENDPOINT, "us-west-2", "AKIA")


def test_the_flag_wins_over_every_variable(profile: Path) -> None:
    environ = {"LAMBENT_ENDPOINT": "http://a", "AWS_ENDPOINT_URL": "http://b", **AWS_KEY}
    found = resolve_connection(endpoint="http://flag", region="ap-south-1", environ=environ, profiles=[profile])
    assert (found.endpoint, found.region, found.source) == ("http://flag", "ap-south-1", "--endpoint")


def test_an_endpoint_without_a_key_beside_it_takes_the_profiles(profile: Path) -> None:
    found = resolve_connection(environ={"AWS_ENDPOINT_URL": "http://tunnel:1"}, profiles=[profile])
    assert found.credentials is not None
    assert found.credentials.access_key == "LKIA"


def test_without_anything_the_default_port_is_called_unsigned() -> None:
    found = resolve_connection(environ={})
    assert (found.endpoint, found.credentials) == (DEFAULT_ENDPOINT, None)


def test_a_profile_that_another_user_may_not_read_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    assert resolve_connection(environ={}, profiles=[folder]).endpoint == DEFAULT_ENDPOINT


@pytest.mark.parametrize("text", ["", "nonsense", "[default]\n", "[lambent]\nregion = x\n"])
def test_a_file_that_is_no_profile_says_how_to_renew_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "credentials"
    path.write_text(text)
    with pytest.raises(BadConnection, match="restart the node to renew it"):
        resolve_connection(environ={}, profiles=[path])


@pytest.mark.parametrize("url", ["127.0.0.1:8700", "ftp://x", "http://"])
def test_an_endpoint_must_be_a_url(url: str) -> None:
    with pytest.raises(BadConnection, match="LAMBENT_ENDPOINT must be a URL"):
        resolve_connection(environ={"LAMBENT_ENDPOINT": url})


def test_a_secret_is_not_shown(profile: Path) -> None:
    assert "hidden" not in repr(resolve_connection(environ={}, profiles=[profile]))

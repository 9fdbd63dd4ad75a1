from __future__ import annotations

import os
from pathlib import Path

import pytest

from lambent.model.errors import OperatorError
from lambent.node.config import Settings, default_data_dir, load_settings, setting_names

DOCS = Path(__file__).parents[3] / "docs" / "cli.md"


def load(folder: Path, **given: object) -> Settings:
    environ = {"HOME": "/home/u", **given.pop("environ", {})}  # type: ignore[dict-item]
    return load_settings(folder=folder, environ=environ, **given)  # type: ignore[arg-type]


def write(folder: Path, text: str) -> Path:
    path = folder / "lambent.toml"
    path.write_text(text)
    return path


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert (settings.host, settings.port, settings.dev, settings.region) == ("127.0.0.1", 8700, False, "us-east-1")
    assert settings.upstream.s3 is None


def test_flags_win_over_the_environment_over_the_file_over_defaults(tmp_path: Path) -> None:
    write(tmp_path, 'port = 1\nhost = "127.0.0.2"\nregion = "eu-west-1"\n')
    environ = {"LAMBENT_PORT": "2", "LAMBENT_HOST": "127.0.0.3"}
    settings = load(tmp_path, environ=environ, flags={"port": 3, "host": None})
    assert (settings.port, settings.host, settings.region) == (3, "127.0.0.3", "eu-west-1")


def test_tables_and_lists_come_from_the_file_and_from_the_environment(tmp_path: Path) -> None:
    write(tmp_path, '[network]\nallow_hosts = ["10.0.0.1:5432"]\n[runtimes]\n"python3.12" = "/a"\n')
    settings = load(tmp_path, environ={"LAMBENT_NETWORK_ALLOW_PRIVATE": "yes", "LAMBENT_LOGS_FILES": "9"})
    assert (settings.network.allow_hosts, settings.network.allow_private) == (["10.0.0.1:5432"], True)
    assert (settings.runtimes, settings.logs.files) == ({"python3.12": "/a"}, 9)
    settings = load(tmp_path, environ={"LAMBENT_NETWORK_ALLOW_HOSTS": "a, b", "LAMBENT_RUNTIMES": "nodejs22.x=/n"})
    assert (settings.network.allow_hosts, settings.runtimes) == (["a", "b"], {"nodejs22.x": "/n"})


def test_state_lies_where_it_does_not_hang_on_the_folder_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_data_dir({"HOME": "/home/u"}) == "/home/u/.local/share/lambent"
    assert default_data_dir({"HOME": "/home/u", "XDG_DATA_HOME": "/data"}) == "/data/lambent"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir({"HOME": "/root"}) == "/var/lib/lambent"


def test_a_home_relative_data_folder_is_made_absolute(tmp_path: Path) -> None:
    assert load(tmp_path, flags={"data_dir": "~/x"}).data_dir == "/home/u/x"
    assert Path(load(tmp_path, flags={"data_dir": "x"}).data_dir).is_absolute()


@pytest.mark.parametrize(
    "text, says",
    [
        ("porrt = 1", r"lambent\.toml: there is no setting porrt; did you mean port\?"),
        ("[network]\nallow_private_ = true", r"did you mean network\.allow_private\?"),
        ("allow_private = true", r"there is no setting allow_private; did you mean network\.allow_private\?"),
        ("zzz = 1", r"there is no setting zzz; remove it\. There are: account_concurrency"),
        ('port = "x"', r"lambent\.toml: port must be a port from 0 \(any free one\) to 65535, not 'x'"),
        ("port = 70000", "port must be a port"),
        ('dev = "yes"', "dev must be true or false"),
        ('keep_alive = "learning"', "keep_alive must be fixed or adaptive, not 'learning'"),
        ("network = 1", r"network must be a table, not 1: write \[network\]"),
        ('isolation = "gvisor"', "isolation must be auto, namespace or process"),
        ('[network]\nallow_hosts = "x"', "must be a list of texts"),
        ('[upstream.s3]\nendpoint_url = "minio:9000"', "must be a URL that starts with http"),
        ('[upstream.s3]\nendpoint_url = "http://minio:9000"', r"upstream\.s3\.access_key_id is missing"),
        ('[runtimes]\n"python3.21" = "/x"', r'"python3\.21" has no interpreter to name; did you mean'),
        ('region = "nowhere"', "region must be a region name such as us-east-1"),
        ("port = ", r"is not valid TOML: .*; correct that line"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_the_fix(tmp_path: Path, text: str, says: str) -> None:
    write(tmp_path, text)
    with pytest.raises(OperatorError, match=says):
        load(tmp_path)


def test_a_file_that_is_named_must_be_readable(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(OperatorError, match=r"cannot be read: .*--config"):
            load(tmp_path, config=path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(OperatorError, match="not UTF-8"):
        load(tmp_path, config=binary)


def test_the_environment_can_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text("port = 9")
    assert load(tmp_path, environ={"LAMBENT_CONFIG": str(path)}).port == 9


def test_a_slip_in_a_variable_is_noticed_and_anothers_variable_is_not(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"LAMBENT_PORTT: .* did you mean LAMBENT_PORT\?"):
        load(tmp_path, environ={"LAMBENT_PORTT": "1"})
    with pytest.raises(OperatorError, match=r"did you mean LAMBENT_PORT\?"):
        load(tmp_path, environ={"LAMBENT_PROT": "1"})
    # What Kubernetes sets for a service of that name is no slip of ours.
    load(tmp_path, environ={"LAMBENT_SERVICE_HOST": "10.0.0.1", "LAMBENT_PORT_8700_TCP_ADDR": "10.0.0.1"})
    others = {"LAMBENT_SERVICE_HOST": "10.0.0.1", "LAMBENT_ENDPOINT": "http://x", "LAMBENT_DEBUG": "1"}
    assert load(tmp_path, environ=others).port == 8700


def test_a_variable_of_the_wrong_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="the environment: LAMBENT_PORT must be a port"):
        load(tmp_path, environ={"LAMBENT_PORT": "tcp://10.0.0.1:8700"})


def test_a_flag_is_called_by_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"^--drain-timeout must be a whole number of seconds, at least 0, not -1"):
        load(tmp_path, flags={"drain_timeout_seconds": -1})


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "example.com", "127.0.0.1.example.com"])
def test_dev_is_refused_off_loopback(tmp_path: Path, host: str) -> None:
    with pytest.raises(OperatorError, match="--dev accepts any signature"):
        load(tmp_path, flags={"dev": True, "host": host})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_dev_is_taken_on_loopback(tmp_path: Path, host: str) -> None:
    assert load(tmp_path, flags={"dev": True, "host": host}).dev


def test_a_secret_is_neither_shown_nor_told(tmp_path: Path) -> None:
    write(tmp_path, '[upstream.s3]\nendpoint_url = "http://m"\naccess_key_id = "k"\nsecret_access_key = "hidden"')
    assert "hidden" not in repr(load(tmp_path))
    write(tmp_path, "[upstream.s3]\nsecret_access_key = 12345")
    with pytest.raises(OperatorError) as caught:
        load(tmp_path)
    assert "12345" not in str(caught.value)


@pytest.mark.parametrize("name", setting_names())
def test_every_setting_may_be_given_as_a_variable(name: str, tmp_path: Path) -> None:
    """A value that fits, or the operator's mistake in one line; never a fault of ours."""
    variable = "LAMBENT_" + name.replace(".", "_").upper()
    for text in ("", "1", "text", "a=b"):
        try:
            load_settings(environ={variable: text}, folder=tmp_path)
        except OperatorError as exc:
            assert "\n" not in str(exc)


def test_every_setting_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [name for name in setting_names() if f"`{name}`" not in text] == []

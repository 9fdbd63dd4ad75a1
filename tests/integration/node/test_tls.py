"""TLS of the node's own, with certificates that are made here."""

from __future__ import annotations

import datetime
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.conftest import PYTHON, ROLE, connect

from lambent.testing.node import LambentNode, NodeDidNotStart, make_zip

ECHO = "import json\ndef handler(event, context):\n    return {'statusCode': 200, 'body': json.dumps(event)}\n"
PACKAGE = make_zip({"app.py": ECHO})


class Authority:
    """Signs certificates into files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        own = self._sign(self._name, self._key.public_key(), is_authority=True)
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, file: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key.public_key(), is_authority=False)
        paths = self.folder / f"{file}.crt", self.folder / f"{file}.key"
        for path, data in (
            (
                paths[1],
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                ),
            ),
            (paths[0], certificate.public_bytes(serialization.Encoding.PEM)),
        ):
            # As those who renew certificates do it: whole or not at all.
            unfinished = path.with_suffix(".new")
            unfinished.write_bytes(data)
            unfinished.rename(path)
        return paths

    def _sign(self, subject: x509.Name, key: Any, *, is_authority: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        common = subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(str(common))]), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256())


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("clients"), "clients")


class Encrypted:
    def __init__(self, node: LambentNode, port: int, authority: Authority) -> None:
        self.node, self.port, self._authority = node, port, authority
        client = connect(node)
        client.create_function(
            FunctionName="echo",
            Role=ROLE,
            Runtime=PYTHON,
            Handler="app.handler",
            Code={"ZipFile": make_zip({"app.py": ECHO})},
        )
        client.get_waiter("function_active_v2").wait(FunctionName="echo")
        arn = client.get_function(FunctionName="echo")["Configuration"]["FunctionArn"]
        api = connect(node, "apigatewayv2").create_api(Name="echo", ProtocolType="HTTP", Target=arn)
        self.path = f"/_lambent/api/{api['ApiId']}/"

    def context(self, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._authority.file)
        if pair is not None:
            context.load_cert_chain(*pair)
        return context

    def handshake(self, name: str) -> Any:
        """The certificate that is shown to who asks for that name."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock,
            self.context().wrap_socket(sock, server_hostname=name) as encrypted,
        ):
            return encrypted.getpeercert()

    def event(self, name: str, pair: tuple[Path, Path] | None = None) -> Any:
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock,
            self.context(pair).wrap_socket(sock, server_hostname=name) as encrypted,
        ):
            connection = http.client.HTTPConnection(name)
            connection.sock = encrypted
            connection.request("GET", self.path)
            return json.loads(connection.getresponse().read())


@pytest.fixture(scope="module")
def encrypted(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, clients: Authority
) -> Iterator[Encrypted]:
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    certificate, key = authority.issue("node.example", "node")
    other, other_key = authority.issue("shop.example", "shop")
    config = folder / "lambent.toml"
    config.write_text(
        f'[tls]\nport = {port}\ncertificate = "{certificate}"\nkey = "{key}"\nclient_ca = "{clients.file}"\n\n'
        f'[tls.domains."shop.example"]\ncertificate = "{other}"\nkey = "{other_key}"\n'
    )
    with LambentNode(folder / "data", environ={"LAMBENT_CONFIG": str(config)}).running() as node:
        assert f"https://127.0.0.1:{port}" in node.output
        yield Encrypted(node, port, authority)


def test_who_asks_for_a_name_is_shown_its_certificate_and_served(encrypted: Encrypted) -> None:
    for name in ("node.example", "shop.example"):
        assert encrypted.handshake(name)["subject"] == ((("commonName", name),),)
    event = encrypted.event("shop.example")
    assert event["headers"]["x-forwarded-proto"] == "https"
    assert event["headers"]["x-forwarded-port"] == "443"
    assert "authentication" not in event["requestContext"]


def test_a_renewed_certificate_is_shown_without_a_restart(encrypted: Encrypted, authority: Authority) -> None:
    before = encrypted.handshake("node.example")["serialNumber"]
    authority.issue("node.example", "node")
    deadline_at = time.monotonic() + 20
    while encrypted.handshake("node.example")["serialNumber"] == before:
        assert time.monotonic() < deadline_at
        time.sleep(0.02)
    (authority.folder / "node.crt").write_text("damaged")
    # What cannot be read changes nothing.
    assert encrypted.handshake("node.example")["serialNumber"] != before
    authority.issue("node.example", "node")


@pytest.mark.parametrize("name", ["node.example", "shop.example"])
def test_a_client_with_a_certificate_is_known_and_one_of_another_authority_refused(
    encrypted: Encrypted, clients: Authority, authority: Authority, name: str
) -> None:
    shown = encrypted.event(name, clients.issue("ada", "ada"))["requestContext"]["authentication"]["clientCert"]
    assert shown["subjectDN"] == "CN=ada"
    assert shown["issuerDN"] == "CN=clients"
    assert shown["clientCertPem"].startswith("-----BEGIN CERTIFICATE-----")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        encrypted.event(name, authority.issue("mallory", "mallory"))


def test_old_versions_of_tls_are_refused(encrypted: Encrypted) -> None:
    context = encrypted.context()
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        with socket.create_connection(("127.0.0.1", encrypted.port), timeout=10) as sock:
            context.wrap_socket(sock, server_hostname="node.example")


def test_caddy_with_the_configuration_that_is_printed_speaks_http_2_before_the_node(
    authority: Authority, tmp_path: Path
) -> None:
    port, admin = free_port(), free_port()
    certificate, key = authority.issue("node.localhost", "caddy")
    environ = {"LAMBENT_HTTP_TRUSTED_PROXIES": "127.0.0.1"}
    with LambentNode(tmp_path / "data", environ=environ).running() as node:
        encrypted = Encrypted(node, port, authority)
        command = [sys.executable, "-m", "lambent", "front", "caddy", "--name", f"node.localhost:{port}"]
        command += ["--upstream", urlsplit(node.endpoint).netloc, "--certificate", str(certificate), "--key", str(key)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        options = f"{{\n\tadmin 127.0.0.1:{admin}\n\tauto_https disable_redirects\n}}\n"
        (tmp_path / "Caddyfile").write_text(options + printed)
        # Where the wheel puts its program: beside Python's.
        caddy = Path(sys.executable).with_name("caddy")
        own = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
        with subprocess.Popen(
            [caddy, "run", "--config", tmp_path / "Caddyfile", "--adapter", "caddyfile"],
            stderr=subprocess.DEVNULL,
            env={**os.environ, **own},
        ) as running:
            try:
                wait_for_port(port)
                url = f"https://node.localhost:{port}{encrypted.path}"
                asked = ["curl", "-s", "--http2", "--cacert", str(authority.file), "-w", "\n%{http_version}", url]
                asked += ["--resolve", f"node.localhost:{port}:127.0.0.1"]
                answered = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
            finally:
                running.terminate()
    body, _, version = answered.rpartition("\n")
    event = json.loads(body)
    assert version == "2"
    assert event["headers"]["x-forwarded-proto"] == "https"
    assert event["requestContext"]["http"]["sourceIp"] == "127.0.0.1"


def wait_for_port(port: int) -> None:
    deadline_at = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline_at
            time.sleep(0.05)
        else:
            return


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [("", "", "tls.certificate"), ("none.crt", "none.key", "cannot be read"), ("node.crt", "shop.key", "its key")],
)
def test_certificates_that_cannot_be_used_are_one_line(
    tmp_path: Path, authority: Authority, certificate: str, key: str, said: str
) -> None:
    authority.issue("node.example", "node")
    authority.issue("shop.example", "shop")
    environ = {
        "LAMBENT_TLS_PORT": str(free_port()),
        "LAMBENT_TLS_CERTIFICATE": str(authority.folder / certificate) if certificate else "",
        "LAMBENT_TLS_KEY": str(authority.folder / key) if key else "",
    }
    node = LambentNode(tmp_path / "data", environ=environ)
    with pytest.raises(NodeDidNotStart) as failed:
        node.start()
        node.wait()
        raise NodeDidNotStart(node.output)
    assert said in str(failed.value)

"""botocore signs, we check; and every tampering is noticed."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lambent.awsapi import sigv4
from lambent.awsapi.http import HttpRequest
from lambent.awsapi.sigv4 import Secret, Verifier
from lambent.model.errors import CallerError

KEY, SECRET = "LKIAEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
BASE = "http://127.0.0.1:8700"
PATHS = [
    "/2015-03-31/functions/hello/invocations",
    "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Ahello/invocations",
    "/2015-03-31/functions/?Marker=a%2Fb%3D&MaxItems=5",
    "/2015-03-31/functions/a?B=&A=2&A=1",
    "/2017-03-31/tags/arn%3Aaws%3Alambda?tagKeys=%C3%A9&tagKeys=a%20b",
    "/",
]


def verifier(**known: str) -> Verifier:
    return Verifier(lambda key, _token: Secret(SECRET, "123456789012") if key == KEY else None)


def signed(url: str, *, body: bytes = b"", method: str = "POST", headers: dict[str, str] | None = None) -> HttpRequest:
    request = AWSRequest(method=method, url=BASE + url, data=body, headers=headers or {})
    SigV4Auth(Credentials(KEY, SECRET), "lambda", "us-east-1").add_auth(request)
    return as_request(request, body)


def presigned(url: str, *, expires: int = 60) -> HttpRequest:
    request = AWSRequest(method="GET", url=BASE + url)
    SigV4QueryAuth(Credentials(KEY, SECRET), "lambda", "us-east-1", expires=expires).add_auth(request)
    return as_request(request, b"")


def as_request(request: Any, body: bytes) -> HttpRequest:
    parts = urlsplit(request.url)
    headers = [(name.lower().encode(), str(value).encode()) for name, value in request.headers.items()]
    headers.append((b"host", parts.netloc.encode()))
    return HttpRequest(
        method=request.method,
        raw_path=parts.path.encode(),
        query_string=parts.query.encode(),
        headers=headers,
        body=body,
    )


def replace_header(request: HttpRequest, name: bytes, value: bytes) -> None:
    request.headers = [(key, value if key == name else old) for key, old in request.headers]


@pytest.mark.parametrize("path", PATHS)
def test_what_botocore_signs_is_accepted(path: str) -> None:
    identity = verifier().verify(signed(path, body=b'{"a":1}', headers={"X-Amz-Log-Type": "Tail"}))
    assert identity == (KEY, "123456789012", "us-east-1", "lambda", "")


@pytest.mark.parametrize("path", PATHS)
def test_what_botocore_presigns_is_accepted(path: str) -> None:
    assert verifier().verify(presigned(path)).access_key == KEY


def test_what_we_sign_ourselves_is_accepted() -> None:
    url = BASE + "/2015-03-31/functions/a%3Ab?Qualifier=%24LATEST"
    headers = sigv4.sign(
        method="POST",
        url=url,
        headers={"X-Test": " a  b "},
        body=b"x",
        access_key=KEY,
        secret=SECRET,
        region="us-east-1",
    )
    parts = urlsplit(url)
    request = HttpRequest(
        method="POST",
        raw_path=parts.path.encode(),
        query_string=parts.query.encode(),
        headers=[(name.encode(), value.encode()) for name, value in headers.items()],
        body=b"x",
    )
    assert verifier().verify(request).access_key == KEY


def test_what_we_presign_ourselves_is_accepted() -> None:
    url = sigv4.presign(url=BASE + "/a/b?x=1", access_key=KEY, secret=SECRET, region="us-east-1", expires_s=60)
    parts = urlsplit(url)
    request = HttpRequest(
        method="GET",
        raw_path=parts.path.encode(),
        query_string=parts.query.encode(),
        headers=[(b"host", parts.netloc.encode())],
    )
    assert verifier().verify(request).access_key == KEY


def tamper_body(request: HttpRequest) -> None:
    request.body += b" "


def tamper_path(request: HttpRequest) -> None:
    request.raw_path += b"x"


def tamper_query(request: HttpRequest) -> None:
    request.query_string += b"&DryRun=true"


def tamper_method(request: HttpRequest) -> None:
    request.method = "PUT"


def tamper_header(request: HttpRequest) -> None:
    replace_header(request, b"x-amz-log-type", b"None")


def tamper_host(request: HttpRequest) -> None:
    replace_header(request, b"host", b"evil.example")


def tamper_region(request: HttpRequest) -> None:
    header = request.header(b"authorization") or ""
    replace_header(request, b"authorization", header.replace("us-east-1", "us-east-2").encode())


def tamper_signature(request: HttpRequest) -> None:
    header = request.header(b"authorization") or ""
    replace_header(request, b"authorization", (header[:-1] + ("0" if header[-1] != "0" else "1")).encode())


@pytest.mark.parametrize(
    "tamper",
    [
        tamper_body,
        tamper_path,
        tamper_query,
        tamper_method,
        tamper_header,
        tamper_host,
        tamper_region,
        tamper_signature,
    ],
)
def test_every_tampering_is_noticed(tamper: Any) -> None:
    request = signed("/2015-03-31/functions/hello/invocations?A=1", body=b"{}", headers={"X-Amz-Log-Type": "Tail"})
    tamper(request)
    with pytest.raises(CallerError) as caught:
        verifier().verify(request)
    assert (caught.value.code, caught.value.status) == ("InvalidSignatureException", 403)


def test_a_stated_payload_hash_must_be_the_bodys() -> None:
    request = signed("/a", body=b"{}", headers={"X-Amz-Content-SHA256": "0" * 64})
    with pytest.raises(CallerError, match="x-amz-content-sha256"):
        verifier().verify(request)


@pytest.mark.parametrize(("shift_s", "text"), [(301, "Signature expired"), (-301, "Signature not yet current")])
def test_a_clock_that_is_more_than_five_minutes_off_is_refused(shift_s: int, text: str) -> None:
    request = signed("/a")
    late = Verifier(lambda _key, _token: Secret(SECRET, "1"), now=lambda: time.time() + shift_s)
    with pytest.raises(CallerError, match=text):
        late.verify(request)


def test_a_presigned_url_ends() -> None:
    request = presigned("/a", expires=60)
    late = Verifier(lambda _key, _token: Secret(SECRET, "1"), now=lambda: time.time() + 62)
    with pytest.raises(CallerError, match="Signature expired"):
        late.verify(request)


def test_an_unknown_key_is_refused_as_the_service_does() -> None:
    with pytest.raises(CallerError) as caught:
        Verifier(lambda _key, _token: None).verify(signed("/a"))
    assert caught.value.code == "UnrecognizedClientException"


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "MissingAuthenticationTokenException"),
        (b"Basic abc", "IncompleteSignatureException"),
        (b"AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=1", "IncompleteSignatureException"),
        (b"AWS4-HMAC-SHA256 SignedHeaders=host, Signature=1", "IncompleteSignatureException"),
    ],
)
def test_an_authorization_of_another_form_is_refused(authorization: bytes | None, code: str) -> None:
    headers = [(b"host", b"x"), (b"x-amz-date", b"20260101T000000Z")]
    if authorization is not None:
        headers.append((b"authorization", authorization))
    with pytest.raises(CallerError) as caught:
        verifier().verify(HttpRequest(method="GET", raw_path=b"/", headers=headers))
    assert caught.value.code == code

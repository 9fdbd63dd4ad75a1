"""What a hostile or unusual signer sends: refused with the contract's error, never with a fault of ours."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from email.utils import formatdate
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lambent.awsapi import sigv4
from lambent.awsapi.http import HttpRequest
from lambent.awsapi.sigv4 import Secret, Verifier
from lambent.model.errors import CallerError

KEY, SECRET, TOKEN = "LKIAEXAMPLE", "not-a-real-secret", "token/+="
BASE = "http://node.example:8700"
VERIFIER = Verifier(lambda key, _token: Secret(SECRET, "123456789012") if key == KEY else None)
TEMPORARY = Verifier(lambda _key, _token: Secret(SECRET, "123456789012", TOKEN))
Change = Callable[[str], str]


def to_request(method: str, url: str, headers: list[tuple[str, str]], body: bytes = b"") -> HttpRequest:
    parts = urlsplit(url)
    named = [(name.lower().encode(), value.encode()) for name, value in headers if name.lower() != "host"]
    return HttpRequest(
        method=method,
        raw_path=parts.path.encode(),
        query_string=parts.query.encode(),
        headers=[(b"host", parts.netloc.encode()), *named],
        body=body,
    )


def sign(
    url: str = "/a",
    *,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    token: str | None = None,
    service: str = "lambda",
) -> HttpRequest:
    request = AWSRequest(method="POST", url=BASE + url, data=body, headers=headers or {})
    SigV4Auth(Credentials(KEY, SECRET, token), service, "us-east-1").add_auth(request)
    return to_request("POST", request.url, list(request.headers.items()), body)


def presign(url: str = "/a", *, token: str | None = None) -> HttpRequest:
    request = AWSRequest(method="GET", url=BASE + url)
    SigV4QueryAuth(Credentials(KEY, SECRET, token), "lambda", "us-east-1", expires=60).add_auth(request)
    return to_request("GET", request.url, [])


def change_authorization(request: HttpRequest, change: Change) -> HttpRequest:
    headers = []
    for name, value in request.headers:
        new = change(value.decode()).encode("latin-1") if name == b"authorization" else value
        headers.append((name, new))
    request.headers = headers
    return request


def change_query(request: HttpRequest, name: str, value: str) -> HttpRequest:
    changed, count = re.subn(f"{name}=[^&]*", f"{name}={value}", request.query_string.decode())
    assert count == 1
    request.query_string = changed.encode()
    return request


def refuse(request: HttpRequest, verifier: Verifier = VERIFIER) -> CallerError:
    with pytest.raises(CallerError) as caught:
        verifier.verify(request)
    return caught.value


@pytest.mark.parametrize(
    "url",
    [
        "/a/%25/b%20c/%C3%A9",
        "/a//b/./c/../d/",
        "/2015-03-31/functions/f:prod/invocations",
        "/a?b",
        "/a?b=&a=",
        "/a?k=2&k=10&k=1",
        "/a?k=%2B%20%2F%3D&z=%C3%A9",
        "/a?a-b=1&a=2&aB=3",
    ],
)
def test_odd_paths_and_queries_are_read_as_botocore_signs_them(url: str) -> None:
    assert VERIFIER.verify(sign(url)).access_key == KEY


@pytest.mark.parametrize("value", ["a   b", "  padded  ", "a\t b", "a,b", ""])
def test_blanks_in_header_values_are_folded_as_botocore_folds_them(value: str) -> None:
    assert VERIFIER.verify(sign(headers={"X-Amz-Note": value})).access_key == KEY


def test_a_header_that_comes_twice_counts_as_one_joined_by_a_comma() -> None:
    request = sign(headers={"X-Amz-Note": "one,two"})
    request.headers = [pair for pair in request.headers if pair[0] != b"x-amz-note"]
    request.headers += [(b"x-amz-note", b"one"), (b"x-amz-note", b"two")]
    assert VERIFIER.verify(request).access_key == KEY


def test_the_parts_of_an_authorization_may_come_in_any_order() -> None:
    def reorder(header: str) -> str:
        algorithm, _, rest = header.partition(" ")
        return f"{algorithm} {','.join(reversed(rest.split(', ')))}"

    assert VERIFIER.verify(change_authorization(sign(), reorder)).access_key == KEY


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header[:-1] + "\xe9",
        lambda header: header.replace("SignedHeaders=host", "SignedHeaders=\xe9;host"),
        lambda header: header.replace("SignedHeaders=host;", "SignedHeaders="),
        lambda header: header.replace("/us-east-1/", f"/{'r' * 65}/"),
        lambda header: header.replace("/lambda/", "/sqs/"),
        lambda header: header.replace(header[-64:], ""),
    ],
)
def test_a_twisted_authorization_is_refused(change: Change) -> None:
    error = refuse(change_authorization(sign(), change))
    assert error.code in {"InvalidSignatureException", "IncompleteSignatureException"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Amz-Expires", "%C2%B2"),
        ("X-Amz-Expires", "9" * 5000),
        ("X-Amz-Expires", "0"),
        ("X-Amz-Expires", "604801"),
        ("X-Amz-Expires", "-1"),
        ("X-Amz-Expires", "59"),
        ("X-Amz-Date", "yesterday"),
        ("X-Amz-Credential", "x"),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA1"),
        ("X-Amz-SignedHeaders", "host%3B%E2%82%AC"),
        ("X-Amz-SignedHeaders", ""),
        ("X-Amz-Signature", "%E2%82%AC"),
        ("X-Amz-Signature", ""),
    ],
)
def test_a_twisted_presigned_url_is_refused(name: str, value: str) -> None:
    error = refuse(change_query(presign(), name, value))
    assert error.code in {"InvalidSignatureException", "IncompleteSignatureException"}


@pytest.mark.parametrize(("signed", "sent"), [("x=a%2Bb", b"x=a+b"), ("x=%EF%BF%BD", b"x=%FF"), ("x=%FE", b"x=%FF")])
def test_a_query_that_would_be_read_differently_does_not_pass_for_the_signed_one(signed: str, sent: bytes) -> None:
    request = sign(f"/a?{signed}")
    request.query_string = sent
    assert refuse(request).code == "InvalidSignatureException"


@pytest.mark.parametrize("make", [sign, presign])
def test_an_x_amz_header_that_was_not_signed_is_refused(make: Callable[[], HttpRequest]) -> None:
    request = make()
    request.headers.append((b"x-amz-invocation-type", b"Event"))
    error = refuse(request)
    assert error.code == "InvalidSignatureException"
    assert "not signed: x-amz-invocation-type" in error.message


@pytest.mark.parametrize("name", [b"x-amzn-trace-id", b"x-amz-user-agent", b"x-forwarded-for"])
def test_headers_that_agents_and_proxies_add_need_no_signature(name: bytes) -> None:
    request = sign()
    request.headers.append((name, b"x"))
    assert VERIFIER.verify(request).access_key == KEY


@pytest.mark.parametrize("stated", ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"])
def test_a_body_is_never_left_out_of_the_signature(stated: str) -> None:
    request = sign(body=b"{}", headers={"X-Amz-Content-SHA256": stated})
    assert refuse(request).code == "InvalidSignatureException"


@pytest.mark.parametrize("make", [sign, presign])
def test_a_temporary_key_needs_its_token(make: Callable[..., HttpRequest]) -> None:
    assert TEMPORARY.verify(make(token=TOKEN)).access_key == KEY
    assert refuse(make(token="another"), TEMPORARY).code == "UnrecognizedClientException"
    assert refuse(make(), TEMPORARY).code == "UnrecognizedClientException"


@pytest.mark.parametrize("make", [sign, presign])
def test_a_lasting_key_with_a_token_is_refused_as_the_service_does(make: Callable[..., HttpRequest]) -> None:
    error = refuse(make(token="left over"))
    assert (error.code, error.status) == ("UnrecognizedClientException", 403)
    assert error.message == "The security token included in the request is invalid."


def test_a_signature_for_another_service_is_refused_unless_that_service_is_served() -> None:
    assert "correct service: 'lambda'" in refuse(sign(service="sqs")).message
    both = Verifier(lambda _key, _token: Secret(SECRET, "1"), services=("lambda", "sqs"))
    assert both.verify(sign(service="sqs")).service == "sqs"


def test_a_date_header_serves_where_there_is_no_amz_date() -> None:
    at = int(time.time())
    request = sign()
    stamp = next(value for name, value in request.headers if name == b"x-amz-date").decode()
    # The stamp is signed as a header too, so the whole is signed again here, over the host alone.
    scope = f"{stamp[:8]}/us-east-1/lambda/aws4_request"
    canonical = f"POST\n/a\n\nhost:node.example:8700\n\nhost\n{sigv4._EMPTY_HASH}"
    key = sigv4._derive(SECRET, stamp[:8], "us-east-1", "lambda")
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    signature = sigv4._sign_text(canonical, moment, scope, key)
    authorization = f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders=host, Signature={signature}"
    for date in (moment, formatdate(at, usegmt=True)):
        dated = to_request("POST", BASE + "/a", [("Date", date), ("Authorization", authorization)])
        assert VERIFIER.verify(dated).access_key == KEY
    wrong = to_request("POST", BASE + "/a", [("Date", "soon, maybe"), ("Authorization", authorization)])
    assert refuse(wrong).code == "IncompleteSignatureException"
    without = to_request("POST", BASE + "/a", [("Authorization", authorization)])
    assert refuse(without).code == "IncompleteSignatureException"


def test_our_own_signatures_carry_a_token() -> None:
    headers = sigv4.sign(
        method="POST", url=BASE + "/a", headers={}, body=b"", access_key=KEY, secret=SECRET, region="us-east-1",
        session_token=TOKEN,
    )  # fmt: skip
    assert TEMPORARY.verify(to_request("POST", BASE + "/a", list(headers.items()))).access_key == KEY
    url = sigv4.presign(
        url=BASE + "/a?x=%2B", access_key=KEY, secret=SECRET, region="us-east-1", expires_s=60, session_token=TOKEN
    )
    assert TEMPORARY.verify(to_request("GET", url, [])).access_key == KEY


def test_what_is_long_is_computed_again_and_never_kept() -> None:
    computed: list[bytes] = []

    def compute(text: bytes) -> int:
        computed.append(text)
        return len(text)

    find = sigv4._cache_short(compute)
    short, long = b"a" * 512, b"a" * 513
    assert [find(short), find(short), find(long), find(long)] == [512, 512, 513, 513]
    assert computed == [short, long, long]

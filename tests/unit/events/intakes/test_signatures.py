"""Against the examples that the senders publish, and against everything that is a little different."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import NamedTuple

import pytest

from lambent.awsapi.http import HttpRequest
from lambent.events.intakes.hooks import Custom, Hook
from lambent.events.intakes.kinds import KINDS
from lambent.events.intakes.signatures import TOLERANCE_S, check_custom
from lambent.model.errors import CallerError

SLACK_BODY = (
    "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&"
    "channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&"
    "response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&"
    "trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)


def make_hook(kind: str, secret: str, custom: Custom | None = None) -> Hook:
    return Hook(
        account="123456789012",
        region="us-east-1",
        name="h",
        kind=kind,
        target="arn:aws:sqs:us-east-1:123456789012:q",
        secret=secret,
        custom=custom,
        created_at=0,
    )


def make_request(body: str, headers: dict[str, str]) -> HttpRequest:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    return HttpRequest(method="POST", raw_path=b"/", headers=encoded, body=body.encode())


class Signed(NamedTuple):
    hook: Hook
    body: str
    headers: dict[str, str]
    now: float = 0.0

    def verify(self, *, body: str | None = None, secret: str | None = None, now: float | None = None) -> None:
        hook = self.hook if secret is None else make_hook(self.hook.kind, secret, self.hook.custom)
        request = make_request(self.body if body is None else body, self.headers)
        KINDS[hook.kind].verify(hook, request, self.now if now is None else now)


def digest(key: str, signed: str, algorithm: str = "sha256") -> hmac.HMAC:
    return hmac.new(key.encode(), signed.encode(), algorithm)


SIGNED = {
    "github, of its documentation": Signed(
        make_hook("github", "It's a Secret to Everybody"),
        "Hello, World!",
        {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
    ),
    "slack, of its documentation": Signed(
        make_hook("slack", "8f742231b10e8888abcd99yyyzzz85a5"),
        SLACK_BODY,
        {
            "x-slack-request-timestamp": "1531420618",
            "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        },
        1531420618,
    ),
    "stripe, with the signature of an older secret beside": Signed(
        make_hook("stripe", "whsec_of_stripe"),
        '{"id":"evt_1"}',
        {
            "stripe-signature": "t=1492774577,v1="
            + "0" * 64
            + ",v1="
            + digest("whsec_of_stripe", '1492774577.{"id":"evt_1"}').hexdigest()
            + ",v0=00"
        },
        1492774577,
    ),
    "standard webhooks": Signed(
        make_hook("standard", "whsec_plJ3nmyCDGBKInavdOK15jsl"),
        '{"event_type":"ping","data":{"success":true}}',
        {
            "webhook-id": "msg_loFOjxBNrRLzqYUf",
            "webhook-timestamp": "1731705121",
            "webhook-signature": "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
        },
        1731705121,
    ),
    "gitlab's signing token": Signed(
        make_hook("gitlab", "whsec_plJ3nmyCDGBKInavdOK15jsl"),
        '{"event_type":"ping","data":{"success":true}}',
        {
            "webhook-id": "msg_loFOjxBNrRLzqYUf",
            "webhook-timestamp": "1731705121",
            "webhook-signature": "v2,other v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
        },
        1731705121,
    ),
    "a post-receive script": Signed(
        make_hook("git", "of-the-script-0123"),
        "{}",
        {
            "x-lambent-time": "1700000000",
            "x-lambent-signature": "sha256=" + digest("of-the-script-0123", "1700000000.{}").hexdigest(),
        },
        1700000000,
    ),
    "a sender of its own way": Signed(
        make_hook(
            "hmac", "secret-of-hmac-01", Custom(header="X-Sum", algorithm="sha512", encoding="base64", prefix="s=")
        ),
        "body",
        {"x-sum": "s=" + base64.b64encode(digest("secret-of-hmac-01", "body", "sha512").digest()).decode()},
    ),
}
UNTIMED = {"github, of its documentation", "a sender of its own way"}


@pytest.mark.parametrize("name", SIGNED)
def test_what_the_sender_signed_is_accepted(name: str) -> None:
    SIGNED[name].verify()


@pytest.mark.parametrize("name", SIGNED)
def test_another_body_is_refused(name: str) -> None:
    with pytest.raises(CallerError) as caught:
        SIGNED[name].verify(body=SIGNED[name].body + " ")
    assert (caught.value.code, caught.value.status) == ("InvalidSignatureException", 401)


@pytest.mark.parametrize("name", SIGNED)
def test_another_secret_is_refused(name: str) -> None:
    with pytest.raises(CallerError, match="signature"):
        SIGNED[name].verify(secret="whsec_plJ3nmyCDGBKInavdOK15jsm")


@pytest.mark.parametrize("name", SIGNED)
def test_a_request_without_any_of_its_headers_is_refused(name: str) -> None:
    signed = SIGNED[name]
    for missing in signed.headers:
        rest = {header: value for header, value in signed.headers.items() if header != missing}
        with pytest.raises(CallerError) as caught:
            KINDS[signed.hook.kind].verify(signed.hook, make_request(signed.body, rest), signed.now)
        assert caught.value.code == "InvalidSignatureException"


@pytest.mark.parametrize("name", sorted(SIGNED.keys() - UNTIMED))
@pytest.mark.parametrize("late_s", [TOLERANCE_S + 1, -TOLERANCE_S - 1])
def test_a_signature_is_good_for_five_minutes(name: str, late_s: int) -> None:
    signed = SIGNED[name]
    signed.verify(now=signed.now + TOLERANCE_S)
    with pytest.raises(CallerError, match="five minutes"):
        signed.verify(now=signed.now + late_s)


@pytest.mark.parametrize("given", ["", "sha256=", "sha1=00", "757107ea", "sha256=\u00e9", "sha256=" + "0" * 64])
def test_a_signature_that_is_none_is_refused(given: str) -> None:
    signed = SIGNED["github, of its documentation"]
    with pytest.raises(CallerError, match="signature"):
        KINDS["github"].verify(signed.hook, make_request(signed.body, {"x-hub-signature-256": given}), 0)


def test_gitlabs_secret_token_is_compared_whole() -> None:
    hook = make_hook("gitlab", "token-of-gitlab-1")
    KINDS["gitlab"].verify(hook, make_request("{}", {"x-gitlab-token": "token-of-gitlab-1"}), 0)
    for wrong in ("", "token-of-gitlab-", "token-of-gitlab-12", "é"):
        with pytest.raises(CallerError, match="X-Gitlab-Token"):
            KINDS["gitlab"].verify(hook, make_request("{}", {"x-gitlab-token": wrong}), 0)


@pytest.mark.parametrize("given", ["Bearer token-of-events", "bearer  token-of-events", "token-of-events"])
def test_a_bearer_is_let_in(given: str) -> None:
    KINDS["cloudevents"].verify(
        make_hook("cloudevents", "token-of-events"), make_request("", {"authorization": given}), 0
    )


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer token-of-event", "Basic token-of-events", "Bearer é"])
def test_who_bears_something_else_is_not(given: str) -> None:
    request = make_request("", {"authorization": given})
    with pytest.raises(CallerError, match="Authorization header"):
        KINDS["cloudevents"].verify(make_hook("cloudevents", "token-of-events"), request, 0)


@pytest.mark.parametrize(
    ("custom", "field"),
    [(Custom(algorithm="md5"), "algorithm"), (Custom(encoding="hexx"), "encoding"), (Custom(header=" "), "header")],
)
def test_a_description_that_no_request_could_satisfy_is_refused(custom: Custom, field: str) -> None:
    with pytest.raises(CallerError, match=f"custom.{field}"):
        check_custom(custom)
    assert hashlib.new(Custom().algorithm).digest_size == 32

"""What is made of the bodies that senders send."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from lambent.awsapi.http import HttpRequest, HttpResponse
from lambent.events.intakes.hooks import Custom, Hook, Incoming
from lambent.events.intakes.kinds import KINDS
from lambent.model.errors import CallerError

NONE, ONE, TWO = "0" * 40, "1" * 40, "2" * 40


def ask(kind: str, body: object, headers: dict[str, str] | None = None, *, custom: Custom | None = None) -> Any:
    hook = Hook(
        account="123456789012",
        region="us-east-1",
        name="mine",
        kind=kind,
        target="arn:aws:sqs:us-east-1:123456789012:q",
        secret="s",
        custom=custom,
        created_at=0,
    )
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    encoded = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return KINDS[kind].read(hook, HttpRequest(method="POST", raw_path=b"/", headers=encoded, body=data))


def read(kind: str, body: object, headers: dict[str, str] | None = None, *, custom: Custom | None = None) -> Incoming:
    (incoming,) = ask(kind, body, headers, custom=custom)
    assert isinstance(incoming, Incoming)
    return incoming


GITHUB_REPOSITORY = {
    "name": "shop",
    "full_name": "acme/shop",
    "clone_url": "https://github.com/acme/shop.git",
    "ssh_url": "git@github.com:acme/shop.git",
    "html_url": "https://github.com/acme/shop",
}
GITLAB_PROJECT = {
    "name": "shop",
    "path_with_namespace": "acme/shop",
    "git_http_url": "https://gitlab.com/acme/shop.git",
    "git_ssh_url": "git@gitlab.com:acme/shop.git",
    "web_url": "https://gitlab.com/acme/shop",
}


def test_a_push_to_github() -> None:
    body = {
        "ref": "refs/heads/feature/a",
        "before": ONE,
        "after": TWO,
        "repository": GITHUB_REPOSITORY,
        "sender": {"login": "ada"},
    }
    incoming = read("github", body, {"x-github-event": "push", "x-github-delivery": "72d3162e"})
    assert (incoming.id, incoming.type, incoming.source, incoming.ref) == (
        "72d3162e",
        "push",
        "git.github",
        "feature/a",
    )
    assert incoming.detail["repository"] == GITHUB_REPOSITORY
    assert incoming.detail["payload"] == body
    shown = {key: incoming.detail[key] for key in ("branch", "tag", "before", "after", "created", "deleted", "sender")}
    assert shown == {
        "branch": "feature/a",
        "tag": "",
        "before": ONE,
        "after": TWO,
        "created": False,
        "deleted": False,
        "sender": "ada",
    }


def test_a_tag_that_is_pushed_is_a_tag_and_a_branch_that_is_deleted_says_so() -> None:
    headers = {"x-github-event": "push", "x-github-delivery": "1"}
    tag = read("github", {"ref": "refs/tags/v1", "before": NONE, "after": ONE}, headers)
    assert (tag.type, tag.ref, tag.detail["tag"], tag.detail["created"]) == ("tag", "v1", "v1", True)
    gone = read("github", {"ref": "refs/heads/old", "before": ONE, "after": NONE}, headers)
    assert (gone.type, gone.detail["deleted"]) == ("push", True)


def test_a_pull_request_at_github_is_about_its_target_branch() -> None:
    body = {
        "action": "opened",
        "number": 7,
        "pull_request": {"title": "Faster", "head": {"ref": "fast", "sha": TWO}, "base": {"ref": "main"}},
    }
    incoming = read("github", body, {"x-github-event": "pull_request", "x-github-delivery": "1"})
    assert (incoming.type, incoming.ref) == ("pull_request", "main")
    assert incoming.detail["pull_request"] == {
        "number": 7,
        "action": "opened",
        "title": "Faster",
        "source_branch": "fast",
        "target_branch": "main",
        "commit": TWO,
    }


def test_a_body_that_github_sends_as_a_form() -> None:
    form = urlencode({"payload": json.dumps({"ref": "refs/heads/main"})}).encode()
    headers = {
        "x-github-event": "push",
        "x-github-delivery": "1",
        "content-type": "application/x-www-form-urlencoded",
    }
    assert read("github", form, headers).ref == "main"


def test_gitea_is_told_from_github_and_other_events_keep_their_name() -> None:
    headers = {"x-gitea-event": "issues", "x-gitea-delivery": "9", "x-github-event": "issues"}
    incoming = read("gitea", {"action": "opened"}, headers)
    assert (incoming.source, incoming.type, incoming.id, incoming.ref) == ("git.gitea", "issues", "9", "")
    made = read("github", {"ref": "v2", "ref_type": "tag"}, {"x-github-event": "create", "x-github-delivery": "1"})
    assert (made.type, made.ref) == ("create_tag", "v2")


def test_a_push_and_a_merge_request_at_gitlab() -> None:
    push = {
        "object_kind": "push",
        "ref": "refs/heads/main",
        "before": ONE,
        "after": TWO,
        "user_username": "ada",
        "project": GITLAB_PROJECT,
    }
    incoming = read("gitlab", push, {"x-gitlab-event-uuid": "u1", "idempotency-key": "k1"})
    assert (incoming.id, incoming.type, incoming.source, incoming.ref) == ("k1", "push", "git.gitlab", "main")
    assert incoming.detail["repository"]["full_name"] == "acme/shop"
    assert incoming.detail["sender"] == "ada"
    merge = {
        "object_kind": "merge_request",
        "user": {"username": "bob"},
        "object_attributes": {
            "iid": 3,
            "action": "open",
            "title": "T",
            "source_branch": "fast",
            "target_branch": "main",
            "last_commit": {"id": TWO},
        },
    }
    incoming = read("gitlab", merge)
    assert (incoming.type, incoming.ref, incoming.detail["pull_request"]["commit"]) == ("pull_request", "main", TWO)


def test_a_post_receive_script_reports_one_event_for_each_ref() -> None:
    body = {
        "repository": "shop",
        "clone_url": "/srv/git/shop.git",
        "updates": [
            {"ref": "refs/heads/main", "before": ONE, "after": TWO},
            {"ref": "refs/tags/v1", "before": NONE, "after": TWO},
        ],
    }
    first, second = ask("git", body, {"x-lambent-delivery": "d"})
    assert [(first.id, first.type, first.ref), (second.id, second.type, second.ref)] == [
        ("d-0", "push", "main"),
        ("d-1", "tag", "v1"),
    ]
    assert first.detail["repository"]["clone_url"] == "/srv/git/shop.git"


def test_slacks_handshake_is_answered_at_once() -> None:
    answer = ask("slack", {"type": "url_verification", "challenge": "abc"})
    assert isinstance(answer, HttpResponse)
    assert json.loads(answer.body) == {"challenge": "abc"}


def test_what_slack_sends() -> None:
    event = read("slack", {"type": "event_callback", "event_id": "Ev1", "event": {"type": "app_mention"}})
    assert (event.id, event.type) == ("Ev1", "app_mention")
    form = {"content-type": "application/x-www-form-urlencoded"}
    command = read("slack", b"command=%2Fdeploy&text=now&trigger_id=1.2", form)
    assert (command.id, command.type, command.detail["text"]) == ("1.2", "slash_command", "now")
    button = read("slack", urlencode({"payload": '{"type":"block_actions","trigger_id":"7"}'}).encode(), form)
    assert (button.id, button.type) == ("7", "block_actions")


def test_what_stripe_and_standard_webhooks_send() -> None:
    paid = read("stripe", {"id": "evt_1", "type": "invoice.paid"})
    assert (paid.id, paid.type, paid.source) == ("evt_1", "invoice.paid", "stripe")
    standard = read("standard", {"type": "user.created"}, {"webhook-id": "msg_1"})
    assert (standard.id, standard.type) == ("msg_1", "user.created")


def test_a_sender_of_its_own_way_is_known_by_its_id_header_or_else_by_the_body() -> None:
    named = read("hmac", {"event": "built"}, {"x-id": "5"}, custom=Custom(id_header="X-Id"))
    assert (named.id, named.type, named.source) == ("5", "built", "webhook.mine")
    assert read("hmac", {"a": 1}).id == read("hmac", {"a": 1}).id != read("hmac", {"a": 2}).id


def test_records_of_a_store_are_passed_on_one_by_one_as_they_are() -> None:
    records = [{"eventName": "s3:ObjectCreated:Put", "s3": {}}, {"eventName": "s3:ObjectRemoved:Delete"}]
    first, second = ask("s3", {"EventName": "s3:ObjectCreated:Put", "Records": records})
    assert [first.type, second.type] == ["ObjectCreated:Put", "ObjectRemoved:Delete"]
    assert first.document == {"Records": [records[0]]}
    assert first.id != second.id


EVENT = {"specversion": "1.0", "id": "1", "source": "/runtime", "type": "container.start", "data": {"image": "nginx"}}
STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}


def test_a_structured_cloud_event_is_passed_on_as_it_is() -> None:
    incoming = read("cloudevents", EVENT, STRUCTURED)
    assert (incoming.type, incoming.source, incoming.detail) == ("container.start", "/runtime", {"image": "nginx"})
    assert incoming.document == EVENT


def test_a_binary_cloud_event_becomes_a_structured_one() -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/runtime",
        "ce-type": "t",
        "ce-subject": "caf%C3%A9",
    }
    as_json = read("cloudevents", {"image": "nginx"}, {**headers, "content-type": "application/json"})
    assert as_json.document == {
        "specversion": "1.0",
        "id": "1",
        "source": "/runtime",
        "type": "t",
        "subject": "café",
        "datacontenttype": "application/json",
        "data": {"image": "nginx"},
    }
    text = read("cloudevents", b"up", {**headers, "content-type": "text/plain"})
    assert text.detail == {"data": "up"}
    raw = read("cloudevents", b"\xff\x00", {**headers, "content-type": "image/png"})
    assert raw.document is not None
    assert raw.document["data_base64"] == "/wA="
    assert read("cloudevents", b"", headers).detail == {"data": None}


def test_a_batch_of_cloud_events() -> None:
    batch = [EVENT, {**EVENT, "id": "2"}]
    first, second = ask("cloudevents", batch, {"content-type": "application/cloudevents-batch+json"})
    assert first.id != second.id
    assert ask("cloudevents", [], {"content-type": "application/cloudevents-batch+json"}) == []


def test_cloud_events_are_told_apart_by_source_and_id_together() -> None:
    first = read("cloudevents", {**EVENT, "source": "a", "id": "b c"}, STRUCTURED)
    second = read("cloudevents", {**EVENT, "source": "a b", "id": "c"}, STRUCTURED)
    assert first.id != second.id


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        ({**EVENT, "specversion": "0.3"}, STRUCTURED, "specversion must be 1.0"),
        ({**EVENT, "id": ""}, STRUCTURED, "'id' must be a text"),
        ({**EVENT, "type": 7}, STRUCTURED, "'type' must be a text"),
        ({**EVENT, "data_base64": "/w=="}, STRUCTURED, "not both"),
        ([EVENT], STRUCTURED, "must be a JSON object"),
        (EVENT, {"content-type": "application/cloudevents-batch+json"}, "must be a JSON array"),
        ([7], {"content-type": "application/cloudevents-batch+json"}, "must be a JSON object"),
        (b"<e/>", {"content-type": "application/cloudevents+xml"}, "send JSON"),
        (b"{", STRUCTURED, "not JSON"),
        (EVENT, {"content-type": "application/json"}, "specversion must be 1.0"),
    ],
)
def test_what_is_no_cloud_event_is_refused_with_the_reason(body: object, headers: dict[str, str], message: str) -> None:
    with pytest.raises(CallerError, match=message) as caught:
        ask("cloudevents", body, headers)
    assert caught.value.code == "InvalidRequestContentException"


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"cloudevents"}))
@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(kind: str, body: bytes) -> None:
    with pytest.raises(CallerError) as caught:
        ask(kind, body)
    assert caught.value.code == "InvalidRequestContentException"


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"cloudevents"}))
def test_an_object_without_anything_expected_in_it_does_no_harm(kind: str) -> None:
    odd = {"repository": 7, "project": [], "Records": 7, "event": 7, "ref": None, "updates": 7, "pull_request": "x"}
    for body in ({}, odd):
        for incoming in ask(kind, body, {"x-github-event": "push"}):
            assert incoming.id

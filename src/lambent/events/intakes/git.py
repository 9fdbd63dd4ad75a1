"""What git hosts report, in one shape: GitHub, Gitea, GitLab and a plain `post-receive` script.

    {"repository": {"name", "full_name", "clone_url", "ssh_url", "html_url"}, "ref": "refs/heads/main",
     "branch": "main" | "", "tag": "v1" | "", "before", "after", "created", "deleted", "sender",
     "pull_request": {"number", "action", "title", "source_branch", "target_branch", "commit"} | null,
     "payload": what the host sent}

Types are `push`, `tag`, `pull_request`, or the host's own name for what is none of them.
"""

from __future__ import annotations

from typing import Any

from lambent.awsapi.http import HttpRequest
from lambent.events.intakes.hooks import Incoming
from lambent.events.intakes.payloads import digest_of, read_object

NO_COMMIT = "0" * 40
_BRANCH, _TAG = "refs/heads/", "refs/tags/"


def read_github(request: HttpRequest) -> list[Incoming]:
    """Raises CallerError for a body that is no JSON object."""
    event = request.header(b"x-github-event") or request.header(b"x-gitea-event") or "unknown"
    identity = request.header(b"x-github-delivery") or request.header(b"x-gitea-delivery") or digest_of(request)
    source = "git.gitea" if request.header(b"x-gitea-event") else "git.github"
    payload = read_object(request)
    repository = _of(payload, "repository")
    detail = _detail(
        payload,
        repository={
            "name": repository.get("name", ""),
            "full_name": repository.get("full_name", ""),
            "clone_url": repository.get("clone_url", ""),
            "ssh_url": repository.get("ssh_url", ""),
            "html_url": repository.get("html_url", ""),
        },
        sender=_of(payload, "sender").get("login", ""),
    )
    if event in ("create", "delete"):
        kind = payload.get("ref_type", "")
        return [
            _incoming(identity, f"{event}_{kind}", source, detail | _ref(f"{_prefix(kind)}{payload.get('ref', '')}"))
        ]
    if event == "pull_request":
        request_ = _of(payload, "pull_request")
        head, base = _of(request_, "head"), _of(request_, "base")
        detail["pull_request"] = {
            "number": payload.get("number", request_.get("number")),
            "action": payload.get("action", ""),
            "title": request_.get("title", ""),
            "source_branch": head.get("ref", ""),
            "target_branch": base.get("ref", ""),
            "commit": head.get("sha", ""),
        }
        return [_incoming(identity, event, source, detail | _ref(_BRANCH + str(base.get("ref", ""))))]
    if event == "push":
        return [_push(identity, source, detail, payload)]
    return [_incoming(identity, event, source, detail)]


def read_gitlab(request: HttpRequest) -> list[Incoming]:
    payload = read_object(request)
    identity = (
        request.header(b"webhook-id")
        or request.header(b"idempotency-key")
        or request.header(b"x-gitlab-event-uuid")
        or digest_of(request)
    )
    project = _of(payload, "project")
    detail = _detail(
        payload,
        repository={
            "name": project.get("name", ""),
            "full_name": project.get("path_with_namespace", ""),
            "clone_url": project.get("git_http_url", ""),
            "ssh_url": project.get("git_ssh_url", ""),
            "html_url": project.get("web_url", ""),
        },
        sender=payload.get("user_username") or _of(payload, "user").get("username", ""),
    )
    kind = str(payload.get("object_kind", "unknown"))
    if kind in ("push", "tag_push"):
        return [_push(identity, "git.gitlab", detail, payload)]
    if kind == "merge_request":
        attributes = _of(payload, "object_attributes")
        detail["pull_request"] = {
            "number": attributes.get("iid"),
            "action": attributes.get("action", ""),
            "title": attributes.get("title", ""),
            "source_branch": attributes.get("source_branch", ""),
            "target_branch": attributes.get("target_branch", ""),
            "commit": _of(attributes, "last_commit").get("id", ""),
        }
        ref = _ref(_BRANCH + str(attributes.get("target_branch", "")))
        return [_incoming(identity, "pull_request", "git.gitlab", detail | ref)]
    return [_incoming(identity, kind, "git.gitlab", detail)]


def read_post_receive(request: HttpRequest) -> list[Incoming]:
    """`{"repository": name, "clone_url": url, "updates": [{"ref", "before", "after"}]}`: one event for each ref."""
    payload = read_object(request)
    identity = request.header(b"x-lambent-delivery") or digest_of(request)
    updates = payload.get("updates")
    if not isinstance(updates, list) or not all(isinstance(update, dict) for update in updates):
        updates = []
    name = str(payload.get("repository", ""))
    clone_url = str(payload.get("clone_url", ""))
    found = []
    for number, update in enumerate(updates):
        repository = {"name": name, "full_name": name, "clone_url": clone_url, "ssh_url": "", "html_url": ""}
        detail = _detail(update, repository=repository, sender=str(payload.get("sender", "")))
        found.append(_push(f"{identity}-{number}", "git.post-receive", detail, update))
    return found


def _push(identity: str, source: str, detail: dict[str, Any], payload: dict[str, Any]) -> Incoming:
    before, after = str(payload.get("before", "")), str(payload.get("after", ""))
    detail |= _ref(str(payload.get("ref", "")))
    detail |= {
        "before": before,
        "after": after,
        "created": before == NO_COMMIT,
        "deleted": after == NO_COMMIT,
    }
    return _incoming(identity, "tag" if detail["tag"] else "push", source, detail)


def _incoming(identity: str, type_: str, source: str, detail: dict[str, Any]) -> Incoming:
    return Incoming(
        id=identity, type=type_, source=source, detail=detail, ref=detail["branch"] or detail["tag"] or detail["ref"]
    )


def _detail(payload: dict[str, Any], *, repository: dict[str, Any], sender: str) -> dict[str, Any]:
    return {
        "repository": repository,
        "ref": "",
        "branch": "",
        "tag": "",
        "before": "",
        "after": "",
        "created": False,
        "deleted": False,
        "sender": sender,
        "pull_request": None,
        "payload": payload,
    }


def _ref(ref: str) -> dict[str, str]:
    return {
        "ref": ref,
        "branch": ref.removeprefix(_BRANCH) if ref.startswith(_BRANCH) else "",
        "tag": ref.removeprefix(_TAG) if ref.startswith(_TAG) else "",
    }


def _prefix(kind: str) -> str:
    return _TAG if kind == "tag" else _BRANCH


def _of(payload: dict[str, Any], name: str) -> dict[str, Any]:
    value = payload.get(name)
    return value if isinstance(value, dict) else {}

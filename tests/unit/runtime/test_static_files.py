"""Files over HTTP, as RFC 9110 has it."""

from __future__ import annotations

import gzip
import os
import socket
from pathlib import Path

import pytest
from flask import Flask
from tests.unit.runtime.test_applications import Context, call, first, second, serve

from lambent.dataplane.runtime import handler as handlers
from lambent.dataplane.runtime.applications.static import StaticFiles
from lambent.dataplane.wire import frames

TEXT = b"0123456789" * 400
DATE = "Fri, 02 Jan 2026 03:04:05 GMT"
DATE_S = 1_767_323_045


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAMBDA_TASK_ROOT", str(tmp_path))
    folder = tmp_path / "site"
    files = {
        "index.html": b"<h1>home</h1>",
        "text.txt": TEXT,
        "small.txt": b"0123456789",
        "photo.png": bytes(range(256)),
        "docs/index.html": b"docs",
        "ö b.txt": b"named",
        "app.js": b"plain",
        "app.js.br": b"brotli",
        "app.js.gz": b"gzipped",
        ".env": b"secret",
        ".well-known/security.txt": b"contact",
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        os.utime(folder / name, (DATE_S, DATE_S))
    (tmp_path / "outside.txt").write_text("outside")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    return folder


def ask(files: StaticFiles, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    return serve(files, second(call(method, path, query="", body=b"", **headers)))


def test_files_are_served_with_their_types_and_validators(site: Path) -> None:
    files = StaticFiles("site")
    status, headers, body = ask(files, "/")
    assert (status, body, headers["content-type"]) == (200, b"<h1>home</h1>", "text/html; charset=utf-8")
    assert (headers["last-modified"], headers["accept-ranges"]) == (DATE, "bytes")
    assert ask(files, "/docs/")[2] == b"docs"
    assert ask(files, "/%C3%B6%20b.txt")[2] == b"named"
    assert ask(files, "/.well-known/security.txt")[2] == b"contact"
    status, headers, body = ask(files, "/photo.png")
    assert (headers["content-type"], body) == ("image/png", bytes(range(256)))
    assert serve(files, first(call(path="/photo.png")))[2] == body
    assert ask(files, "/text.txt", "HEAD")[::2] == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/none",
        "/.env",
        "/%2eenv",
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/..%2foutside.txt",
        "/..%5coutside.txt",
        "/link.txt",
        "/text.txt%00.html",
        "/%ff",
        "/" + "a" * 5000,
    ],
)
def test_what_is_outside_or_hidden_is_not_found(site: Path, path: str) -> None:
    assert ask(StaticFiles("site"), path)[0] == 404


def test_a_folder_without_its_slash_is_elsewhere_but_never_on_another_host(site: Path) -> None:
    (site / "evil.example").mkdir()
    files = StaticFiles("site")
    status, headers, _ = ask(files, "/docs")
    assert (status, headers["location"]) == (301, "/docs/")
    _, sent, _ = files.respond("GET", "//evil.example", {})
    assert dict(sent)["location"] == "/evil.example/"
    _, sent, _ = files.respond("GET", "/docs", {}, root_path="/prod")
    assert dict(sent)["location"] == "/prod/docs/"


def test_only_reading_is_allowed(site: Path) -> None:
    files = StaticFiles("site")
    assert [ask(files, "/", method)[0] for method in ("POST", "PUT", "DELETE", "OPTIONS")] == [405, 405, 405, 204]
    assert ask(files, "/", "POST")[1]["allow"] == "GET, HEAD, OPTIONS"


def test_what_is_known_already_is_not_sent_again(site: Path) -> None:
    files = StaticFiles("site")
    etag = ask(files, "/text.txt")[1]["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        status, headers, body = ask(files, "/text.txt", if_none_match=known)
        assert (status, headers["etag"], body) == (304, etag, b"")
    assert ask(files, "/text.txt", if_none_match='"other"', if_modified_since=DATE)[0] == 200
    assert ask(files, "/text.txt", if_modified_since=DATE)[0] == 304
    assert ask(files, "/text.txt", if_modified_since="Fri, 02 Jan 2026 03:04:04 GMT")[0] == 200
    assert ask(files, "/text.txt", if_modified_since="never")[0] == 200


def test_another_content_of_the_same_size_and_time_is_another_file(site: Path) -> None:
    before = ask(StaticFiles("site"), "/small.txt")[1]["etag"]
    (site / "small.txt").write_bytes(b"9876543210")
    os.utime(site / "small.txt", (0, 0))
    _, headers, _ = ask(StaticFiles("site"), "/small.txt")
    assert headers["etag"] != before
    assert "last-modified" not in headers


@pytest.mark.parametrize(
    ("wanted", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=3-1", 200, b"0123456789", None),
        ("bytes=a-b", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
        ("bytes=0-,0-,0-", 200, b"0123456789", None),
        ("bytes=" + ",".join("0-0" for _ in range(17)), 200, b"0123456789", None),
    ],
)
def test_parts_of_a_file_can_be_had(site: Path, wanted: str, status: int, body: bytes, content_range: str) -> None:
    got, headers, data = ask(StaticFiles("site"), "/small.txt", range=wanted)
    assert (got, data, headers.get("content-range")) == (status, body, content_range)


def test_several_parts_come_as_multipart(site: Path) -> None:
    status, headers, body = ask(StaticFiles("site"), "/small.txt", range="bytes=0-1, -2")
    boundary = headers["content-type"].removeprefix("multipart/byteranges; boundary=")
    assert status == 206
    assert body.decode() == (
        f"--{boundary}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-range: bytes 0-1/10\r\n\r\n01\r\n"
        f"--{boundary}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-range: bytes 8-9/10\r\n\r\n89\r\n"
        f"--{boundary}--\r\n"
    )


def test_parts_are_of_the_file_that_is_asked_for(site: Path) -> None:
    files = StaticFiles("site")
    etag = ask(files, "/small.txt")[1]["etag"]
    assert ask(files, "/small.txt", range="bytes=0-0", if_range=etag)[0] == 206
    assert ask(files, "/small.txt", range="bytes=0-0", if_range=DATE)[0] == 206
    assert ask(files, "/small.txt", range="bytes=0-0", if_range='"other"')[0] == 200
    assert ask(files, "/small.txt", range="bytes=0-0", if_range="W/" + etag)[0] == 200


def test_text_is_compressed_for_those_who_take_it(site: Path) -> None:
    files = StaticFiles("site")
    plain = ask(files, "/text.txt")
    assert (plain[1]["vary"], plain[2], plain[1].get("content-encoding")) == ("accept-encoding", TEXT, None)
    for _ in range(2):
        status, headers, body = ask(files, "/text.txt", accept_encoding="deflate, gzip;q=0.5")
        assert (status, headers["content-encoding"], gzip.decompress(body)) == (200, "gzip", TEXT)
        assert headers["etag"] != plain[1]["etag"]
    assert ask(files, "/text.txt", accept_encoding="gzip", if_none_match=headers["etag"])[0] == 304
    assert "content-encoding" not in ask(files, "/text.txt", accept_encoding="gzip;q=0, *;q=0")[1]
    assert "content-encoding" not in ask(files, "/text.txt", accept_encoding="gzip", range="bytes=0-1")[1]
    assert "content-encoding" not in ask(files, "/photo.png", accept_encoding="gzip")[1]


@pytest.mark.parametrize(
    ("accepted", "coding", "body"),
    [("gzip, br", "br", b"brotli"), ("gzip", "gzip", b"gzipped"), ("br;q=0", None, b"plain"), ("*", "br", b"brotli")],
)
def test_files_that_lie_compressed_are_sent_as_they_lie(
    site: Path, accepted: str, coding: str | None, body: bytes
) -> None:
    status, headers, got = ask(StaticFiles("site"), "/app.js", accept_encoding=accepted)
    assert (status, headers.get("content-encoding"), got) == (200, coding, body)
    assert (headers["vary"], headers["content-type"]) == ("accept-encoding", "text/javascript; charset=utf-8")


def test_another_file_may_answer_where_there_is_none(site: Path) -> None:
    assert ask(StaticFiles("site", fallback="index.html"), "/cart/5")[::2] == (200, b"<h1>home</h1>")
    (site / "404.html").write_bytes(b"lost")
    assert ask(StaticFiles("site"), "/cart/5")[::2] == (404, b"lost")


def test_files_leave_in_pieces_where_the_answer_is_read_so(site: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert StaticFiles("site")(second(call(path="/text.txt")), Context(theirs)) is None
        sent = ours.recv(65_536)
    assert sent.startswith(frames.BEGIN)
    assert sent.endswith(TEXT)


def test_a_folder_is_a_handler_and_a_wsgi_application(site: Path) -> None:
    handler = handlers.load_handler("lambent_static:site")
    assert serve(handler, second(call(path="/small.txt")))[2] == b"0123456789"
    import lambent_static  # type: ignore[import-not-found]

    app = Flask("shop")
    app.wsgi_app = lambent_static.StaticFiles("site").wsgi  # type: ignore[method-assign]
    answer = app.test_client().get("/small.txt", headers={"Range": "bytes=0-1"})
    assert (answer.status, answer.data) == ("206 Partial Content", b"01")

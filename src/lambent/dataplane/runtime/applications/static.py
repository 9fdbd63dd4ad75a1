"""Files over HTTP (RFC 9110): validators, ranges, compression. Functions import it as `lambent_static`.

    from lambent_static import StaticFiles
    handler = StaticFiles("public")                     # a handler
    app.wsgi_app = StaticFiles("public").wsgi           # or a WSGI application

The handler `lambent_static:FOLDER` serves a folder of the package without any code.
"""

from __future__ import annotations

import os
import stat
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple
from urllib.parse import quote, unquote_to_bytes

from lambent.dataplane.runtime.applications.requests import (
    Header,
    Response,
    read_request,
    write_head,
    write_response,
)

PIECE_BYTES = 65_536
MAX_RANGES = 16
"""More than that in one request asks for work, not for parts of a file."""
_COMPRESSED_FROM, _COMPRESSED_TO = 1024, 1024 * 1024
_CODINGS = (("br", ".br"), ("gzip", ".gz"))
_TEXT = ("text/", "application/json", "application/javascript", "application/xml", "application/manifest+json")
_COMPRESSED_TYPES = (*_TEXT, "image/svg+xml", "application/wasm", "font/ttf")
_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
}
"""First: what the machine's own tables say differs from one to the next."""
_KEPT = 256


class File(NamedTuple):
    path: str
    size: int
    modified_s: int
    """0: not known; an archive without times is no reason to call a file unchanged."""
    etag: str


class StaticFiles:
    """`folder` is below the function's own. Names that begin with a dot are not served, but `.well-known` is."""

    def __init__(
        self,
        folder: str,
        *,
        index: str = "index.html",
        fallback: str = "",
        cache_control: str = "public, max-age=0, must-revalidate",
    ) -> None:
        """`fallback`: the file that answers where there is none, for applications that route in the browser."""
        self._root = os.path.realpath(os.path.join(os.environ.get("LAMBDA_TASK_ROOT", "."), folder))
        self._index = index
        self._fallback = fallback
        self._cache_control = cache_control
        self._etags: Dict[Tuple[str, int, int], str] = {}
        self._compressed: Dict[str, bytes] = {}

    def __call__(self, event: Any, context: Any) -> Any:
        request = read_request(event)
        status, headers, body = self.respond(
            request.method, request.raw_path, dict(request.headers), root_path=request.root_path
        )
        if not context.streams_response:
            return write_response(request, Response(status, headers, b"".join(body)))
        head = write_head(status, headers)
        writer = context.response_stream()
        writer.begin(status_code=status, headers=head["headers"])
        for piece in body:
            writer.write(piece)
        return None

    def wsgi(self, environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        headers = {
            name[5:].lower().replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_")
        }
        path = quote(environ.get("PATH_INFO", "/").encode("latin-1"))
        status, sent, body = self.respond(
            environ["REQUEST_METHOD"], path, headers, root_path=environ.get("SCRIPT_NAME", "")
        )
        start_response("{} {}".format(status, _REASONS.get(status, "Unknown")), sent)
        return body

    def respond(
        self, method: str, raw_path: str, headers: Dict[str, str], *, root_path: str = ""
    ) -> Tuple[int, List[Header], Iterable[bytes]]:
        """Status, headers and the body's pieces. `raw_path` is percent-encoded, names of `headers` in lower case."""
        if method not in ("GET", "HEAD"):
            status = 204 if method == "OPTIONS" else 405
            return status, [("allow", "GET, HEAD, OPTIONS")], ()
        status, path = 200, self._locate(raw_path)
        if path is not None and os.path.isdir(path):
            if not raw_path.endswith("/"):
                # One slash at the beginning: with two it would be another host's address.
                return 301, [("location", root_path + "/" + raw_path.lstrip("/") + "/")], ()
            path = os.path.join(path, self._index)
        file = self._look(path) if path is not None else None
        if file is None and self._fallback:
            file = self._look(os.path.join(self._root, self._fallback))
        if file is None:
            status, file = 404, self._look(os.path.join(self._root, "404.html"))
        if file is None:
            return 404, [("content-type", "text/plain; charset=utf-8")], (b"Not Found",)
        status, sent, body = self._send(file, headers, status)
        return status, sent, () if method == "HEAD" else body

    def _locate(self, raw_path: str) -> Optional[str]:
        """None for what is outside, or is not to be seen."""
        try:
            text = unquote_to_bytes(raw_path).decode("utf-8")
        except UnicodeDecodeError:
            return None
        parts = [part for part in text.split("/") if part]
        for part in parts:
            if (part.startswith(".") and part != ".well-known") or "\\" in part or "\0" in part:
                return None
        path = os.path.realpath(os.path.join(self._root, *parts))
        is_inside = path == self._root or path.startswith(self._root.rstrip("/") + "/")
        return path if is_inside else None

    def _look(self, path: str) -> Optional[File]:
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        # By content: two packages may have a file of the same size and time.
        key = (path, found.st_size, found.st_mtime_ns)
        etag = self._etags.get(key)
        if etag is None:
            try:
                etag = self._etags[key] = _digest(path)
            except OSError:
                return None
        modified_s = int(found.st_mtime) if found.st_mtime > _NO_TIME_BEFORE_S else 0
        return File(path, found.st_size, modified_s, etag)

    def _send(self, file: File, headers: Dict[str, str], status: int) -> Tuple[int, List[Header], Iterable[bytes]]:
        kind = _guess_type(file.path)
        sent = [
            ("content-type", kind + "; charset=utf-8" if kind.startswith(_TEXT) else kind),
            ("x-content-type-options", "nosniff"),
        ]
        if status != 200:
            return status, sent, _read(file.path, 0, file.size)
        sent.append(("cache-control", self._cache_control))
        if file.modified_s:
            sent.append(("last-modified", _format_date(file.modified_s)))
        ranges = _read_ranges(headers.get("range", ""), file.size)
        if ranges is not None and not _may_send_parts(headers.get("if-range", ""), file):
            ranges = None
        coding, chosen, data = "", file, None
        siblings = [(name, self._look(file.path + suffix)) for name, suffix in _CODINGS]
        is_compressible = kind in _COMPRESSED_TYPES or kind.startswith("text/")
        can_gzip = is_compressible and _COMPRESSED_FROM <= file.size <= _COMPRESSED_TO
        if can_gzip or any(found is not None for _, found in siblings):
            sent.append(("vary", "accept-encoding"))
            if ranges is None:
                coding, chosen, data = self._choose(file, siblings, headers.get("accept-encoding", ""), can_gzip)
        etag = '"{}{}"'.format(file.etag, "-" + coding if coding else "")
        sent.append(("etag", etag))
        if _is_unchanged(headers, etag, file):
            return 304, [each for each in sent if each[0] not in ("content-type", "x-content-type-options")], ()
        sent.append(("accept-ranges", "bytes"))
        if coding:
            sent.append(("content-encoding", coding))
        if ranges is None:
            return 200, sent, (data,) if data is not None else _read(chosen.path, 0, chosen.size)
        if not ranges:
            return 416, [("content-range", "bytes */{}".format(file.size))], ()
        if len(ranges) == 1:
            first, end = ranges[0]
            sent.append(("content-range", "bytes {}-{}/{}".format(first, end - 1, file.size)))
            return 206, sent, _read(file.path, first, end - first)
        boundary = os.urandom(12).hex()
        inner = sent[0][1]
        sent[0] = ("content-type", "multipart/byteranges; boundary=" + boundary)
        return 206, sent, _read_parts(file, ranges, inner, boundary)

    def _choose(
        self, file: File, siblings: List[Tuple[str, Optional[File]]], accepted: str, can_gzip: bool
    ) -> Tuple[str, File, Optional[bytes]]:
        """Coding, the file that has it, or its bytes."""
        wanted = _read_accepted(accepted)
        for name, found in siblings:
            if found is not None and wanted.get(name, 0) > 0:
                return name, found, None
        if not can_gzip or wanted.get("gzip", 0) <= 0:
            return "", file, None
        data = self._compressed.get(file.etag)
        if data is None:
            import gzip  # noqa: PLC0415 - most functions do without it

            with open(file.path, "rb") as source:
                data = gzip.compress(source.read(), 6, mtime=0)
            if len(self._compressed) >= _KEPT:
                self._compressed.pop(next(iter(self._compressed)))
            self._compressed[file.etag] = data
        return "gzip", file, data


_NO_TIME_BEFORE_S = 347_155_200
"""1981: archives without times say 1980 or 1970."""
_REASONS = {
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    301: "Moved Permanently",
    304: "Not Modified",
    404: "Not Found",
    405: "Method Not Allowed",
    416: "Range Not Satisfiable",
}


def _digest(path: str) -> str:
    import hashlib  # noqa: PLC0415

    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(PIECE_BYTES), b""):
            digest.update(piece)
    return digest.hexdigest()


def _guess_type(path: str) -> str:
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _TYPES:
        return _TYPES[suffix]
    import mimetypes  # noqa: PLC0415

    return mimetypes.guess_type(path)[0] or "application/octet-stream"


def _read(path: str, first: int, count: int) -> Iterable[bytes]:
    with open(path, "rb") as file:
        file.seek(first)
        while count:
            piece = file.read(min(count, PIECE_BYTES))
            if not piece:
                return
            count -= len(piece)
            yield piece


def _read_parts(file: File, ranges: List[Tuple[int, int]], kind: str, boundary: str) -> Iterable[bytes]:
    for first, end in ranges:
        head = "--{}\r\ncontent-type: {}\r\ncontent-range: bytes {}-{}/{}\r\n\r\n"
        yield head.format(boundary, kind, first, end - 1, file.size).encode("latin-1")
        yield from _read(file.path, first, end - first)
        yield b"\r\n"
    yield "--{}--\r\n".format(boundary).encode()


def _read_ranges(text: str, size: int) -> Optional[List[Tuple[int, int]]]:
    """First byte and the one after the last. None for no range or one to be ignored, empty where none can be met."""
    unit, _, wanted = text.partition("=")
    if unit.strip().lower() != "bytes":
        return None
    parts = [part.strip() for part in wanted.split(",") if part.strip()]
    if not parts or len(parts) > MAX_RANGES:
        return None
    found = []
    for part in parts:
        first, dash, last = part.partition("-")
        if not dash or not (first + last).isdigit() or not (first + last).isascii():
            return None
        if first and last and int(first) > int(last):
            return None
        begin = int(first) if first else max(0, size - int(last))
        end = min(size, int(last) + 1) if first and last else size
        if begin < end:
            found.append((begin, end))
    # Parts that overlap would be more than the file: a way to ask for much with little.
    return found if sum(end - begin for begin, end in found) <= size else None


def _may_send_parts(condition: str, file: File) -> bool:
    if not condition:
        return True
    if condition.startswith('"'):
        return condition == '"{}"'.format(file.etag)
    return bool(file.modified_s) and condition == _format_date(file.modified_s)


def _is_unchanged(headers: Dict[str, str], etag: str, file: File) -> bool:
    known = headers.get("if-none-match")
    if known is not None:
        tags = [each.strip() for each in known.split(",")]
        return "*" in tags or etag in [each[2:] if each.startswith("W/") else each for each in tags]
    since = headers.get("if-modified-since")
    if since is None or not file.modified_s:
        return False
    import email.utils  # noqa: PLC0415

    try:
        return file.modified_s <= email.utils.parsedate_to_datetime(since).timestamp()
    except (TypeError, ValueError, IndexError):
        return False


def _format_date(time_s: int) -> str:
    import email.utils  # noqa: PLC0415

    return email.utils.formatdate(time_s, usegmt=True)


def _read_accepted(text: str) -> Dict[str, float]:
    found: Dict[str, float] = {}
    for part in text.split(","):
        name, _, parameters = part.partition(";")
        quality = 1.0
        _, is_given, value = parameters.partition("q=")
        if is_given:
            try:
                quality = float(value)
            except ValueError:
                quality = 0.0
        found[name.strip().lower()] = quality
    if "*" in found:
        for name, _ in _CODINGS:
            found.setdefault(name, found["*"])
    return found

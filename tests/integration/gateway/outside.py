"""What stands outside of the node: an issuer of tokens, and a server behind an API."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any


class Outside:
    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        outside = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                outside.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                document: Any = {"path": self.path, "method": self.command, "body": body.decode()}
                if self.path == "/.well-known/openid-configuration":
                    document = {"jwks_uri": f"{outside.url}/keys"}
                elif self.path == "/keys":
                    document = {"keys": list(outside.keys.values())}
                answer = json.dumps(document).encode()
                self.send_response(201 if self.path.startswith("/echo") else 200)
                self.send_header("Content-Length", str(len(answer)))
                self.send_header("X-Secret", "of the server")
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = handle_any  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@contextlib.contextmanager
def open_outside() -> Iterator[Outside]:
    outside = Outside()
    thread = threading.Thread(target=outside.server.serve_forever)
    thread.start()
    yield outside
    outside.server.shutdown()
    outside.server.server_close()
    thread.join()

"""The floor: an application on the same server that reads the body and answers the same bytes at once."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

BODY = sys.argv[2].encode() if len(sys.argv) > 2 else b"{}"
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"application/json"),
        (b"x-amz-executed-version", b"$LATEST"),
        (b"content-length", b"%d" % len(BODY)),
        (b"x-amzn-requestid", b"00000000-0000-4000-8000-000000000000"),
    ],
}
END = {"type": "http.response.body", "body": BODY}


async def app(_scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send(START)
    await send(END)


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_level="error",
        server_header=False,
    )

"""A small SQS endpoint in a thread, for tests of mappings that read queues beyond the node. Standard queues only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class SqsEndpoint:
    """One queue. Messages are invisible for `visibility_s` after they were received, unless they are deleted."""

    def __init__(self, *, visibility_s: float = 2.0) -> None:
        self._visibility_s = visibility_s
        self._condition = threading.Condition()
        self._messages: dict[str, dict[str, Any]] = {}
        self.signed_by: set[str] = set()
        self.received: dict[str, int] = {}
        """How often each message was handed out."""
        self.url = ""

    @contextlib.contextmanager
    def running(self) -> Iterator[SqsEndpoint]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                operation = self.headers["x-amz-target"].partition(".")[2]
                credential = self.headers["authorization"].partition("Credential=")[2]
                endpoint.signed_by.add(credential.partition("/")[0])
                answer = json.dumps(endpoint.answer(operation, body)).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                # A node that was killed does not wait for its answer.
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def send(self, body: str, **attributes: str) -> str:
        """The message's id."""
        name = str(uuid.uuid4())
        message = {
            "MessageId": name,
            "Body": body,
            "MD5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
            "MessageAttributes": {
                key: {"DataType": "String", "StringValue": value} for key, value in attributes.items()
            },
            "sent_at": time.time(),
            "visible_at": 0.0,
            "count": 0,
        }
        with self._condition:
            self._messages[name] = message
            self._condition.notify_all()
        return name

    def wait_empty(self, timeout_s: float = 30.0) -> bool:
        """Until every message was deleted."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._messages, timeout_s)

    def answer(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        operations = {
            "GetQueueUrl": self._find_url,
            "ReceiveMessage": self._receive,
            "DeleteMessageBatch": self._delete,
        }
        return operations[operation](body)

    def _find_url(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"QueueUrl": f"{self.url}/000000000000/{body['QueueName']}"}

    def _receive(self, body: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + body.get("WaitTimeSeconds", 0)
        with self._condition:
            while not (ready := [one for one in self._messages.values() if one["visible_at"] <= time.time()]):
                left = deadline - time.monotonic()
                if left <= 0:
                    return {}
                hidden = [one["visible_at"] - time.time() for one in self._messages.values()]
                self._condition.wait(max(0.01, min([left, *hidden])))
            return {"Messages": [self._take(one) for one in ready[: body.get("MaxNumberOfMessages", 1)]]}

    def _take(self, message: dict[str, Any]) -> dict[str, Any]:
        message["visible_at"] = time.time() + self._visibility_s
        message["count"] += 1
        self.received[message["MessageId"]] = message["count"]
        sent = str(int(message["sent_at"] * 1000))
        return {
            **{key: message[key] for key in ("MessageId", "Body", "MD5OfBody", "MessageAttributes")},
            "ReceiptHandle": f"{message['MessageId']}#{message['count']}",
            "Attributes": {
                "ApproximateReceiveCount": str(message["count"]),
                "SentTimestamp": sent,
                "SenderId": "AIDAEXAMPLE",
                "ApproximateFirstReceiveTimestamp": sent,
            },
        }

    def _delete(self, body: dict[str, Any]) -> dict[str, Any]:
        with self._condition:
            for entry in body["Entries"]:
                self._messages.pop(entry["ReceiptHandle"].partition("#")[0], None)
            self._condition.notify_all()
        return {"Successful": [{"Id": entry["Id"]} for entry in body["Entries"]], "Failed": []}

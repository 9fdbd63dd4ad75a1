import datetime
import hashlib
import hmac
import http.client
import os
import urllib.parse
from typing import Any


def sign(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), "sha256").digest()


def handler(event: Any, context: Any) -> Any:
    environ = dict(os.environ, **{k: v for k, v in event.get("environ", {}).items() if "AWS_S" in k or "_KEY" in k})
    url = urllib.parse.urlsplit(event.get("url") or os.environ["AWS_ENDPOINT_URL"])
    body = event.get("body", "").encode()
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": url.netloc, "x-amz-date": stamp}
    token = event.get("token", environ["AWS_SESSION_TOKEN"])
    if token:
        headers["x-amz-security-token"] = token
    names = ";".join(sorted(headers))
    lines = "".join("%s:%s\n" % (name, headers[name]) for name in sorted(headers))
    canonical = "\n".join([event["method"], event["path"], "", lines, names, hashlib.sha256(body).hexdigest()])
    scope = "/".join([stamp[:8], environ["AWS_REGION"], "lambda", "aws4_request"])
    key = ("AWS4" + environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in scope.split("/"):
        key = sign(key, part)
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signature = sign(key, to_sign).hex()
    credential = "%s/%s" % (environ["AWS_ACCESS_KEY_ID"], scope)
    if not event.get("unsigned"):
        headers["authorization"] = "AWS4-HMAC-SHA256 Credential=%s, SignedHeaders=%s, Signature=%s" % (
            credential,
            names,
            signature,
        )
    try:
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=5)
        connection.request(event["method"], event["path"], body=body, headers=headers)
        answer = connection.getresponse()
        return {"status": answer.status, "body": answer.read().decode()}
    except OSError as exc:
        return {"refused": str(exc)}

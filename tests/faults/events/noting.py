"""How functions of these tests say what they handled: on disk, in a queue, before they answer."""

NOTE = """
import datetime, hashlib, hmac, http.client, json, os, uuid
from urllib.parse import urlsplit

def sign(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()

def note(seen):
    # Not by an SDK: importing one takes longer than an environment lives here.
    where = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    body = json.dumps({"QueueUrl": f"{where.scheme}://{where.netloc}/" + os.environ["SEEN"], "MessageGroupId": "all",
                       "MessageDeduplicationId": uuid.uuid4().hex, "MessageBody": json.dumps(seen)})
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    region = os.environ["AWS_REGION"]
    headers = {"content-type": "application/x-amz-json-1.0", "host": where.netloc, "x-amz-date": stamp,
               "x-amz-security-token": os.environ["AWS_SESSION_TOKEN"], "x-amz-target": "AmazonSQS.SendMessage"}
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\\n" for name in sorted(headers))
    whole = f"POST\\n/\\n\\n{lines}\\n{names}\\n{hashlib.sha256(body.encode()).hexdigest()}"
    scope = f"{stamp[:8]}/{region}/sqs/aws4_request"
    key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in scope.split("/"):
        key = sign(key, part)
    text = f"AWS4-HMAC-SHA256\\n{stamp}\\n{scope}\\n{hashlib.sha256(whole.encode()).hexdigest()}"
    headers["authorization"] = (f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/{scope}, "
                                f"SignedHeaders={names}, Signature={sign(key, text).hex()}")
    connection = http.client.HTTPConnection(where.netloc, timeout=2)
    connection.request("POST", "/", body, headers)
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(answer.read().decode())
    connection.close()
"""
"""Source of `note(list of texts)`; the environment variable SEEN is ACCOUNT/NAME of a FIFO queue."""

"""A second factor by time-based one-time passwords (RFC 6238), as authenticator apps make them.

{"action": "enrol", "user": "ada"}                       -> {"secret": "...", "uri": "otpauth://..."}
{"action": "verify", "secret": "...", "code": "123456"}  -> {"verified": true, "step": 56666666}

The caller keeps the secret, and the last `step` of each user: passed as `after`, it makes every code good only once.
"""

import base64
import hmac
import secrets
import struct
import time
from urllib.parse import quote

STEP_S = 30
DIGITS = 6
LEEWAY_STEPS = 1


def handler(event, context):
    if event["action"] == "enrol":
        secret = base64.b32encode(secrets.token_bytes(20)).decode()
        name = quote(f"{event.get('issuer', 'Lambent')}:{event['user']}")
        return {"secret": secret, "uri": f"otpauth://totp/{name}?secret={secret}&digits={DIGITS}&period={STEP_S}"}
    step = verify(event["secret"], str(event["code"]), event.get("at", time.time()), event.get("after", -1))
    return {"verified": step is not None, "step": step}


def verify(secret, code, at, after):
    """The step that a code is of; None when it is of none, or of one that was used."""
    now = int(at) // STEP_S
    found = None
    for step in range(now - LEEWAY_STEPS, now + LEEWAY_STEPS + 1):
        # All of them, whichever fits: how long it takes says nothing.
        if hmac.compare_digest(make_code(secret, step).encode(), code.encode()) and step > after:
            found = step
    return found


def make_code(secret, step):
    digest = hmac.digest(base64.b32decode(secret), struct.pack(">Q", step), "sha1")
    at = digest[-1] & 15
    number = struct.unpack(">I", digest[at : at + 4])[0] & 0x7FFFFFFF
    return str(number % 10**DIGITS).zfill(DIGITS)

"""Words as a language model gives them: one after the other, as server-sent events."""

import json
import time

ANSWER = "What a function writes leaves when it is written , not when it has ended ."


def handler(event, context):
    yield {"statusCode": 200, "headers": {"content-type": "text/event-stream", "cache-control": "no-store"}}
    for word in ANSWER.split():
        yield f"data: {json.dumps({'token': word, 'at': time.time()})}\n\n"
        time.sleep(0.05)
    yield "data: [DONE]\n\n"

"""Messages as the SDKs' own decoder reads them."""

from __future__ import annotations

from botocore.eventstream import EventStreamBuffer

from lambent.awsapi.event_stream import encode_event, encode_exception


def test_events_are_read_by_the_sdk_whatever_the_size_of_what_arrives() -> None:
    data = encode_event("PayloadChunk", b"\x00\xff" * 500) + encode_event(
        "InvokeComplete", b"{}", content_type="application/json"
    )
    buffer = EventStreamBuffer()
    messages = []
    for at in range(0, len(data), 7):
        buffer.add_data(data[at : at + 7])
        messages += list(buffer)
    first, second = messages
    assert first.payload == b"\x00\xff" * 500
    assert first.headers == {
        ":event-type": "PayloadChunk",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }
    assert second.headers[":event-type"] == "InvokeComplete"
    assert second.payload == b"{}"


def test_an_error_in_the_midst_is_read_as_one() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(encode_exception("ServiceException", b'{"Message":"no"}'))
    (message,) = list(buffer)
    assert message.to_response_dict()["status_code"] == 400
    assert message.headers[":exception-type"] == "ServiceException"

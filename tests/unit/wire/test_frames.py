from __future__ import annotations

import pytest

from lambent.dataplane.wire import frames
from lambent.dataplane.wire.frames import Call
from lambent.dataplane.wire.spec import EnvironmentSpec

CALL = Call("id-1", b'{"a": "\xc3\xa9"}', 1_764_000_000_000, "arn:aws:lambda:x", "Root=1", '{"custom":{}}', "")


def test_a_call_comes_out_as_it_went_in() -> None:
    frame = frames.encode_call(CALL)
    kind, length = frames.HEAD.unpack_from(frame)
    assert (kind, length) == (frames.INVOKE, len(frame) - frames.HEAD.size)
    assert frames.decode_call(frame[frames.HEAD.size :]) == CALL


@pytest.mark.parametrize("length", [0, 5, 18, 20])
def test_a_call_that_is_cut_short_is_refused(length: int) -> None:
    body = frames.encode_call(CALL)[frames.HEAD.size :]
    with pytest.raises(ValueError, match="cut short"):
        frames.decode_call(body[:length])


def test_an_error_keeps_its_type_and_its_payload_apart() -> None:
    frame = frames.encode_error(frames.ERROR, "Runtime.ExitError", b'{"a":"\0"}')
    assert frames.decode_error(frame[frames.HEAD.size :]) == ("Runtime.ExitError", b'{"a":"\0"}')


def test_a_spec_comes_out_as_it_went_in() -> None:
    values = dict.fromkeys(EnvironmentSpec._fields, "x")
    spec = EnvironmentSpec(**values)  # type: ignore[arg-type]
    assert EnvironmentSpec.decode(spec.encode()) == spec

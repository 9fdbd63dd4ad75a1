from __future__ import annotations

import pytest

from lambent.awsapi.aws_chunked import ChunkedDecoder
from lambent.awsapi.sigv4 import ChunkSignatures, _derive
from lambent.model.errors import CallerError

# The example of the S3 API reference, "Transferring payload in multiple chunks".
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
BODY = (
    b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"
    + b"a" * 65_536
    + b"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n"
    + b"a" * 1_024
    + b"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
)


def signatures() -> ChunkSignatures:
    key = _derive(SECRET, "20130524", "us-east-1", "s3")
    return ChunkSignatures(key, "20130524T000000Z", "20130524/us-east-1/s3/aws4_request", SEED)


def decode(body: bytes, size: int, *, signed: bool = True) -> bytes:
    decoder = ChunkedDecoder(signatures() if signed else None)
    found = b"".join(piece for at in range(0, len(body), size) for piece in decoder.feed(body[at : at + size]))
    decoder.finish()
    return found


@pytest.mark.parametrize("size", [1, 7, 1_000, 100_000])
def test_the_example_of_the_contract_is_read_in_pieces_of_any_size(size: int) -> None:
    assert decode(BODY, size) == b"a" * 66_560


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b"aa\r\n0;", b"ab\r\n0;"),
        lambda body: body[: body.index(b"400;")] + body[body.index(b"0;chunk-signature=b6") :],
        lambda body: body.replace(b";chunk-signature=0055", b";chunk-signature=1055"),
        lambda body: body.replace(
            b";chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497", b""
        ),
        lambda body: body[:-3],
        lambda body: body + b"x",
        lambda body: body.replace(b"10000;", b"zz;"),
        lambda body: b"1" * 9_000,
    ],
    ids=["changed", "left out", "other signature", "unsigned", "cut off", "longer", "no size", "long line"],
)
def test_what_is_not_as_it_was_signed_is_refused(change: object) -> None:
    assert callable(change)
    with pytest.raises(CallerError):
        decode(change(BODY), 1_000)


def test_trailers_are_read() -> None:
    decoder = ChunkedDecoder(None)
    assert b"".join(decoder.feed(b"2\r\nhi\r\n0\r\nX-Amz-Checksum-Crc32: abc\r\n\r\n")) == b"hi"
    decoder.finish()
    assert decoder.trailers == {"x-amz-checksum-crc32": "abc"}

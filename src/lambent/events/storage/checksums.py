"""Checksums of objects (S3 user guide, "Checking object integrity"): as they come, and of the parts of a whole."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from lambent.model.errors import CallerError


class Checksum(Protocol):
    def update(self, data: bytes, /) -> object: ...

    def digest(self) -> bytes: ...


class _Crc:
    def __init__(self, compute: Callable[[bytes, int], int], width: int) -> None:
        self._compute = compute
        self._width = width
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._compute(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


def _crt() -> Any:
    # When it is first needed: it is 7 MB of memory, and a node without buckets does without.
    from awscrt import checksums as crt  # noqa: PLC0415

    return crt


ALGORITHMS: dict[str, Callable[[], Checksum]] = {
    "CRC32": lambda: _Crc(zlib.crc32, 4),
    "CRC32C": lambda: _Crc(_crt().crc32c, 4),
    "CRC64NVME": lambda: _Crc(_crt().crc64nvme, 8),
    "SHA1": lambda: hashlib.sha1(usedforsecurity=False),
    "SHA256": hashlib.sha256,
    "SHA512": hashlib.sha512,
    "MD5": lambda: hashlib.md5(usedforsecurity=False),
}
"""By the names of the contract. XXHASH64, XXHASH3 and XXHASH128 are refused."""
_POLYNOMIALS = {"CRC32": 0xEDB88320, "CRC32C": 0x82F63B78, "CRC64NVME": 0x9A6C9329AC4BC9B5}
FULL, COMPOSITE = "FULL_OBJECT", "COMPOSITE"
PREFIX = "x-amz-checksum-"


def member_of(algorithm: str) -> str:
    """What the model calls the checksum: ChecksumCRC32."""
    return f"Checksum{algorithm}"


def check_algorithm(name: str) -> str:
    """Raises CallerError `InvalidRequest` for one that is not computed here."""
    algorithm = name.upper()
    if algorithm not in ALGORITHMS:
        served = ", ".join(ALGORITHMS)
        raise CallerError(
            "InvalidRequest", f"The checksum algorithm '{name}' is not supported by Lambent; there are {served}."
        )
    return algorithm


def encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


def decode(text: str) -> bytes:
    """Raises CallerError `InvalidRequest`."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise CallerError("InvalidRequest", "Value for a checksum is not valid base64.") from None


def default_type(algorithm: str) -> str:
    """Of an object in parts, where it is not stated."""
    return FULL if algorithm == "CRC64NVME" else COMPOSITE


def join_composite(algorithm: str, parts: Iterable[bytes]) -> str:
    """The checksum of the parts' checksums."""
    whole, count = ALGORITHMS[algorithm](), 0
    for part in parts:
        whole.update(part)
        count += 1
    return f"{encode(whole.digest())}-{count}"


def join_full(algorithm: str, parts: Sequence[tuple[bytes, int]]) -> str:
    """The CRC of a whole from the CRCs and lengths of its parts."""
    polynomial, value = _POLYNOMIALS[algorithm], 0
    for crc, length in parts:
        value = _shift(value, length, polynomial, len(crc) * 8) ^ int.from_bytes(crc, "big")
    width = len(parts[0][0]) if parts else ALGORITHMS[algorithm]().digest().__len__()
    return encode(value.to_bytes(width, "big"))


def _shift(crc: int, length: int, polynomial: int, width: int) -> int:
    """What a CRC becomes by `length` bytes of zeros behind it, as `crc32_combine` of zlib does it: the step of one bit
    is a matrix over GF(2), squared for twice the distance."""
    matrix = [polynomial, *(1 << bit for bit in range(width - 1))]
    bits = length * 8
    while bits:
        if bits & 1:
            crc = _times(matrix, crc)
        bits >>= 1
        if bits:
            matrix = [_times(matrix, column) for column in matrix]
    return crc


def _times(matrix: Sequence[int], vector: int) -> int:
    result = 0
    for column in matrix:
        if vector & 1:
            result ^= column
        vector >>= 1
        if not vector:
            break
    return result

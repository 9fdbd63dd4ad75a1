from __future__ import annotations

import os

import pytest

from lambent.events.storage import checksums
from lambent.events.storage.buckets import check_name
from lambent.events.storage.objects import cut_range
from lambent.model.errors import CallerError


def compute(algorithm: str, data: bytes) -> bytes:
    check = checksums.ALGORITHMS[algorithm]()
    check.update(data)
    return check.digest()


@pytest.mark.parametrize(
    ("algorithm", "expected"), [("CRC32", "cbf43926"), ("CRC32C", "e3069283"), ("CRC64NVME", "ae8b14860a799888")]
)
def test_the_check_values_of_the_catalogue(algorithm: str, expected: str) -> None:
    assert compute(algorithm, b"123456789").hex() == expected


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_the_checksum_of_a_whole_is_made_of_those_of_its_parts(algorithm: str) -> None:
    parts = [os.urandom(size) for size in (5_000, 1, 0, 70_003)]
    found = [(compute(algorithm, part), len(part)) for part in parts]
    whole = checksums.encode(compute(algorithm, b"".join(parts)))
    assert checksums.join_full(algorithm, found) == whole


def test_an_algorithm_that_is_not_computed_is_refused_by_name() -> None:
    with pytest.raises(CallerError, match="xxhash3"):
        checksums.check_algorithm("xxhash3")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 10, False)),
        ("bytes=0-0", (0, 1, True)),
        ("bytes=8-99", (8, 2, True)),
        ("bytes=-99", (0, 10, True)),
        ("bytes=5-2", (0, 10, False)),
        ("bytes=0-1,3-4", (0, 10, False)),
        ("items=0-1", (0, 10, False)),
    ],
)
def test_ranges(text: str, expected: tuple[int, int, bool]) -> None:
    assert cut_range(text, 10) == expected


@pytest.mark.parametrize("text", ["bytes=10-", "bytes=-0"])
def test_a_range_behind_the_end_is_refused(text: str) -> None:
    with pytest.raises(CallerError) as caught:
        cut_range(text, 10)
    assert caught.value.status == 416


@pytest.mark.parametrize("name", ["ab", "Abc", "a_b", "a..b", "-abc", "1.2.3.4", "a" * 64, "2015-03-31"])
def test_names_that_no_bucket_has(name: str) -> None:
    with pytest.raises(CallerError):
        check_name(name)

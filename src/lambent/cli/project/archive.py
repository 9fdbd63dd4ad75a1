"""A package as a zip: the same files give the same bytes, so that nothing is deployed that did not change."""

from __future__ import annotations

import io
import stat
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence

from lambent.cli.failures import Failure
from lambent.cli.output import show_bytes
from lambent.cli.project.files import PackageFile
from lambent.model import limits

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest date that a zip can hold."""


def write_zip(files: Iterable[PackageFile]) -> bytes:
    """Raises Failure for a package beyond the contract's limits, before it is sent anywhere."""
    ordered = sorted(files, key=lambda file: file.name)
    _check_size(ordered)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in ordered:
            info = zipfile.ZipInfo(file.name, _EPOCH)
            info.create_system = 3
            info.compress_type = zipfile.ZIP_DEFLATED
            mode = stat.S_IFLNK | 0o777 if file.link else stat.S_IFREG | (0o755 if file.is_executable else 0o644)
            info.external_attr = mode << 16
            archive.writestr(info, file.link.encode() if file.link else _read(file))
    data = buffer.getvalue()
    if len(data) > limits.ZIPPED_CODE_BYTES:
        raise _too_big(ordered, len(data), limits.ZIPPED_CODE_BYTES, "zipped")
    return data


def _read(file: PackageFile) -> bytes:
    try:
        return file.path.read_bytes()
    except OSError as exc:
        raise Failure(f"{file.path} cannot be read: {exc.strerror}.") from exc


def _check_size(files: Sequence[PackageFile]) -> None:
    total = sum(_size(file) for file in files)
    if total > limits.UNZIPPED_CODE_BYTES:
        raise _too_big(files, total, limits.UNZIPPED_CODE_BYTES, "unzipped")


def _size(file: PackageFile) -> int:
    return 0 if file.link else file.path.stat().st_size


def _too_big(files: Sequence[PackageFile], size: int, limit: int, what: str) -> Failure:
    sizes: Counter[str] = Counter()
    for file in files:
        sizes[file.name.split("/")[0]] += _size(file)
    largest = ", ".join(f"{name} {show_bytes(count)}" for name, count in sizes.most_common(5))
    return Failure(
        f"The package has {show_bytes(size)} {what}; a function may have {show_bytes(limit)}.",
        hint=f"The largest: {largest}. Name what the function does not need in .lambentignore, or move it to a layer.",
    )

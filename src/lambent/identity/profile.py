"""The file that AWS tools read an access key, a region and an endpoint from."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lambent.identity.accounts import AccessKey
from lambent.model.errors import OperatorError

_SECTIONS = ("default", "lambent", "profile lambent")
"""One file for AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE: the latter spells `lambent` as `profile lambent`."""


def write_profile(path: Path, key: AccessKey, *, region: str, endpoint_url: str) -> None:
    """Write the profiles `default` and `lambent`; whole or not at all, readable by the owner only.

    Sources: botocore `configloader.load_config`; "Configuration and credential file settings" of the AWS CLI.
    Raises OperatorError when the file cannot be written.
    """
    settings = (
        f"aws_access_key_id = {key.access_key_id}\n"
        f"aws_secret_access_key = {key.secret}\n"
        f"region = {region}\n"
        f"endpoint_url = {endpoint_url}\n"
    )
    text = "\n".join(f"[{section}]\n{settings}" for section in _SECTIONS)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(path, text)
    except OSError as exc:
        raise OperatorError(
            f"{path} cannot be written ({exc.strerror}): correct the permissions of its folder or choose another"
        ) from exc


def _replace(path: Path, text: str) -> None:
    # mkstemp makes the file 0600, so that the secret is at no moment readable by others.
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

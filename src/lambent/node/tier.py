"""How strongly environments are confined on this machine."""

from __future__ import annotations

import logging
import os

from lambent.dataplane.jail import syscalls as sc
from lambent.model.errors import OperatorError

log = logging.getLogger(__name__)

_NAMESPACES = (
    sc.CLONE_NEWNS | sc.CLONE_NEWPID | sc.CLONE_NEWNET | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS | sc.CLONE_NEWCGROUP
)


def choose_confinement(isolation: str) -> str:
    """`root`, `user` or `process` for the setting `auto`, `namespace` or `process`.

    Raises OperatorError when namespaces are wanted and cannot be had: never weaker than asked for.
    """
    if isolation == "process":
        log.warning(
            "ISOLATION IS OFF: functions run as this user and see this machine's files. For development only.",
            extra={"action": "isolation_off"},
        )
        return "process"
    as_root = os.geteuid() == 0
    problem = try_namespaces(with_user=not as_root)
    if problem is None:
        return "root" if as_root else "user"
    raise OperatorError(
        f"This kernel does not let {'root' if as_root else 'ordinary users'} create namespaces ({problem}). Allow it "
        "(sysctl -w kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0 "
        "user.max_user_namespaces=10000), run as root, or accept no isolation: lambent up --isolation process"
    )


def try_namespaces(*, with_user: bool) -> str | None:
    """Try in a child that ends at once. Returns what is wrong, None when all namespaces can be had."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            sc.unshare(_NAMESPACES | (sc.CLONE_NEWUSER if with_user else 0))
        except OSError as exc:
            os.write(write_end, (exc.strerror or str(exc)).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        problem = answer.read().decode()
    os.waitpid(pid, 0)
    return problem or None

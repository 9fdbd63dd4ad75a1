"""What a zygote is told about an environment, as JSON over its link. Standard library only, Python 3.9."""

from __future__ import annotations

import json
from typing import Any, Dict, List, NamedTuple, Optional


class EnvironmentSpec(NamedTuple):
    """Everything the child needs to confine itself and to start the runtime."""

    environment_id: str
    runtime: str
    """python3.12, nodejs22.x, provided.al2023 ..."""
    handler: str
    code: str
    """Name of the unpacked tree under the code store, bound at /var/task."""
    layers: str
    """Name of the merged layer tree, bound at /opt; empty for none."""
    environment: Dict[str, str]
    """The function's variables and the reserved ones; nothing else is inherited."""
    memory_mb: int
    ephemeral_mb: int
    uid: int
    """Host uid of the environment as root; ignored in a user namespace."""
    log_format: str
    log_level: str
    """LoggingConfig's ApplicationLogLevel; only used with JSON."""
    confine: str
    """`root`, `user` or `process`: which chain of confinement steps runs."""
    network: str
    """`pooled`: enter the network namespace whose descriptor came along; `none`: a fresh one with loopback;
    `host`: stay (process tier)."""
    function: str
    version: str
    cgroup: bool
    """Memory and processes are limited by a cgroup; else rlimits are all there is."""
    task_root: str
    """/var/task, or the tree itself in the process tier."""
    landlock: bool
    fail_step: str = ""
    """Name of a confinement step that is made to fail; used by tests of the node alone."""
    template: bool = False
    """Initialise, then pause as the process that SnapStart environments are forks of (`runtime/template.py`)."""
    argv: Optional[List[str]] = None
    """Program to execute after confinement (Node, bootstrap); None runs the Python handler here."""
    server: str = ""
    """Program that is an HTTP server, to be started beside the runtime; empty where the handler is a function."""
    concurrency: int = 1
    """How many invocations it takes at a time, if its handler can."""

    def encode(self) -> bytes:
        return json.dumps(self._asdict()).encode()

    @classmethod
    def decode(cls, data: bytes) -> "EnvironmentSpec":
        fields: Dict[str, Any] = json.loads(data)
        return cls(**fields)

"""The status of a node, made of what each of its processes tells of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def merge(statuses: Sequence[Mapping[str, Any] | None], *, pid: int) -> dict[str, Any]:
    """By process index, None for one that does not answer. `pid` is the supervisor's, which stands for the node."""
    present = [(index, status) for index, status in enumerate(statuses) if status is not None]
    counters: Counter[str] = Counter()
    for _, status in present:
        counters.update(status["counters"])
    return {
        **present[0][1],
        "pid": pid,
        "uptime_s": max(status["uptime_s"] for _, status in present),
        "environments": [
            {**environment, "process": index} for index, status in present for environment in status["environments"]
        ],
        "concurrency": {
            "limit": present[0][1]["concurrency"]["limit"],
            "in_use": sum(status["concurrency"]["in_use"] for _, status in present),
        },
        "counters": dict(counters),
        "zygotes": {
            f"{runtime} ({index})": zygote for index, status in present for runtime, zygote in status["zygotes"].items()
        },
        "templates": [{**template, "process": index} for index, status in present for template in status["templates"]],
        "shells": dict(sum((Counter(status.get("shells", {})) for _, status in present), Counter())),
        "processes": [_show(index, status) for index, status in enumerate(statuses)],
    }


def _show(index: int, status: Mapping[str, Any] | None) -> dict[str, Any]:
    if status is None:
        return {"index": index, "state": "away"}
    return {"index": index, "state": "serving", "pid": status["pid"], "uptime_s": status["uptime_s"]}

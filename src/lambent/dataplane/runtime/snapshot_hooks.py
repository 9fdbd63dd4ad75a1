"""The hooks of SnapStart: functions register them with `snapshot_restore_py`, which AWS has in its Python runtimes.

A package that brings the module uses its own; for one that does not there is a stand-in with the same interface.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from importlib.machinery import ModuleSpec
from typing import Any, List, Optional, Sequence, Tuple

NAME = "snapshot_restore_py"
Hook = Tuple[Any, Tuple[Any, ...], Any]


class _StandIn:
    """A finder that is asked last, and its own loader."""

    def find_spec(self, name: str, path: Optional[Sequence[str]], target: Any = None) -> Optional[ModuleSpec]:
        return importlib.util.spec_from_loader(name, self) if name == NAME else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> Optional[types.ModuleType]:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        before: List[Hook] = []
        after: List[Hook] = []

        def register_before_snapshot(func: Any, *args: Any, **kwargs: Any) -> Any:
            before.append((func, args, kwargs))
            return func

        def register_after_restore(func: Any, *args: Any, **kwargs: Any) -> Any:
            after.append((func, args, kwargs))
            return func

        module.__dict__.update(
            register_before_snapshot=register_before_snapshot,
            register_after_restore=register_after_restore,
            get_before_snapshot=lambda: before,
            get_after_restore=lambda: after,
            __all__=["register_before_snapshot", "register_after_restore"],
        )


def offer() -> None:
    sys.meta_path.append(_StandIn())


def run_before_snapshot() -> None:
    """In reverse order of registration; each once. Raises what a hook raises."""
    hooks = _registered("get_before_snapshot")
    while hooks:
        func, args, kwargs = hooks.pop()
        func(*args, **kwargs)


def run_after_restore() -> None:
    """In order of registration. Raises what a hook raises."""
    for func, args, kwargs in _registered("get_after_restore"):
        func(*args, **kwargs)


def _registered(getter: str) -> List[Hook]:
    module = sys.modules.get(NAME)
    return getattr(module, getter)() if module is not None else []

"""A child that borrows its parent's memory instead of copying it, for work that ends before the parent goes on.

fork() copies the page tables, which takes milliseconds for the memory of a function with large imports; so does taking
the copy apart when the child ends. A child of clone(CLONE_VM | CLONE_VFORK) has its own credentials, namespaces,
descriptors and control groups, and everything else is the parent's, which stands still until the child has ended.

What makes it safe to run Python in it:
- The child runs on a stack of its own, so the parent's is as it was left.
- The child enters the interpreter by a callback and leaves it by returning, so the interpreter's own state (frames,
  recursion, the interpreter lock) is as it would be after any call. It must not end itself from within.
- Parent and child never run at the same time.

A child of the child's own fork() goes on upon the borrowed stack, in a copy of the memory like any other.

Standard library only, Python 3.9 to 3.13: later ones look where in memory the stack of a thread is.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
import sys
from typing import Callable, List

POSSIBLE = sys.version_info < (3, 14)

_CLONE_VM, _CLONE_VFORK = 0x100, 0x4000
_MAP_NORESERVE, _MAP_STACK = 0x4000, 0x20000
_FAILED = 70
_USUAL_STACK_BYTES = 8 * 1_048_576
_WORK = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)

_libc = ctypes.PyDLL(None, use_errno=True)
_next: List[Callable[[], object]] = []


def _carry_out(_: object) -> int:
    try:
        _next.pop()()
    except BaseException:
        return _FAILED
    return 0


# Made where this is imported: it takes executable memory, which a confined process may not get.
_ENTRY = _WORK(_carry_out)


class Stack:
    """As large as that of a main thread, of which only what is used takes memory."""

    def __init__(self) -> None:
        limit = resource.getrlimit(resource.RLIMIT_STACK)[0]
        size = _USUAL_STACK_BYTES if limit == resource.RLIM_INFINITY else max(limit, mmap.PAGESIZE * 16)
        size -= size % mmap.PAGESIZE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE | _MAP_STACK
        self._memory = mmap.mmap(-1, size, flags=flags)
        lowest = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        # Whoever runs off its end shall find nothing there.
        if _libc.mprotect(ctypes.c_void_p(lowest), ctypes.c_size_t(mmap.PAGESIZE), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
        self.top = lowest + size


def run(work: Callable[[], object], stack: Stack) -> int:
    """Run `work` in a child, and return its pid when it has ended; it is still to be waited for. Raises OSError.

    Its exit status is 0, or 70 when `work` raised.
    """
    _next.append(work)
    flags = _CLONE_VM | _CLONE_VFORK | signal.SIGCHLD
    pid: int = _libc.clone(_ENTRY, ctypes.c_void_p(stack.top), ctypes.c_int(flags), None)
    if pid < 0:
        _next.pop()
        number = ctypes.get_errno()
        raise OSError(number, "clone: " + os.strerror(number))
    return pid

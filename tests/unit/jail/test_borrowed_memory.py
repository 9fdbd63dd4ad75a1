"""Children that borrow their parent's memory: tried in a process of its own, which a mistake would take down."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from lambent.dataplane.jail import borrowed

pytestmark = pytest.mark.skipif(not borrowed.POSSIBLE, reason="this Python looks where the stack of a thread is")


def run(source: str) -> str:
    script = "import os, sys\nfrom lambent.dataplane.jail import borrowed\n" + textwrap.dedent(source)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_the_child_does_to_memory_is_there_when_the_parent_goes_on() -> None:
    printed = run(
        """
        seen = []
        stack = borrowed.Stack()
        pid = borrowed.run(lambda: seen.append(os.getpid()), stack)
        assert os.waitpid(pid, 0) == (pid, 0)
        print(seen == [pid], pid != os.getpid())
        """
    )
    assert printed == "True True\n"


def test_descriptors_and_the_working_folder_are_the_childs_own() -> None:
    printed = run(
        """
        stack = borrowed.Stack()
        read, write = os.pipe()
        def work():
            os.close(write)
            os.chdir("/proc")
        os.waitpid(borrowed.run(work, stack), 0)
        os.write(write, b"open")
        print(os.read(read, 4).decode(), os.getcwd() != "/proc")
        """
    )
    assert printed == "open True\n"


def test_an_exception_ends_the_child_and_not_the_parent() -> None:
    printed = run(
        """
        stack = borrowed.Stack()
        _, status = os.waitpid(borrowed.run(lambda: 1 / 0, stack), 0)
        print(os.waitstatus_to_exitcode(status), sys.exc_info()[0])
        """
    )
    assert printed == "70 None\n"


def test_nothing_of_the_interpreter_is_used_up_however_often() -> None:
    printed = run(
        """
        def depth(left):
            return 0 if not left else 1 + depth(left - 1)
        stack, count = borrowed.Stack(), []
        for _ in range(3000):
            os.waitpid(borrowed.run(lambda: count.append(depth(400)), stack), 0)
        print(len(count), depth(900))
        """
    )
    assert printed == "3000 900\n"


def test_a_fork_of_the_child_goes_on_by_itself_with_threads_and_a_deep_stack() -> None:
    printed = run(
        """
        import re, subprocess, threading
        stacks = borrowed.Stack(), borrowed.Stack()
        memory = ["parent"]
        def go_on():
            memory.append("own")
            found = []
            def look():
                found.append(threading.current_thread() is not threading.main_thread())
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            # The regular expression engine and the encoder of nested lists use the C stack.
            nested = "x"
            for _ in range(700):
                nested = [nested]
            text = repr(nested)
            asked = subprocess.run(["/bin/echo", "asked"], capture_output=True, text=True).stdout
            os.write(1, repr((memory, found, len(text), asked)).encode() + b"\\n")
            os._exit(0)
        def second():
            pid = os.fork()
            if pid == 0:
                go_on()
            os.waitpid(pid, 0)
        def first():
            os.waitpid(borrowed.run(second, stacks[1]), 0)
        os.waitpid(borrowed.run(first, stacks[0]), 0)
        print(memory)
        """
    )
    assert printed == "(['parent', 'own'], [True], 1403, 'asked\\n')\n['parent']\n"


def test_running_off_the_stack_ends_the_child_alone() -> None:
    printed = run(
        """
        import ctypes, signal
        stack = borrowed.Stack()
        lowest = ctypes.c_char.from_address(stack.top - len(stack._memory))
        pid = borrowed.run(lambda: lowest.value, stack)
        print(os.waitpid(pid, 0)[1] == signal.SIGSEGV)
        """
    )
    assert printed == "True\n"

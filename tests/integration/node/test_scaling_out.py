"""How many environments a load gets."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.conftest import Deploy, Deployed, ask

SOURCE = """
import time
time.sleep(1)

def handler(event, context):
    time.sleep(0.05)
"""


def test_a_long_init_is_not_begun_again_for_every_invocation_that_finds_no_environment(deploy: Deploy) -> None:
    function = deploy(SOURCE, Timeout=10)
    function()
    end_at = time.monotonic() + 3

    def call() -> None:
        while time.monotonic() < end_at:
            assert not function().error

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    environments = ask(function.client, "/_lambent/status")["environments"]
    assert sum(environment["function"] == function.name for environment in environments) <= 3


WORKING = """
import time
end_at = time.thread_time() + 0.3
while time.thread_time() < end_at:
    pass

def handler(event, context):
    return 1
"""


def test_inits_that_work_are_begun_a_few_at_a_time_and_the_first_serves_those_who_wait(deploy: Deploy) -> None:
    function = deploy(WORKING, Timeout=10)
    most = 0

    with ThreadPoolExecutor(32) as pool:
        answers = [pool.submit(function) for _ in range(32)]
        while not all(answer.done() for answer in answers):
            most = max(most, ask_states(function).count("starting"))
    assert [answer.result().payload for answer in answers] == [1] * 32
    # Begun at once it would be all of them.
    assert 1 <= most <= 16


def test_inits_that_wait_hold_up_nobody(deploy: Deploy) -> None:
    """Were they begun a few at a time, the first would serve all before the last has begun."""
    count = 3 * 2 * (os.cpu_count() or 1)
    function = deploy("import time\ntime.sleep(3)\ndef handler(event, context): time.sleep(1)\n", Timeout=10)
    with ThreadPoolExecutor(count) as pool:
        answers = [pool.submit(function) for _ in range(count)]
        while len(ask_states(function)) < count:
            assert not any(answer.done() for answer in answers)
        assert [answer.result().error for answer in answers] == [""] * count


def ask_states(function: Deployed) -> list[str]:
    environments = ask(function.client, "/_lambent/status")["environments"]
    return [environment["state"] for environment in environments if environment["function"] == function.name]

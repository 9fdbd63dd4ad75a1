"""How many environments a load gets."""

from __future__ import annotations

import threading
import time

from tests.conftest import Deploy, ask

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

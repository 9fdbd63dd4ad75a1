"""Tokens that stream to the client: `python examples/tokens/run.py`."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from stage import EXAMPLES, open_stage, say  # noqa: E402


def main() -> list[dict[str, Any]]:
    """Each token with the time at which it was written and at which it arrived."""
    with open_stage() as stage:
        say("1. A function that is a generator, with a URL that streams")
        stage.deploy(EXAMPLES / "tokens" / "tokens", "--timeout", "30")
        url = stage.run("lambent", "url", "tokens", "--stream").strip()
        print(url, flush=True)
        say("2. Its tokens, each with the milliseconds that it took from the function to here")
        tokens = []
        host = url.removeprefix("http://").rstrip("/")
        request = urllib.request.Request(stage.node.endpoint, headers={"Host": host})
        with urllib.request.urlopen(request, timeout=30) as response:
            for line in response:
                if not line.startswith(b"data: {"):
                    continue
                token = {**json.loads(line[6:]), "arrived_at": time.time()}
                tokens.append(token)
                print(f"{token['token']:10} {(token['arrived_at'] - token['at']) * 1000:5.1f} ms", flush=True)
        return tokens


if __name__ == "__main__":
    main()

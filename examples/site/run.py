"""A FastAPI site with a form and static files: `python examples/site/run.py`."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path
from urllib.parse import urlencode, urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent))

from stage import EXAMPLES, Stage, open_stage, say  # noqa: E402


def main() -> dict[str, str]:
    """The page before and after somebody has signed, and the style sheet."""
    with open_stage() as stage:
        say("1. The application as it is: `lambent deploy` finds it")
        url = make_site(stage)
        print(url, flush=True)

        def ask(method: str, path: str, **form: str) -> tuple[int, str]:
            connection = http.client.HTTPConnection(urlsplit(stage.node.endpoint).netloc, timeout=30)
            headers = {"Host": urlsplit(url).netloc, "Content-Type": "application/x-www-form-urlencoded"}
            connection.request(method, path, urlencode(form) or None, headers)
            response = connection.getresponse()
            answer = response.status, response.read().decode()
            connection.close()
            return answer

        say("2. Its page, its style sheet, its form")
        before = ask("GET", "/")[1]
        style = ask("GET", "/static/style.css")[1]
        signed = ask("POST", "/sign", name="Ada <3")[0]
        refused = ask("POST", "/sign")[0]
        after = ask("GET", "/")[1]
        print(after, flush=True)
        return {"before": before, "style": style, "signed": str(signed), "refused": str(refused), "after": after}


def make_site(stage: Stage) -> str:
    """One environment takes many requests at a time: the guests are in its memory."""
    folder = EXAMPLES / "site" / "site"
    stage.deploy(folder, "--url", "--memory", "512", "--timeout", "10", "--concurrency", "100")
    return stage.run("lambent", "url", "site", quiet=True).strip()


if __name__ == "__main__":
    main()

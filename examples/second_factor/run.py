"""A second factor as a function: `python examples/second_factor/run.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from stage import EXAMPLES, open_stage, say  # noqa: E402

SECRET_OF_THE_RFC = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


def main() -> dict[str, Any]:
    """What the function answered."""
    answers: dict[str, Any] = {}
    with open_stage() as stage:
        stage.deploy(EXAMPLES / "second_factor" / "second_factor")
        functions = stage.client("lambda")

        def ask(**event: Any) -> Any:
            answer = functions.invoke(FunctionName="second_factor", Payload=json.dumps(event).encode())
            return json.load(answer["Payload"])

        say("Enrol: the secret, and what an authenticator app reads from a picture")
        answers["enrolled"] = ask(action="enrol", user="ada")
        print(answers["enrolled"]["uri"], flush=True)
        say("The code that RFC 6238 has for its test secret at 1,111,111,109 seconds: right, used again, and too late")
        code = {"action": "verify", "secret": SECRET_OF_THE_RFC, "code": "081804"}
        answers["right"] = ask(**code, at=1_111_111_109)
        answers["again"] = ask(**code, at=1_111_111_109, after=answers["right"]["step"])
        answers["late"] = ask(**code, at=1_111_111_109 + 90)
        for name in ("right", "again", "late"):
            print(name, answers[name], flush=True)
    return answers


if __name__ == "__main__":
    main()

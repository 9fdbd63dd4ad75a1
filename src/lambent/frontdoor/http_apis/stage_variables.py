"""`${stageVariables.NAME}` in the URI of an integration."""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = re.compile(r"\$\{stageVariables\.([A-Za-z0-9_]+)\}")


def fill(text: str, stage_variables: Mapping[str, str]) -> str:
    """What is not there is empty."""
    return _VARIABLE.sub(lambda matched: stage_variables.get(matched[1], ""), text)

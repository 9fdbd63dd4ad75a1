"""Which files do not belong into a package: what is never wanted, and `.lambentignore` in the words of .gitignore.

Source: gitignore(5), "PATTERN FORMAT".
"""

from __future__ import annotations

import re
from typing import NamedTuple

FILE_NAME = ".lambentignore"
ALWAYS = """
.git
.hg
.svn
.gitignore
.gitattributes
.lambentignore
__pycache__
*.py[co]
.venv
venv
.tox
.nox
.mypy_cache
.pytest_cache
.ruff_cache
.idea
.vscode
.DS_Store
.env
"""
"""`.env` because it holds a developer's secrets; a later `!.env` takes it in."""


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    only_folders: bool
    takes_in: bool


class Ignores:
    def __init__(self, text: str = "") -> None:
        self._rules = [rule for line in (ALWAYS + text).splitlines() if (rule := _parse(line)) is not None]

    def leave_out(self, path: str, *, is_folder: bool) -> bool:
        """`path` is relative, with slashes. The last rule that fits decides; a folder left out is not looked into."""
        decision = False
        for rule in self._rules:
            if rule.only_folders and not is_folder:
                continue
            if rule.pattern.fullmatch(path):
                decision = not rule.takes_in
        return decision


def _parse(line: str) -> _Rule | None:
    text = line.rstrip() if not line.endswith("\\ ") else line
    if not text or text.startswith("#"):
        return None
    takes_in = text.startswith("!")
    text = text.removeprefix("!") if takes_in else text.removeprefix("\\")
    only_folders = text.endswith("/")
    text = text.rstrip("/")
    if not text:
        return None
    # A slash within or at the start ties a pattern to the top; without one it fits at every depth.
    anchored = "/" in text
    body = _translate(text.removeprefix("/"))
    return _Rule(re.compile(body if anchored else f"(?:.*/)?{body}", re.DOTALL), only_folders, takes_in)


def _translate(text: str) -> str:
    parts: list[str] = []
    at = 0
    while at < len(text):
        if text.startswith("**/", at) and (at == 0 or text[at - 1] == "/"):
            parts.append("(?:.*/)?")
            at += 3
        elif text.startswith("**", at):
            parts.append(".*")
            at += 2
        elif text[at] == "[" and (end := text.find("]", at + 2)) > 0:
            inner = text[at + 1 : end].replace("\\", "\\\\")
            parts.append("[" + ("^" + inner[1:] if inner[0] in "!^" else inner) + "]")
            at = end + 1
        else:
            single = {"*": "[^/]*", "?": "[^/]"}
            escaped = text[at] == "\\" and at + 1 < len(text)
            at += escaped
            parts.append(re.escape(text[at]) if escaped else single.get(text[at], re.escape(text[at])))
            at += 1
    return "".join(parts)

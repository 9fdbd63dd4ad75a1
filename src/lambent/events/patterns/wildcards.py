"""`*` in patterns: any characters, also none; `\\*` and `\\\\` stand for themselves."""

from __future__ import annotations

from collections.abc import Callable


def compile_wildcard(text: str) -> Callable[[str], bool]:
    """Raises ValueError with the reason. Matching takes each part at its first place, so it never goes back."""
    parts = _split(text)
    if len(parts) == 1:
        only = parts[0]
        return lambda value: value == only
    head, *middle, tail = parts

    def match(value: str) -> bool:
        end = len(value) - len(tail)
        if len(head) > end or not value.startswith(head) or not value.endswith(tail):
            return False
        at = len(head)
        for part in middle:
            found = value.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True

    return match


def _split(text: str) -> list[str]:
    parts, part, at, star_before = [], "", 0, False
    while at < len(text):
        char = text[at]
        if char == "\\":
            if text[at + 1 : at + 2] not in ("*", "\\"):
                raise ValueError(f"Invalid escape character at pos {at}")
            part += text[at + 1]
            at += 1
        elif char == "*":
            if star_before:
                raise ValueError(f"Consecutive wildcard characters at pos {at - 1}")
            parts.append(part)
            part = ""
        else:
            part += char
        star_before = char == "*"
        at += 1
    return [*parts, part]

"""Random identifiers. The system's randomness is asked for in large pieces: a call for each costs more than the id."""

from __future__ import annotations

import os

_PIECE_DIGITS = 32
_REFILL_BYTES = 16 * 256
_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}

_pieces: list[str] = []


def new_hex() -> str:
    """128 random bits as 32 lower-case hex digits, never given twice."""
    if not _pieces:
        digits = os.urandom(_REFILL_BYTES).hex()
        _pieces.extend(digits[at : at + _PIECE_DIGITS] for at in range(0, len(digits), _PIECE_DIGITS))
    return _pieces.pop()


def new_request_id() -> str:
    """A random UUID (version 4)."""
    digits = new_hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANTS[digits[16]]}{digits[17:20]}-{digits[20:]}"


def new_trace_id() -> str:
    """An X-Ray trace header for an invocation that came without one."""
    digits = new_hex()
    return f"Root=1-{digits[:8]}-{digits[8:]};Sampled=0"

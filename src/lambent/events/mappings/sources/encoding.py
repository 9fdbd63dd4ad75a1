"""Bytes in the contract's events."""

from __future__ import annotations

import base64


def encode_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def list_bytes(data: bytes) -> list[int]:
    """As the contract writes header values: Java's bytes, which have a sign."""
    return [byte - 256 if byte > 127 else byte for byte in data]

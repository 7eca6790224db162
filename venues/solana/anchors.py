"""Anchor's instruction discriminators."""

from __future__ import annotations

import hashlib


def anchor(name: str) -> bytes:
    """Return the first 8 bytes of SHA-256 of `global:<name>`."""
    return hashlib.sha256(f"global:{name}".encode()).digest()[:8]

"""Anchor's discriminators of instructions and accounts."""

from __future__ import annotations

import hashlib


def anchor(name: str) -> bytes:
    """Return the first 8 bytes of SHA-256 of `global:<name>`."""
    return hashlib.sha256(f"global:{name}".encode()).digest()[:8]


def account_discriminator(name: str) -> bytes:
    """Return the first 8 bytes of SHA-256 of `account:<name>`, with which an account of this kind begins."""
    return hashlib.sha256(f"account:{name}".encode()).digest()[:8]

"""Signing with either arithmetic: the one that eth_keys chooses by itself, and its own in pure Python."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_CHOICE = "ECC_BACKEND_CLASS"
"""Read by eth_keys with every key that it makes, and eth_account makes one for every signature."""


@contextmanager
def in_pure_python() -> Iterator[None]:
    """Every secp256k1 signature of this process, made with eth_keys' native backend."""
    before = os.environ.get(_CHOICE)
    os.environ[_CHOICE] = "eth_keys.backends.NativeECCBackend"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_CHOICE]
        else:
            os.environ[_CHOICE] = before

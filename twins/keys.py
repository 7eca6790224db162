"""Where the twins' test keys come from: chance, or a seed, with which every start makes the same ones."""

from __future__ import annotations

import hashlib
import secrets

from solders.keypair import Keypair


class KeySource:
    """Secrets of 32 bytes, one after another. Keys of a seed are known to everybody: they hold the money of a local twin."""

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._made = 0

    def secret(self) -> bytes:
        """Return the next 32 bytes."""
        if self._seed is None:
            return secrets.token_bytes(32)
        self._made += 1
        return hashlib.sha256(f"key {self._made} of seed {self._seed}".encode()).digest()

    def keypair(self) -> Keypair:
        """Return the next Solana key."""
        return Keypair.from_seed(self.secret())

"""Keys made of one secret, each by its name: the same name gives the same key again, and none says anything of another."""

from __future__ import annotations

import hashlib
import hmac

from coincurve import PrivateKey
from eth_hash.auto import keccak

from evenkeel.errors import Bug, OperatorError
from venues.signers.local import LocalEvmKey
from venues.signers.protocol import Hidden

_LABEL = b"evenkeel agent key 1"
_LEAST_BYTES = 32


class DerivedEvmKeys(Hidden):
    """Keys by HMAC-SHA256 of a secret. `fingerprint` differs from secret to secret, and is no key's address."""

    __slots__ = ("_secret", "fingerprint")
    fingerprint: str

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.fingerprint = "0x" + keccak(self._made("fingerprint"))[-20:].hex()

    @classmethod
    def from_hex(cls, text: str) -> DerivedEvmKeys:
        """Return them from 64 hex digits or more, with or without 0x. OperatorError in one line, without the secret."""
        digits = text.strip().removeprefix("0x")
        try:
            secret = bytes.fromhex(digits)
        except ValueError:
            secret = b""
        if len(secret) < _LEAST_BYTES:
            raise OperatorError(
                f"the secret of agents is malformed: expected 64 hex digits or more, got {len(digits)} characters. "
                "Make one with `openssl rand -hex 32`"
            )
        return cls(secret)

    def key_of(self, name: str) -> LocalEvmKey:
        """Return the key of a name."""
        made: LocalEvmKey | None = None
        try:
            made = LocalEvmKey(PrivateKey(self._made(name)))
        except Exception:  # raised below, outside of the handler: a chained error could show the key
            made = None
        if made is None:  # once in 2^128
            raise Bug("a derived key is no valid one: take another name")
        return made

    def _made(self, name: str) -> bytes:
        return hmac.new(self._secret, _LABEL + b"/" + name.encode(), hashlib.sha256).digest()

    def public_name(self) -> str:
        return self.fingerprint

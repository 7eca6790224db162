"""The only thing that a Solana signer signs: bytes that the validator has judged, sealed so that nobody else can make them.

A signer takes an `Approved` and nothing else. `Approved` is made by `seal`, which asks for a token that is handed out once
per process, to `venues.solana.rules.validator`, when that module is loaded. Refused is a different type that cannot be signed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NoReturn, final

from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from evenkeel.errors import Bug

_TOKEN = object()
_handed_out = False


def take_token() -> object:
    """Return the right to approve, given to the first that asks: the validator. Raises `Bug` afterwards."""
    global _handed_out
    if _handed_out:
        raise Bug("only the validator approves transactions, and it has taken its token already")
    _handed_out = True
    return _TOKEN


@final
class Approved:
    """Message bytes that passed every rule for `wallet`, and their SHA-256. Cannot be changed, copied, pickled or derived."""

    __slots__ = ("_transaction", "digest", "message", "wallet")

    message: bytes
    digest: bytes
    wallet: Pubkey
    _transaction: VersionedTransaction

    def __init__(
        self, token: object, transaction: VersionedTransaction, message: bytes, wallet: Pubkey
    ) -> None:
        if token is not _TOKEN:
            raise Bug("a transaction is approved by the validator alone")
        put = object.__setattr__
        put(self, "message", bytes(message))
        put(self, "digest", hashlib.sha256(message).digest())
        put(self, "wallet", wallet)
        put(self, "_transaction", transaction)

    @property
    def intact(self) -> bool:
        """The bytes still are those that were judged."""
        return hashlib.sha256(self.message).digest() == self.digest

    @property
    def unsigned(self) -> bytes:
        """The whole transaction with our slot still empty: what can be simulated, never what is sent."""
        return bytes(self._transaction)

    def with_signature(self, signature: Signature) -> VersionedTransaction:
        """Return the transaction with ours in slot 0 and every other signature kept."""
        signatures = [signature, *self._transaction.signatures[1:]]
        return VersionedTransaction.populate(self._transaction.message, signatures)

    def __init_subclass__(cls, **kwargs: Any) -> NoReturn:
        raise TypeError("Approved cannot be subclassed")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("an approved message cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("an approved message cannot be changed")

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an approved message cannot be pickled or copied: approval does not outlive its process"
        )

    def __repr__(self) -> str:
        return f"Approved({self.digest.hex()[:16]}, {len(self.message)} bytes)"


@dataclass(frozen=True, slots=True)
class Refused:
    """A verdict against a build: the rule by name, and what broke it."""

    rule: str
    reason: str

    def __str__(self) -> str:
        return f"rule {self.rule}: {self.reason}"

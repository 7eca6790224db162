"""The wallet's signer: it signs what the validator has approved for its wallet, and nothing else whatever the bytes."""

from __future__ import annotations

from typing import NoReturn

from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from evenkeel.errors import Bug
from venues.signers.local import LocalSolanaKey
from venues.signers.protocol import SolanaSigning
from venues.solana.rules.approval import Approved


class SolanaSigner:
    """Stands between a key and the wire; `pubkey` and `sign` are all it offers, and it never prints, pickles or copies."""

    __slots__ = ("_key", "pubkey")

    def __init__(self, key: SolanaSigning | Keypair) -> None:
        self._key: SolanaSigning = LocalSolanaKey(key) if isinstance(key, Keypair) else key
        self.pubkey: Pubkey = self._key.pubkey

    @property
    def is_remote(self) -> bool:
        """Signing waits for a network: call it off the event loop."""
        return self._key.is_remote

    def sign(self, approved: Approved) -> Signature:
        """Return the signature of exactly the bytes that were judged.

        Raises `Bug` for anything but an intact approval for this very wallet; `Retryable` or `OperatorError` from a remote
        key.
        """
        if type(approved) is not Approved or not approved.intact:
            raise Bug(f"only an intact approval is signed, got {type(approved).__name__}")
        if approved.wallet != self.pubkey:
            raise Bug(f"approved for wallet {approved.wallet}, this signer is {self.pubkey}")
        return self._key.sign_message(approved.message)

    def __repr__(self) -> str:
        return f"SolanaSigner({self.pubkey})"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SolanaSigner cannot be pickled or copied: it holds a secret key")

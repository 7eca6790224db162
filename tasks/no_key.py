"""What stands for a key that cannot be opened, while the other venue is closed out: it signs nothing and says why."""

from __future__ import annotations

from typing import NoReturn

from solders.pubkey import Pubkey

from evenkeel.errors import OperatorError
from venues.signers.protocol import Hidden


class NoEvmKey(Hidden):
    """In the place of the Hyperliquid key."""

    __slots__ = ("_why",)
    is_remote = False
    address = "0x" + "0" * 40

    def __init__(self, why: str) -> None:
        self._why = why

    def sign_digest(self, digest: bytes) -> NoReturn:
        """Raises OperatorError: an error too, because this key will not be there a moment later."""
        raise OperatorError(self._why)

    def public_name(self) -> str:
        return "no key"


class NoSolanaKey(Hidden):
    """In the place of the Solana key; `wallet` is its address as the ledger knows it, empty where nobody does."""

    __slots__ = ("_why", "pubkey")
    is_remote = False
    pubkey: Pubkey

    def __init__(self, why: str, wallet: str) -> None:
        self._why = why
        self.pubkey = Pubkey.from_string(wallet) if wallet else Pubkey.default()

    def sign_message(self, message: bytes) -> NoReturn:
        """Raises OperatorError, as above."""
        raise OperatorError(self._why)

    def public_name(self) -> str:
        return "no key"

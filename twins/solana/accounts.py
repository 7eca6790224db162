"""Accounts of the chain as an operator sets them and as readers at each commitment see them."""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from solders.account import Account
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey

from twins.solana import tokens
from twins.solana.blocks import Blocks
from twins.solana.ledger import AccountHistory


class ChainAccounts(ABC):
    """The account side of a chain. Amounts are lamports and base units."""

    svm: LiteSVM
    blocks: Blocks
    history: AccountHistory
    lock: threading.RLock
    worked_out: dict[Pubkey, Callable[[], Account]]
    """Accounts that change with time alone, by what gives them as they are now."""
    before_reading: Callable[[], None]
    """What must have happened before a caller reads accounts: programs that act by themselves, as liquidators do."""
    _tables: int = 0

    @abstractmethod
    def catch_up(self) -> None:
        """Produce the blocks due by world time."""

    def account(self, key: Pubkey, commitment: str = "processed") -> Account | None:
        """Return the account as a reader at this commitment sees it."""
        self.catch_up()
        if key in self.worked_out:
            return self.worked_out[key]()
        return self.history.at(key, self.blocks.slot(commitment), self.svm.get_account(key))

    def set_account(self, key: Pubkey, account: Account) -> None:
        """Put an account there from outside, visible at every commitment at once."""
        with self.lock:
            self.history.forget(key)
            self.svm.set_account(key, account)

    def airdrop(self, owner: Pubkey, lamports: int) -> None:
        had = self.svm.get_account(owner)
        data, program = (bytes(had.data), had.owner) if had else (b"", Pubkey.default())
        self.set_account(owner, Account((had.lamports if had else 0) + lamports, data, program))

    def lamports(self, owner: Pubkey) -> int:
        self.catch_up()
        return self.svm.get_balance(owner) or 0

    def ensure_mint(self, mint: Pubkey, decimals: int) -> None:
        if self.svm.get_account(mint) is None:
            self.set_account(mint, tokens.mint_account(self.svm, decimals))

    def ata(self, owner: Pubkey, mint: Pubkey) -> Pubkey:
        return tokens.ata(owner, mint)

    def token_balance(self, owner: Pubkey, mint: Pubkey) -> int:
        self.catch_up()
        account = self.svm.get_account(tokens.ata(owner, mint))
        return tokens.read_token(account).amount if account and tokens.is_token_account(account) else 0

    def set_token_balance(self, owner: Pubkey, mint: Pubkey, amount: int) -> None:
        key = tokens.ata(owner, mint)
        self.set_account(key, tokens.with_amount(self.svm, self.svm.get_account(key), owner, mint, amount))

    def create_lookup_table(self, addresses: Sequence[Pubkey]) -> Pubkey:
        self._tables += 1
        key = Keypair.from_seed(hashlib.sha256(b"lookup table %d" % self._tables).digest()).pubkey()
        self.set_account(key, tokens.lookup_table_account(self.svm, addresses))
        return key

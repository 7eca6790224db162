"""What the chain remembers: landed transactions with their balances, and account states a few slots back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from solders.account import Account
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import InnerInstruction

from twins.solana.errors import TransactionErr


@dataclass(frozen=True)
class ResolvedKeys:
    """A transaction's accounts as instructions count them: static, table-writable, table-readonly."""

    static: tuple[Pubkey, ...]
    loaded_writable: tuple[Pubkey, ...] = ()
    loaded_readonly: tuple[Pubkey, ...] = ()
    signers: int = 1
    writable: frozenset[Pubkey] = frozenset()

    @property
    def all(self) -> tuple[Pubkey, ...]:
        return self.static + self.loaded_writable + self.loaded_readonly


@dataclass(frozen=True)
class TokenBalance:
    """A token account of a transaction; `amount` in base units."""

    account_index: int
    mint: Pubkey
    owner: Pubkey
    amount: int
    decimals: int
    program_id: Pubkey


@dataclass(frozen=True)
class LandedTransaction:
    """A transaction that is in a block: succeeded (`err` None) or failed with its fee paid."""

    signature: Signature
    raw: bytes
    transaction: VersionedTransaction
    slot: int
    height: int
    time_ms: int
    err: TransactionErr | None
    fee_lamports: int
    logs: tuple[str, ...]
    units_consumed: int
    keys: ResolvedKeys
    pre_balances: tuple[int, ...]
    post_balances: tuple[int, ...]
    pre_token_balances: tuple[TokenBalance, ...]
    post_token_balances: tuple[TokenBalance, ...]
    inner_instructions: tuple[tuple[InnerInstruction, ...], ...] = ()
    return_data: tuple[Pubkey, bytes] | None = None
    price_micro_lamports: int = 0
    position_in_block: int = 0

    @property
    def message(self) -> Message | MessageV0:
        return self.transaction.message  # type: ignore[return-value]

    def token_change(self, owner: Pubkey, mint: Pubkey) -> int:
        """Return the change of `owner`'s balance of `mint`, base units, over the accounts this transaction names."""

        def total(rows: tuple[TokenBalance, ...]) -> int:
            return sum(row.amount for row in rows if row.owner == owner and row.mint == mint)

        return total(self.post_token_balances) - total(self.pre_token_balances)


@dataclass
class Ledger:
    """Landed transactions, by signature and by address, oldest first."""

    by_signature: dict[Signature, LandedTransaction] = field(default_factory=dict)
    by_address: dict[Pubkey, list[Signature]] = field(default_factory=dict)
    _by_message: dict[bytes, LandedTransaction] = field(default_factory=dict)
    _by_slot: dict[int, list[Signature]] = field(default_factory=dict)

    def add(self, landed: LandedTransaction) -> None:
        self.by_signature[landed.signature] = landed
        self._by_message[bytes(landed.message)] = landed
        self._by_slot.setdefault(landed.slot, []).append(landed.signature)
        for key in landed.keys.all:
            self.by_address.setdefault(key, []).append(landed.signature)

    def get(self, signature: Signature) -> LandedTransaction | None:
        return self.by_signature.get(signature)

    def landed(self, tx: VersionedTransaction) -> LandedTransaction | None:
        """Return the landed transaction with this message; a node's status cache does not look at signatures either."""
        return self._by_message.get(bytes(tx.message))

    def newest_first(self, address: Pubkey) -> Iterator[LandedTransaction]:
        for signature in reversed(self.by_address.get(address, [])):
            yield self.by_signature[signature]

    def in_slot(self, slot: int) -> list[LandedTransaction]:
        """Return a block's transactions in their order."""
        return [self.by_signature[signature] for signature in self._by_slot.get(slot, ())]

    def since(self, slot: int) -> Iterator[LandedTransaction]:
        """Return transactions landed at or after `slot`, newest first."""
        for landed in reversed(self.by_signature.values()):
            if landed.slot < slot:
                return
            yield landed


class AccountHistory:
    """Account states before recent changes, so that `confirmed` and `finalized` readers see the past."""

    _KEEP = 64

    def __init__(self) -> None:
        self._before: dict[Pubkey, deque[tuple[int, Account | None]]] = {}

    def changed(self, slot: int, key: Pubkey, before: Account | None) -> None:
        self._before.setdefault(key, deque(maxlen=self._KEEP)).append((slot, before))

    def forget(self, key: Pubkey) -> None:
        """Forget what the account was, because it was set from outside the chain: every reader sees it as it is now."""
        self._before.pop(key, None)

    def at(self, key: Pubkey, slot: int, now: Account | None) -> Account | None:
        """Return the account as a reader at `slot` sees it; `now` is its present state."""
        for changed_slot, before in self._before.get(key, ()):
            if changed_slot > slot:
                return before
        return now

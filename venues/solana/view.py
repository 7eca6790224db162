"""What is known of the chain while a transaction is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from solders.pubkey import Pubkey

from venues.solana.answers import AccountInfo


class Violation(Exception):
    """A rule is broken. Never leaves the validator: it becomes `Refused`."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"{rule}: {reason}")
        self.rule = rule
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ChainView:
    """Accounts by address as the chain has them now; None = looked for and absent. `rents`: bytes -> lamports."""

    accounts: Mapping[Pubkey, AccountInfo | None] = field(default_factory=dict)
    rents: Mapping[int, int] = field(default_factory=dict)

    def account(self, key: Pubkey) -> AccountInfo | None:
        """Return the account. Raises `Violation` for one that was never looked for: not knowing is not absence."""
        if key not in self.accounts:
            raise Violation("chain-view", f"account {key} was not read from the chain")
        return self.accounts[key]


@dataclass(frozen=True, slots=True)
class Keys:
    """All addresses of a transaction in the runtime's order, and what it may do with each."""

    every: tuple[Pubkey, ...]
    loaded_writable: tuple[Pubkey, ...]
    loaded_readonly: tuple[Pubkey, ...]
    signers: frozenset[Pubkey]
    writable: frozenset[Pubkey]

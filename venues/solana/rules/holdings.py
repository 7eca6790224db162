"""What a position account says that it holds and owes, in its lender's own units.

Offsets of klend's Obligation, of MarginfiAccount and of Solend's Obligation, as their published sources have them. Deposits are
collateral tokens (Kamino, Save) or shares (Marginfi): they compare with each other, not with whole tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from solders.pubkey import Pubkey

from venues.solana.answers import AccountInfo
from venues.solana.rules.common import KAMINO, MARGINFI

KAMINO_BYTES, MARGINFI_BYTES, SAVE_BYTES = 3344, 2312, 1300


@dataclass(frozen=True, slots=True)
class Holdings:
    """Sums over all banks of a position: deposits, and debts as of the lender's last refresh."""

    deposited: int
    owed: int

    @property
    def is_empty(self) -> bool:
        return self.deposited == 0 and self.owed == 0


def holdings_of(lender: Pubkey, account: AccountInfo | None) -> Holdings | None:
    """Return what a position holds: nothing for an account that is gone, None for data of another shape."""
    if account is None:
        return Holdings(0, 0)
    data = account.data
    if lender == KAMINO:
        return _kamino(data) if len(data) >= KAMINO_BYTES else None
    if lender == MARGINFI:
        return _marginfi(data) if len(data) >= MARGINFI_BYTES else None
    return _save(data) if len(data) >= SAVE_BYTES else None


def _kamino(data: bytes) -> Holdings:
    deposited = sum(_unsigned(data, 96 + 136 * slot + 32, 8) for slot in range(8))
    return Holdings(deposited, sum(_unsigned(data, 1208 + 200 * slot + 88, 16) for slot in range(5)))


def _marginfi(data: bytes) -> Holdings:
    places = [72 + 104 * slot for slot in range(16)]
    shares = [(_unsigned(data, at + 40, 16), _unsigned(data, at + 56, 16)) for at in places if data[at]]
    return Holdings(sum(one for one, _ in shares), sum(one for _, one in shares))


def _save(data: bytes) -> Holdings | None:
    deposits, borrows = data[202], data[203]
    debts_at = 204 + 88 * deposits
    if debts_at + 112 * borrows > len(data):
        return None
    deposited = sum(_unsigned(data, 204 + 88 * slot + 32, 8) for slot in range(deposits))
    return Holdings(
        deposited, sum(_unsigned(data, debts_at + 112 * slot + 48, 16) for slot in range(borrows))
    )


def _unsigned(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")

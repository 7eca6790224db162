"""What each kind of row in Hyperliquid's own ledger means for the money behind our short, and which kinds nobody can place.

The fields of a row differ by its kind. Kinds and fields: https://hyperliquid.gitbook.io, "WebSocket subscriptions"
(`WsLedgerUpdate`), and the recordings of `userNonFundingLedgerUpdates`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

from evenkeel.types import Frozen
from venues.hyperliquid.equity import POOLED_MODES
from venues.hyperliquid.models import amount_of
from venues.perp import LedgerUpdate

ZERO = Decimal(0)
PERP, SPOT = "", "spot"
"""Names of the two balances of an account in a `send`."""


class Movements(Frozen):
    """What came to the account from outside, all rows together (below zero: it left), and the rows that are not in that."""

    deposits_usd: Decimal
    unplaced: tuple[str, ...]


class _Row:
    """One row, read for one account. `pools` are the balances whose money stands behind the short."""

    def __init__(self, row: LedgerUpdate, account: str, pools: frozenset[str]) -> None:
        self.delta = row.delta
        self.account = account.lower()
        self.pools = pools

    def amount(self, *names: str) -> Decimal | None:
        """The first of these fields that holds a number."""
        found = (amount_of(self.delta.get(name)) for name in names)
        return next((one for one in found if one is not None), None)

    @property
    def fee(self) -> Decimal:
        """The fee in USD, which the sender pays on top."""
        return self.amount("fee") or ZERO

    def is_ours(self, field: str) -> bool:
        return str(self.delta.get(field, "")).lower() == self.account

    @property
    def is_usdc(self) -> bool:
        return str(self.delta.get("token", "")).partition(":")[0] == "USDC"

    def sent(self, amount: Decimal | None, source: Any, target: Any) -> Decimal | None:
        """What a transfer between two balances changes, each ours or not."""
        if amount is None or not (self.is_ours("user") or self.is_ours("destination")):
            return None
        out = amount + self.fee if self.is_ours("user") and source in self.pools else ZERO
        come = amount if self.is_ours("destination") and target in self.pools else ZERO
        return come - out


def _withdraw(row: _Row) -> Decimal | None:
    amount = row.amount("usdc")
    return None if amount is None else -amount - row.fee


def _class_transfer(row: _Row) -> Decimal | None:
    amount, to_perp = row.amount("usdc"), row.delta.get("toPerp")
    if amount is None or not isinstance(to_perp, bool):
        return None
    if SPOT in row.pools:
        return ZERO  # from one pocket into another
    return amount if to_perp else -amount


def _spot_transfer(row: _Row) -> Decimal | None:
    return row.sent(row.amount("amount"), SPOT, SPOT) if row.is_usdc else ZERO


def _send(row: _Row) -> Decimal | None:
    if not row.is_usdc:
        return ZERO
    return row.sent(
        row.amount("amount", "usdcValue"), row.delta.get("sourceDex"), row.delta.get("destinationDex")
    )


def _left(row: _Row) -> Decimal | None:
    amount = row.amount("usdc")
    return None if amount is None else -amount - row.fee


def _nothing(row: _Row) -> Decimal | None:
    return ZERO


_KINDS: dict[str, Callable[[_Row], Decimal | None]] = {
    "deposit": lambda row: row.amount("usdc"),
    "withdraw": _withdraw,
    "accountClassTransfer": _class_transfer,
    "internalTransfer": lambda row: row.sent(row.amount("usdc"), PERP, PERP),
    "subAccountTransfer": lambda row: row.sent(row.amount("usdc"), PERP, PERP),
    "send": _send,
    "spotTransfer": _spot_transfer,
    "vaultCreate": _left,
    "vaultDeposit": _left,
    "vaultWithdraw": lambda row: row.amount("netWithdrawnUsd"),
    "vaultDistribution": lambda row: row.amount("usdc"),
    "vaultLeaderCommission": lambda row: row.amount("usdc"),
    "liquidation": _nothing,
    "spotGenesis": _nothing,
    "cStakingTransfer": _nothing,
    "accountActivationGas": _nothing,
    "deployGasAuction": _nothing,
}
"""By kind, what came in from outside. A liquidation is a loss of the position, not a movement of money; staking, gas and
genesis are of other tokens.
"""
KNOWN_KINDS = frozenset(_KINDS)
Mode: TypeAlias = str | None


def movements(rows: Sequence[LedgerUpdate], account: str, mode: Mode) -> Movements:
    """Return what the rows mean for the account, which keeps its margin as `mode` says. A row of a kind that nobody has seen
    yet, or whose figures cannot be read, is named and counts as nothing.
    """
    pools = frozenset({PERP, SPOT} if mode in POOLED_MODES else {PERP})
    total, unplaced = ZERO, list[str]()
    for row in rows:
        place = _KINDS.get(row.kind)
        found = place(_Row(row, account, pools)) if place else None
        if found is None:
            unplaced.append(_words(row))
        else:
            total += found
    return Movements(deposits_usd=total, unplaced=tuple(unplaced))


def _words(row: LedgerUpdate) -> str:
    amount = amount_of(row.delta.get("usdc", row.delta.get("amount")))
    of = "" if amount is None else f" of {amount:f}"
    return f"{row.kind[:40] or 'a row without a kind'}{of} at {row.time_ms} ms"

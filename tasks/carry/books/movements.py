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
    def fee(self) -> Decimal | None:
        """The fee in USD, which the sender pays on top; none where the row has no such field, None where it cannot be read."""
        return self.amount("fee") if "fee" in self.delta else ZERO

    def with_fee(self, amount: Decimal | None) -> Decimal | None:
        """An amount that left, and its fee; None where either cannot be read."""
        return None if amount is None or self.fee is None else amount + self.fee

    def is_ours(self, field: str) -> bool:
        return str(self.delta.get(field, "")).lower() == self.account

    def is_somebody(self, *fields: str) -> bool:
        """Whether each of these fields names somebody."""
        return all(isinstance(self.delta.get(field), str) for field in fields)

    @property
    def token(self) -> str | None:
        """The token's name; None where the row does not say it."""
        found = self.delta.get("token")
        return found.partition(":")[0] if isinstance(found, str) and found else None

    def sent(self, amount: Decimal | None, source: Any, target: Any) -> Decimal | None:
        """What a transfer between two balances changes, each ours or not; None where the row does not say whose they are, or
        which.
        """
        named = (
            self.is_somebody("user", "destination") and isinstance(source, str) and isinstance(target, str)
        )
        if amount is None or not named or not (self.is_ours("user") or self.is_ours("destination")):
            return None
        out: Decimal | None = ZERO
        if self.is_ours("user") and source in self.pools:
            out = self.with_fee(amount)
        come = amount if self.is_ours("destination") and target in self.pools else ZERO
        return None if out is None else come - out


def _left(row: _Row) -> Decimal | None:
    gone = row.with_fee(row.amount("usdc"))
    return None if gone is None else -gone


def _class_transfer(row: _Row) -> Decimal | None:
    amount, to_perp = row.amount("usdc"), row.delta.get("toPerp")
    if amount is None or not isinstance(to_perp, bool):
        return None
    if SPOT in row.pools:
        return ZERO  # from one pocket into another
    return amount if to_perp else -amount


def _spot_transfer(row: _Row) -> Decimal | None:
    return _of_usdc(row, row.amount("amount"), SPOT, SPOT)


def _send(row: _Row) -> Decimal | None:
    amount = row.amount("amount", "usdcValue")
    return _of_usdc(row, amount, row.delta.get("sourceDex"), row.delta.get("destinationDex"))


def _of_usdc(row: _Row, amount: Decimal | None, source: Any, target: Any) -> Decimal | None:
    """What a transfer of a token changes: nothing where it is another one."""
    if row.token is None or row.token == "USDC":
        return None if row.token is None else row.sent(amount, source, target)
    return ZERO


def _nothing(row: _Row) -> Decimal | None:
    return ZERO


_KINDS: dict[str, Callable[[_Row], Decimal | None]] = {
    "deposit": lambda row: row.amount("usdc"),
    "withdraw": _left,
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

"""What any venue of perpetuals answers: account, market, settled funding, executions, other movements of money."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from evenkeel.types import Fill, Forced, Frozen


class AssetSpec(Frozen):
    """`index` is the asset number used in orders."""

    coin: str
    index: int
    sz_decimals: int
    max_leverage: int | None
    """None where the venue's figure cannot be read: then no leverage can be set."""


class PerpContext(Frozen):
    """The market now. `funding_hourly` is the running estimate for the hour in progress, positive = the
    short receives. `premium` is the present sample of the 8 h-formula input (a fraction). Prices in USD. Rates that could not
    be read are None."""

    coin: str
    funding_hourly: Decimal | None
    premium: Decimal | None
    mark_px: Decimal
    oracle_px: Decimal
    mid_px: Decimal | None
    observed_ms: int


class Candle(Frozen):
    """Trades of the perpetual in [open_ms, close_ms], in USD."""

    coin: str
    open_ms: int
    close_ms: int
    open_px: Decimal
    close_px: Decimal

    def px_at(self, at_ms: int) -> Decimal:
        """Return the price on the straight line from open to close: what a candle says of a moment inside it."""
        share = Decimal(at_ms - self.open_ms) / (self.close_ms - self.open_ms + 1)
        return self.open_px + (self.close_px - self.open_px) * min(max(share, Decimal(0)), Decimal(1))


class Bar(Candle):
    """A candle that is over, with how far its trades went."""

    high_px: Decimal
    low_px: Decimal


class FundingHour(Frozen):
    """One settled hour: the rate that was applied at `time_ms`, and the average premium that it came from, if that can be
    read.
    """

    coin: str
    hour_ms: int
    time_ms: int
    rate_hourly: Decimal
    premium: Decimal | None


class AccountSummary(Frozen):
    """The perpetuals account in USD. `free_margin_usd` opens positions."""

    account: str
    account_value_usd: Decimal
    free_margin_usd: Decimal
    total_notional_usd: Decimal | None
    maintenance_usd: Decimal | None
    observed_ms: int


class AgentKey(Frozen):
    """The key that signs for the account. `until_ms`: end of its approval; None where it has none, as the account's own."""

    address: str
    approved: bool
    until_ms: int | None = None


class LedgerUpdate(Frozen):
    """Money that moved for another reason than trading or funding. `delta` is the venue's own record: its
    fields, and whether an amount came or went, depend on `kind` (deposit, withdraw, accountClassTransfer,
    ...)."""

    time_ms: int
    tx_hash: str
    kind: str
    usdc: Decimal | None
    delta: dict[str, Any]


class Execution(Frozen):
    """A fill, the signed position that it started from, and why the venue made it, where no order of the account did."""

    fill: Fill
    start_position: Decimal
    forced: Forced | None
    """None for an order's own fill."""

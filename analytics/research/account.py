"""The money of a simulated position: two legs, two wallets, and of every change in equity what made it.

All sums in USD as floats, quantities in tokens or SOL. Income is positive, in the items too. Whatever is done, the items
sum to what the equity has changed by.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from evenkeel.units import BPS, HOURS_PER_YEAR

ITEMS = (
    "funding",
    "lending",
    "staking",
    "borrowing",
    "price",
    "fees",
    "slippage",
    "gas",
    "transfers",
    "liquidation",
)
"""What equity changes by. `price` is what is left of both legs' price moves: basis, and the moves of what is not hedged."""


@dataclass(slots=True)
class Account:
    """Both sides of a position. The gain of the short is in its margin as the price moves."""

    wallet_usd: float
    """USDC beside the long leg, in no position."""
    margin_usd: float
    """Value of the perpetual account, gains of the short and idle margin included."""
    oracle_usd: float
    mark_usd: float
    redemption: float = 1.0
    """SOL per token of the long leg."""
    tokens: float = 0.0
    debt_usd: float = 0.0
    short_qty: float = 0.0
    premium_usd: float = 0.0
    """What the perpetual stood above the oracle where the short was sold, less what it did where it was bought back: a part of
    the item `price`.
    """
    items: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ITEMS, 0.0))

    @property
    def is_open(self) -> bool:
        return self.tokens > 0 or self.short_qty > 0

    @property
    def long_sol(self) -> float:
        return self.tokens * self.redemption

    @property
    def long_usd(self) -> float:
        return self.long_sol * self.oracle_usd

    @property
    def long_equity_usd(self) -> float:
        return self.long_usd - self.debt_usd

    @property
    def short_usd(self) -> float:
        return self.short_qty * self.mark_usd

    @property
    def equity_usd(self) -> float:
        return self.wallet_usd + self.long_equity_usd + self.margin_usd

    def book(self, item: str, usd: float) -> None:
        """Add to an item what has just changed the equity."""
        self.items[item] += usd

    def mark(self, oracle_usd: float, mark_usd: float) -> None:
        """Move both prices."""
        gain = self.long_sol * (oracle_usd - self.oracle_usd) - self.short_qty * (mark_usd - self.mark_usd)
        self.margin_usd -= self.short_qty * (mark_usd - self.mark_usd)
        self.oracle_usd, self.mark_usd = oracle_usd, mark_usd
        self.book("price", gain)

    def accrue(self, lend_apr: float, borrow_apr: float, hours: float) -> None:
        """Let the collateral earn and the debt grow for so many hours, at simple yearly rates."""
        earned = self.tokens * lend_apr * hours / HOURS_PER_YEAR
        owed = self.debt_usd * borrow_apr * hours / HOURS_PER_YEAR
        self.tokens += earned
        self.debt_usd += owed
        self.book("lending", earned * self.redemption * self.oracle_usd)
        self.book("borrowing", -owed)

    def stake(self, redemption: float) -> None:
        """Take a new redemption rate of the token."""
        self.book("staking", self.tokens * (redemption - self.redemption) * self.oracle_usd)
        self.redemption = redemption

    def settle_funding(self, rate_hourly: float) -> None:
        """Pay or receive an hour's funding on the oracle price; positive is received."""
        paid = self.short_qty * self.oracle_usd * rate_hourly
        self.margin_usd += paid
        self.book("funding", paid)

    def swap_long(
        self, usd: float, *, fee_bps: float, slippage_bps: float, from_wallet_usd: float = 0.0
    ) -> None:
        """Buy the long token for `usd` (below zero: sell it) with borrowed money, or repay with what was sold.

        `from_wallet_usd` of it comes from the wallet instead of the lender. Costs are taken from what is bought or repaid.
        """
        fee, slip = abs(usd) * fee_bps / BPS, abs(usd) * slippage_bps / BPS
        price = self.oracle_usd * self.redemption
        if usd > 0:
            self.tokens += (usd - fee - slip) / price
            self.debt_usd += usd - from_wallet_usd
        else:
            self.tokens += usd / price
            self.debt_usd -= -usd - fee - slip + from_wallet_usd
        self.wallet_usd -= from_wallet_usd
        self.book("fees", -fee)
        self.book("slippage", -slip)

    def repay(self, usd: float) -> None:
        """Repay debt from the wallet, without a swap."""
        self.wallet_usd -= usd
        self.debt_usd -= usd

    def trade_short(self, change_qty: float, *, fee_bps: float, slippage_bps: float) -> None:
        """Make the short larger, or smaller where the change is below zero."""
        usd = abs(change_qty) * self.mark_usd
        fee, slip = usd * fee_bps / BPS, usd * slippage_bps / BPS
        self.premium_usd += change_qty * (self.mark_usd - self.oracle_usd)
        self.short_qty = max(0.0, self.short_qty + change_qty)
        self.margin_usd -= fee + slip
        self.book("fees", -fee)
        self.book("slippage", -slip)

    def spend(self, item: str, usd: float) -> None:
        """Pay something from the wallet."""
        self.wallet_usd -= usd
        self.book(item, -usd)

    def empty_long(self, *, fee_bps: float, slippage_bps: float) -> None:
        """Sell all of the long, repay the debt, and put the rest into the wallet."""
        self.swap_long(-self.long_usd, fee_bps=fee_bps, slippage_bps=slippage_bps)
        self.wallet_usd -= self.debt_usd
        self.tokens = self.debt_usd = 0.0

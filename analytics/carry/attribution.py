"""Says where one position's money came from and went, and how far the books are from what the venues hold.

    residual_usd = change of what the venues hold (balances)  −  sum of the items (books)

The two sides share no figure: items come from fills, payments and landed transactions (see
`analytics.carry.legs`), the change from account values and balances before and after. A payment, fill or
transaction missing from the books therefore shows in the residual with exactly its amount, on the venue it
belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext

from pydantic import Field

from analytics.carry.legs import (
    WORKING_DIGITS,
    ZERO,
    GasCost,
    LongEvent,
    LongMark,
    ShortFill,
    split_gas,
    split_long,
    split_short,
)
from analytics.carry.words import GROUPS
from evenkeel.legs import FundingPayment
from evenkeel.types import Frozen
from evenkeel.units import HOUR_MS, HOURS_PER_YEAR, LAMPORTS_PER_SOL

CENT = Decimal("0.01")
MICRO = Decimal("0.000001")

ITEMS = (
    "funding",
    "lending",
    "borrow",
    "staking",
    "price_long",
    "price_short",
    "basis",
    "lst_basis",
    "fees_hyperliquid",
    "fees_asgard",
    "fees_dex",
    "slippage_long",
    "slippage_short",
    "liquidation",
    "gas",
    "tips",
)
"""Every item of an attribution, in the order in which a report shows them."""


class VenueChange(Frozen):
    """What the venues held before the position and after it (or now), read from balances and never from the
    books.

    Accounts must serve this position alone in between. USDC counts as 1 USD. `hyperliquid_deposits_usd` is
    deposits minus withdrawals of the account; `wallet_external_usdc` is USDC that came into the Solana
    wallet minus USDC that left it other than by the long leg's transactions. `long_equity_*_usd` is token
    value minus debt as the venue shows it (0 when nothing is held), at the price of the last mark in the
    books. `sol_lamports_spent` is what the wallet's SOL fell by for fees and tips, net of refunded rent.
    """

    hyperliquid_before_usd: Decimal
    hyperliquid_after_usd: Decimal
    hyperliquid_deposits_usd: Decimal = ZERO
    wallet_usdc_before: Decimal
    wallet_usdc_after: Decimal
    wallet_external_usdc: Decimal = ZERO
    long_equity_before_usd: Decimal = ZERO
    long_equity_after_usd: Decimal = ZERO
    sol_lamports_spent: int
    sol_price_after_usd: Decimal = Field(gt=0)
    """Values only lamports that the books do not explain; explained ones keep the price of their own
    moment."""

    @property
    def hyperliquid_usd(self) -> Decimal:
        return self.hyperliquid_after_usd - self.hyperliquid_before_usd - self.hyperliquid_deposits_usd

    @property
    def solana_usd(self) -> Decimal:
        wallet = self.wallet_usdc_after - self.wallet_usdc_before - self.wallet_external_usdc
        return wallet + self.long_equity_after_usd - self.long_equity_before_usd


class Attribution(Frozen):
    """PnL of one position by item, in USD, income positive. `items` has every name of `ITEMS`.

    `residual_*` are venue minus books, per place and in total. `checks` are contradictions inside the
    books, in words.
    """

    items: dict[str, Decimal]
    venue_change_usd: Decimal
    residual_hyperliquid_usd: Decimal
    residual_solana_usd: Decimal
    residual_gas_usd: Decimal
    capital_usd: Decimal
    holding_hours: Decimal
    is_open: bool
    checks: list[str] = Field(default_factory=list)

    @property
    def net_usd(self) -> Decimal:
        """What the position made by the books, after everything."""
        return sum(self.items.values(), ZERO)

    @property
    def residual_usd(self) -> Decimal:
        return self.venue_change_usd - self.net_usd

    @property
    def agrees(self) -> bool:
        """Books and venues agree within a cent, on every place by itself: two gaps must not hide each
        other."""
        places = (self.residual_hyperliquid_usd, self.residual_solana_usd, self.residual_gas_usd)
        return all(abs(gap) <= CENT for gap in (*places, self.residual_usd))

    @property
    def price_net_usd(self) -> Decimal:
        """Price of both legs together: what the hedge left open."""
        return self.items["price_long"] + self.items["price_short"]

    @property
    def carry_usd(self) -> Decimal:
        """What the position is held for: funding, lending and staking less borrow interest."""
        return sum((self.items[name] for name in GROUPS["carry"]), ZERO)

    @property
    def costs_usd(self) -> Decimal:
        """Fees, slippage, gas and tips (negative)."""
        return sum((self.items[name] for name in GROUPS["costs"]), ZERO)

    def _netted(self) -> list[Decimal]:
        others = [value for name, value in self.items.items() if not name.startswith("price_")]
        return [*others, self.price_net_usd]

    @property
    def earned_usd(self) -> Decimal:
        """Sum of what came in. The two price legs count as one item, else a rally would look like income."""
        return sum((value for value in self._netted() if value > 0), ZERO)

    @property
    def paid_usd(self) -> Decimal:
        """Sum of what went out (negative), the two price legs as one item. `earned_usd + paid_usd =
        net_usd`."""
        return sum((value for value in self._netted() if value < 0), ZERO)

    def _apr(self, usd: Decimal) -> Decimal | None:
        if self.capital_usd <= 0 or self.holding_hours <= 0:
            return None
        return usd / self.capital_usd * HOURS_PER_YEAR / self.holding_hours

    @property
    def net_apr(self) -> Decimal | None:
        """Simple yearly rate of the net result on the capital; None for a position held no time."""
        return self._apr(self.net_usd)

    @property
    def carry_apr(self) -> Decimal | None:
        """Simple yearly rate of the carry alone, before costs and price."""
        return self._apr(self.carry_usd)

    def as_strings(self) -> dict[str, str]:
        """Return items, totals and residuals as plain decimal strings with six digits (USD; `_apr` as fractions)."""
        values: dict[str, Decimal | None] = {name: self.items[name] for name in ITEMS}
        values |= {
            "net_usd": self.net_usd,
            "earned_usd": self.earned_usd,
            "paid_usd": self.paid_usd,
            "carry_usd": self.carry_usd,
            "costs_usd": self.costs_usd,
            "price_net_usd": self.price_net_usd,
            "venue_change_usd": self.venue_change_usd,
            "residual_usd": self.residual_usd,
            "residual_hyperliquid_usd": self.residual_hyperliquid_usd,
            "residual_solana_usd": self.residual_solana_usd,
            "residual_gas_usd": self.residual_gas_usd,
            "net_apr": self.net_apr,
            "carry_apr": self.carry_apr,
        }
        return {name: plain(value) for name, value in values.items() if value is not None}


def plain(value: Decimal) -> str:
    """Return the number with six digits after the point, no exponent, no negative zero."""
    with localcontext() as context:
        context.prec = WORKING_DIGITS
        rounded = value.quantize(MICRO)
    return f"{abs(rounded) if rounded == 0 else rounded:f}"


def attribute(
    *,
    long_events: Sequence[LongEvent],
    short_fills: Sequence[ShortFill],
    funding: Sequence[FundingPayment],
    venue: VenueChange,
    capital_usd: Decimal,
    opened_ms: int,
    ended_ms: int,
    long_marks: Sequence[LongMark] = (),
    short_mark_price_usd: Decimal | None = None,
    other_gas: Sequence[GasCost] = (),
    margin_seized_usd: Decimal = ZERO,
) -> Attribution:
    """Attribute the result of one position over its life (or until now) and compare it with what the venues hold.

    `capital_usd` is what the position tied up on both venues; `ended_ms` its close, or now. Marks are
    needed only while a leg is open. Raises nothing: whatever does not fit shows in `residual_*` and
    `checks`.
    """
    long = split_long(long_events, long_marks)
    short = split_short(short_fills, funding, short_mark_price_usd, margin_seized_usd)
    gas = split_gas(long_events, other_gas)
    with localcontext() as context:
        context.prec = WORKING_DIGITS
        found = dict.fromkeys(ITEMS, ZERO)
        for items in (long.items, short.items, gas.items):
            for name, usd in items.items():
                found[name] += usd
        unexplained = Decimal(venue.sol_lamports_spent - gas.lamports) / LAMPORTS_PER_SOL
        gas_gap = -unexplained * venue.sol_price_after_usd
        gas_usd = gas.items["gas"] + gas.items["tips"]
        hyperliquid = venue.hyperliquid_usd
        solana = venue.solana_usd
        return Attribution(
            items=found,
            venue_change_usd=hyperliquid + solana + gas_usd + gas_gap,
            residual_hyperliquid_usd=hyperliquid - sum(short.items.values(), ZERO),
            residual_solana_usd=solana - sum(long.items.values(), ZERO),
            residual_gas_usd=gas_gap,
            capital_usd=capital_usd,
            holding_hours=Decimal(ended_ms - opened_ms) / HOUR_MS,
            is_open=long.equity_usd != 0 or short.open_qty != 0,
            checks=long.checks + short.checks,
        )

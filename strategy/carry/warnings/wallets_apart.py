"""Wallets apart: after a close one venue holds so much more than the other that the next position would be small."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.legs import LegSide
from strategy.carry.keeping_size import propose_transfer, round_to_cent
from strategy.carry.limits import CarryLimits
from strategy.carry.readings import WarningReadings
from strategy.carry.rebalance import Book
from strategy.carry.warnings.state import Band, WarningState, unread
from strategy.decisions import Judged
from strategy.rules import rule
from strategy.wording import pct, usd

NAME = "wallets_apart"
ENDS = Decimal("0.8")
"""It ends at this share of the limit."""
NOTHING_HELD = Book(
    long_sol=Decimal(0),
    long_debt_usd=Decimal(0),
    short_qty=Decimal(0),
    short_equity_usd=Decimal(0),
    price_usd=Decimal(1),
    target_leverage=1,
    long_can_resize=False,
)


@rule(NAME)
def wallets_apart(readings: WarningReadings, limits: CarryLimits) -> Judged[WarningState]:
    """Warn where both venues' USDC differ by more than `strategy.transfer_above` (10 %) of their sum while nothing is held,
    with the transfer that levels them. A person moves it: the trading host cannot.
    """
    wallet, margin, runs = readings.wallet_usd, readings.margin_usd, NAME in readings.running
    if wallet is None or margin is None:
        return unread(NAME, "the money on one of the venues", runs=runs)
    total, gap = wallet + margin, abs(wallet - margin)
    share = gap / total if total > 0 else Decimal(0)
    limit = limits.strategy.transfer_above
    band = Band(starts=limit, ends=ENDS * limit)
    levels = propose_transfer(NOTHING_HELD.model_copy(update={"short_equity_usd": margin}), wallet, limits)
    stands = band.stands(share, runs=runs) and (runs or levels is not None)
    held = f"the Solana wallet holds {usd(wallet)}, Hyperliquid {usd(margin)}: {pct(share)} of both apart"
    places = {
        LegSide.LONG: f"the Solana wallet {readings.wallet_name}".rstrip(),
        LegSide.SHORT: f"the Hyperliquid account {readings.margin_name}".rstrip(),
    }
    advice = ""
    if levels is not None:
        to = LegSide.SHORT if levels.from_side is LegSide.LONG else LegSide.LONG
        amount = round_to_cent(levels.usd)
        advice = f"move {amount:,.2f} USDC from {places[levels.from_side]} to {places[to]}"
    reason = f"{held}, warning from {pct(band.starts)} to {pct(band.ends)}"
    return Judged(WarningState(name=NAME, stands=stands, reason=reason, advice=advice))

"""Both legs as the rules judge them: the venue's figures beside our own sums, and figures that do not move with the price."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from evenkeel.legs import LegSide, LegView
from state.carry.models import Position, PositionSnapshot
from strategy.carry.liquidation import implied_threshold, lender_price, own_long_distance
from strategy.carry.readings import LegReading

if TYPE_CHECKING:
    from tasks.carry.watching.seen import Seen

MOVED = Decimal("0.005")
"""Share by which the price must have moved before a figure is expected to have moved with it."""
SAME_PRICE = Decimal("0.01")
"""Within this share two prices are one."""
ONE_MARKET = Decimal("0.05")
"""Within this share a staked token's price and its redemption value are of one market."""
TOKEN_PRICE = "token price"
THRESHOLD = "liquidation_threshold"
"""Fact of a position: the loan-to-value at which its lender liquidates, as implied by what it stated at entry."""


class StandingStill:
    """By name, the figure last seen, and the price at which it was first seen so."""

    def __init__(self, last: PositionSnapshot | None = None) -> None:
        """`last`: the position as an earlier process saw it last."""
        self._seen: dict[str, tuple[Decimal, Decimal]] = {}
        self._standing: set[str] = set()
        if last is not None and last.short_price_usd:
            token = last.detail.get("token_price_usd")
            self.note(LegSide.LONG, last.long_liquidation_distance, last.short_price_usd)
            self.note(LegSide.SHORT, last.short_liquidation_distance, last.short_price_usd)
            self.note(TOKEN_PRICE, Decimal(token) if token else None, last.short_price_usd)

    def note(self, name: str, figure: Decimal | None, price_usd: Decimal | None) -> bool:
        """Take a reading; True where the figure is the same to the digit while the price has moved by half a per cent."""
        if figure is None or not price_usd:
            return False
        seen = self._seen.get(name)
        if seen is None or seen[0] != figure:
            self._seen[name] = (figure, price_usd)
            return self._said(name, False)
        return self._said(name, abs(price_usd / seen[1] - 1) > MOVED)

    def said(self, name: str) -> bool:
        """Return what `note` found last of this figure."""
        return name in self._standing

    def _said(self, name: str, stands: bool) -> bool:
        (self._standing.add if stands else self._standing.discard)(name)
        return stands


def oracle_price(seen: Seen) -> Decimal | None:
    """USD of one SOL by Hyperliquid's oracle, which every other price is held against; None where it could not be read."""
    return seen.context.oracle_px if seen.context and seen.context.oracle_px > 0 else None


def threshold_of(view: LegView | None) -> Decimal | None:
    """The lender's threshold as a reading of the long implies it; None where it implies none."""
    if view is None or view.liquidation_distance is None or view.on_chain:
        return None
    return implied_threshold(view.debt_usd, view.notional_usd, view.liquidation_distance)


def known_threshold(position: Position, seen: Seen) -> Decimal | None:
    """The threshold kept with the position, else the one of this reading."""
    kept = position.facts.get(THRESHOLD)
    return Decimal(kept) if kept is not None else threshold_of(seen.long)


def leg_readings(position: Position, seen: Seen, still: StandingStill) -> dict[LegSide, LegReading]:
    """Both legs for the rules, with our own distance: the long's from tokens, debt, threshold and an independent price."""
    entry = position.facts.get("entry_distance", {})
    oracle = oracle_price(seen)
    long, own = seen.long, None
    threshold = known_threshold(position, seen)
    if long is not None and threshold is not None:
        fair = oracle * seen.redemption_rate if oracle and seen.redemption_rate else long.price_usd
        own = own_long_distance(long.qty, long.debt_usd, fair, threshold)
    views = {LegSide.LONG: (long, seen.long_read), LegSide.SHORT: (seen.short, seen.short_read)}
    ours = {LegSide.LONG: own, LegSide.SHORT: seen.short.own_liquidation_distance if seen.short else None}
    prices = {LegSide.LONG: oracle, LegSide.SHORT: seen.short.price_usd if seen.short else None}
    return {
        side: LegReading(
            # A leg that was looked for and not found has quantity zero; one that could not be looked for has None.
            qty=view.qty if view else (Decimal(0) if was_read else None),
            liquidation_distance=view.liquidation_distance if view else None,
            own_distance=ours[side],
            entry_liquidation_distance=Decimal(entry.get(side.value) or 0),
            observed_ms=view.observed_ms if view else None,
            stands_still=_stands_still(still, side, view, prices[side]),
        )
        for side, (view, was_read) in views.items()
    }


def _stands_still(
    still: StandingStill, side: LegSide, view: LegView | None, price_usd: Decimal | None
) -> bool:
    """Whether the venue's distance does not move with the price; one that we carry on says nothing of that."""
    if view is not None and view.on_chain:
        return still.said(side)
    return still.note(side, view.liquidation_distance if view else None, price_usd)


def long_price_proved(position: Position, seen: Seen) -> bool:
    """Whether the lender's stated distance speaks of the price that Asgard lists, and not of the oracle's. That of a staked
    token proves Asgard's price of SOL only where both of its prices agree.
    """
    long, listed, sol, rate = seen.long, seen.token_price_usd, seen.sol_price_usd, seen.redemption_rate
    if long is None or not listed or not sol or not rate or abs(listed / rate / sol - 1) > ONE_MARKET:
        return False
    by_lender = lender_price(
        long.qty, long.debt_usd, long.liquidation_distance, known_threshold(position, seen)
    )
    return by_lender is not None and abs(by_lender / listed - 1) <= SAME_PRICE

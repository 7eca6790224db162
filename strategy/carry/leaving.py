"""How a position is left without leaving one leg alone by choice: which leg goes first, when the other's way out must be
proved before, and what is done where a leg cannot be closed.

Sizes are in SOL, long and short both positive; prices in USD of one SOL.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum

from evenkeel.legs import LegSide
from evenkeel.types import Frozen
from strategy.carry.entry import MIN_ORDER_USD
from strategy.carry.rebalance import TAKEN_SHARE
from strategy.carry.sizing import SOL_LOT, round_down, round_half_up
from strategy.decisions import Urgency

SHARES = (50, 25, 12, 6, 3, 1)
"""Percent of the long that a lender is asked to release where it does not release all, the largest first."""
MARGIN_KEPT = Decimal("0.97")
"""Share of the free margin that a hedge opened again may take: fees and a step of the price come out of the rest."""


STUCK_AFTER_MS = 60_000
"""For so long at most a leg is tried before it counts as stuck, while its venue refuses it."""
REFUSED_AGAIN_S, MOST_AGAIN_S = 2.5, 10.0
"""Before the next try after a refusal; doubled with each."""


class Remedy(StrEnum):
    """How two legs end level again when the change of one was refused."""

    KEEP = "keep"
    """They are level as they are: a person knows of it, and the rules decide again."""
    LEVEL_DOWN = "level down"
    """The long is brought down to the short that could not grow."""
    CLOSE = "close"


class Leaving(Frozen):
    """A closing before its next order."""

    urgency: Urgency
    endangered: LegSide | None
    """The leg that a danger names, or that was in reach when it was decided."""
    begun_with: LegSide | None
    """The leg of the first closing order so far; not asked for where a danger or an earlier try names the leg."""
    stuck: LegSide | None
    """The leg that an earlier try found unable to be closed."""
    both_held: bool
    unwinding: bool
    level: bool
    """Long and short cancel each other."""
    wants_proof: bool
    """Whoever closes has asked for the proof in any case."""

    @property
    def first_leg(self) -> LegSide:
        """The leg in danger; else the one whose way out is in doubt, for nothing is lost while it is refused; else the one
        begun with; else the short, which a rise liquidates. An unwound entry that is not hedged is naked long.
        """
        if self.endangered is not None:
            return self.endangered
        if self.stuck is not None:
            return self.stuck
        if self.unwinding and not self.level:
            return LegSide.LONG
        return self.begun_with or LegSide.SHORT

    @property
    def needs_proof(self) -> bool:
        """Whether both ways out must be proved before an order: always while both legs stand and cancel each other, but for
        an emergency. One that names no leg and was stuck before is proved as well, or it would close and open the short
        again at every tick.
        """
        if not self.both_held or (self.unwinding and not self.level):
            return False
        if self.wants_proof or self.unwinding or self.urgency is not Urgency.EMERGENCY:
            return True
        return self.endangered is None and self.stuck is not None


def hedge_missing(long_sol: Decimal, short_qty: Decimal, price_usd: Decimal) -> Decimal:
    """By how much the short must grow (above zero) or shrink (below) to cancel the long; zero where the difference is below
    the venue's least order.
    """
    change = round_half_up(long_sol) - short_qty
    return change if abs(change) * price_usd >= MIN_ORDER_USD else Decimal(0)


def is_level(long_sol: Decimal, short_qty: Decimal) -> bool:
    """Whether two legs cancel each other but for what drift or rounding explains."""
    return abs(long_sol - short_qty) <= max(TAKEN_SHARE * max(long_sol, short_qty), SOL_LOT)


def hedge_carried(
    missing: Decimal, free_margin_usd: Decimal, leverage: Decimal, price_usd: Decimal
) -> Decimal:
    """How much of a missing hedge the account can carry at this leverage; zero where that is below the least order."""
    most = round_down(max(Decimal(0), free_margin_usd) * MARGIN_KEPT * leverage / price_usd)
    qty = min(missing, most)
    return qty if qty * price_usd >= MIN_ORDER_USD else Decimal(0)


def shares_to_ask(long_sol: Decimal, price_usd: Decimal) -> tuple[int, ...]:
    """Shares in percent that are worth an order on both venues."""
    return tuple(one for one in SHARES if long_sol * price_usd * one / 100 >= MIN_ORDER_USD)


def share_to_level(long_sol: Decimal, short_qty: Decimal) -> int | None:
    """The percent of the long to be closed so that the short hedges the rest; None where that is nothing, or all of it."""
    if long_sol <= 0 or short_qty >= long_sol:
        return None
    percent = int(((1 - short_qty / long_sol) * 100).to_integral_value(ROUND_CEILING))
    return percent if 1 <= percent <= 99 else None


def remedy(
    refused: LegSide, *, weak: bool, long_sol: Decimal, short_qty: Decimal, can_resize: bool
) -> Remedy:
    """What to do where the change of one leg is refused for good. `weak`: the change was to relieve a leg of its leverage,
    so that taking the other half back would leave it in danger; then the position is closed.
    """
    if weak:
        return Remedy.CLOSE
    if refused is LegSide.SHORT and can_resize and share_to_level(long_sol, short_qty) is not None:
        return Remedy.LEVEL_DOWN
    return Remedy.KEEP if is_level(long_sol, short_qty) else Remedy.CLOSE


@dataclass
class Refusals:
    """Refusals of one leg in a row. They prove it stuck once there are `most` of them, or once the next, as long as the last,
    would end `STUCK_AFTER_MS` or more after the first try began: what a node refuses is dead only when its block height has
    passed, and then one refusal says as much as three.
    """

    most: int
    count: int = 0
    since_ms: int = 0
    prove_it_stuck: bool = False

    def add(self, began_ms: int, now_ms: int) -> None:
        """Count the refusal, now, of a try that began then."""
        self.since_ms = self.since_ms if self.count else began_ms
        self.count += 1
        next_ends_ms = now_ms + (now_ms - began_ms)
        self.prove_it_stuck = self.count >= self.most or next_ends_ms - self.since_ms >= STUCK_AFTER_MS

    @property
    def pause_s(self) -> float:
        """Before the next try: doubled with each refusal."""
        return min(REFUSED_AGAIN_S * 2.0**self.count, MOST_AGAIN_S) if self.count else 0.0

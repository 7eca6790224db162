"""Liquidity of the lender: collateral that others have borrowed cannot be taken out."""

from __future__ import annotations

from strategy.carry.limits import CarryLimits
from strategy.carry.needs.state import Level, NeedState, fine, unknown, warned
from strategy.carry.readings import NeedReadings
from strategy.decisions import Judged
from strategy.rules import rule

NAME = "lender_liquidity"


@rule(NAME)
def lender_liquidity(readings: NeedReadings, limits: CarryLimits) -> Judged[NeedState]:
    """Warn while the lender could not pay our collateral out. What it cannot pay out no exit can close."""
    r = readings
    if r.position_tokens is None:
        return fine(NAME, "no position is held")
    if r.lender_tokens is None:
        return unknown(NAME, "the lender's liquidity", refuses_entry=False)
    reason = f"the lender has {r.lender_tokens:f} {r.asset} to pay out, our position is {r.position_tokens:f}"
    if r.lender_tokens >= r.position_tokens:
        return fine(NAME, reason)
    if not r.lender_covered:
        # A market that never lent this token out shows no capacity either: that says nothing.
        state = NeedState(name=NAME, level=Level.FINE, reason=f"{reason}; it never showed more")
        return Judged(state)
    advice = "lower the position while a part can be taken out: `evenkeel rebalance`, or close when liquidity is back"
    return warned(NAME, reason, advice, phase="empty" if r.lender_tokens <= 0 else "short")

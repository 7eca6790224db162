"""State of both markets: one that is halted, delisted or taken off the list trades no more, or will not for long."""

from __future__ import annotations

from strategy.carry.limits import CarryLimits
from strategy.carry.needs.state import NeedState, critical, fine, unknown, warned
from strategy.carry.readings import NeedReadings
from strategy.decisions import Judged
from strategy.rules import rule

NAME = "market_state"


@rule(NAME)
def market_state(readings: NeedReadings, limits: CarryLimits) -> Judged[NeedState]:
    """Critical where the perpetual is delisted; a warning where it is halted or the lending market is not on offer."""
    r = readings
    if r.perp_delisted:
        return critical(NAME, "the perpetual is delisted on Hyperliquid", "close: `evenkeel exit`")
    if r.perp_halted:
        reason = "the perpetual has no book on Hyperliquid: it is halted"
        return warned(NAME, reason, "see the venue's announcements", refuses_entry=True)
    if r.lending_active is False:
        reason = "Asgard has the lending market of the long not on offer"
        return warned(
            NAME, reason, "see the lender's announcements; consider `evenkeel exit`", refuses_entry=True
        )
    if r.perp_delisted is None and r.lending_active is None:
        return unknown(NAME, "the state of the markets", refuses_entry=False)
    return fine(NAME, "both markets are on offer")

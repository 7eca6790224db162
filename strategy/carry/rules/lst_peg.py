"""Peg of staked SOL: a token that has left its redemption value is sold beyond a limit."""

from __future__ import annotations

from decimal import Decimal

from strategy.carry.decisions import Decision, Exit
from strategy.carry.limits import CarryLimits, RiskLimits
from strategy.carry.readings import WatchReadings
from strategy.decisions import Alert, Hold, Judged, Urgency
from strategy.rules import rule
from strategy.wording import missing, pct

NAME = "lst_peg"
INCREDIBLE = Decimal("0.5")
"""Discount or premium that no market has shown of a token that is redeemed: one reading of it is a wrong price."""


def peg_premium(lst_price_usd: Decimal, sol_price_usd: Decimal, redemption_rate: Decimal) -> Decimal:
    """(LST / SOL) / redemption rate − 1, as a fraction: above zero a premium, below zero a discount."""
    return lst_price_usd / sol_price_usd / redemption_rate - 1


def judge_peg(
    asset: str,
    lst_price_usd: Decimal | None,
    sol_price_usd: Decimal | None,
    redemption_rate: Decimal | None,
    limits: RiskLimits,
) -> Decision:
    """Alert beyond 3 % premium or 1 % discount, emergency exit beyond 5 % or 2 %, at once. SOL has no peg."""
    if asset == "SOL":
        return Hold(rule=NAME, reason="SOL needs no peg")
    if not lst_price_usd or not sol_price_usd or not redemption_rate:
        needed = {  # a price of nought is none
            f"the price of {asset}": lst_price_usd or None,
            "the price of SOL": sol_price_usd or None,
            "the redemption rate": redemption_rate or None,
        }
        return Alert(rule=NAME, reason=f"{asset} peg cannot be judged: {missing(needed)}")
    premium = peg_premium(lst_price_usd, sol_price_usd, redemption_rate)
    lst = limits.lst
    name, size, warning, critical = (
        ("premium", premium, lst.warning_premium, lst.critical_premium)
        if premium >= 0
        else ("discount", -premium, lst.warning_discount, lst.critical_discount)
    )
    sums = f"{asset} {name} {pct(size)} to its redemption value"
    if size > critical:
        return Exit(rule=NAME, reason=f"{sums}, limit {pct(critical)}", urgency=Urgency.EMERGENCY)
    if size > warning:
        return Alert(rule=NAME, reason=f"{sums}, warning {pct(warning)}", critical=True)
    return Hold(rule=NAME, reason=f"{sums}, warning {pct(warning)}")


def _is_incredible(readings: WatchReadings, prices: list[Decimal | None]) -> bool:
    """Whether the token's price, by whatever price of SOL, is further from the peg than any market has been."""
    r = readings
    return all(
        price and r.lst_price_usd and r.redemption_rate
        and abs(peg_premium(r.lst_price_usd, price, r.redemption_rate)) > INCREDIBLE
        for price in prices
    )  # fmt: skip


@rule(NAME)
def lst_peg_rule(readings: WatchReadings, limits: CarryLimits) -> Judged[Decision]:
    """The peg of the token that is held, against the SOL price of the same venue and against the oracle's: the one that is
    nearer to the peg decides, for a price of SOL that is wrong alone is no discount of the token. One that does not move
    with SOL is old, and one at less than half of its redemption value, or half as much again, is no price: both only alert.
    """
    r = readings
    prices: list[Decimal | None] = [one for one in (r.long_venue_price_usd, r.oracle_price_usd) if one]
    judged = min(
        (
            judge_peg(r.asset, r.lst_price_usd, price, r.redemption_rate, limits.risk)
            for price in prices or [None]
        ),
        key=lambda one: one.rank,
    )
    if isinstance(judged, Exit) and _is_incredible(r, prices):
        reason = f"{judged.reason}, but that is no price of {r.asset}: look at its market"
        return Judged(Alert(rule=NAME, reason=reason, critical=True))
    if isinstance(judged, Exit) and r.lst_price_stands_still:
        reason = f"{judged.reason}, but its price does not move with SOL's: it is old"
        return Judged(Alert(rule=NAME, reason=reason, critical=True))
    return Judged(judged)

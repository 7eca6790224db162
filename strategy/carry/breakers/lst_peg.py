"""Peg of staked SOL: a token that has left its redemption value is not bought, and is sold beyond a limit."""

from __future__ import annotations

from decimal import Decimal

from strategy.breakers.state import BreakerState, judged
from strategy.decisions import Alert, Decision, Exit, Hold, Urgency
from strategy.limits import RiskLimits
from strategy.wording import pct

NAME = "lst_peg"


def peg_premium(lst_price_usd: Decimal, sol_price_usd: Decimal, redemption_rate: Decimal) -> Decimal:
    """(LST / SOL) / redemption rate − 1, as a fraction: above zero a premium, below zero a discount."""
    return lst_price_usd / sol_price_usd / redemption_rate - 1


def lst_peg_rule(
    asset: str,
    lst_price_usd: Decimal | None,
    sol_price_usd: Decimal | None,
    redemption_rate: Decimal | None,
    limits: RiskLimits,
) -> Decision:
    """Alert beyond 3 % premium or 1 % discount, emergency exit beyond 5 % or 2 % (spec 5.3), at once. SOL
    has no peg.
    """
    rule = "lst_peg"
    if asset == "SOL":
        return Hold(rule=rule, reason="SOL needs no peg")
    if not lst_price_usd or not sol_price_usd or not redemption_rate:
        return Alert(
            rule=rule, reason=f"{asset} peg cannot be judged: a price or the redemption rate is missing"
        )
    premium = peg_premium(lst_price_usd, sol_price_usd, redemption_rate)
    lst = limits.lst
    name, size, warning, critical = (
        ("premium", premium, lst.warning_premium, lst.critical_premium)
        if premium >= 0
        else ("discount", -premium, lst.warning_discount, lst.critical_discount)
    )
    sums = f"{asset} {name} {pct(size)} to its redemption value"
    if size > critical:
        return Exit(rule=rule, reason=f"{sums}, limit {pct(critical)}", urgency=Urgency.EMERGENCY)
    if size > warning:
        return Alert(rule=rule, reason=f"{sums}, warning {pct(warning)}", critical=True)
    return Hold(rule=rule, reason=f"{sums}, warning {pct(warning)}")


def lst_peg_breaker(
    asset: str,
    lst_price_usd: Decimal | None,
    sol_price_usd: Decimal | None,
    redemption_rate: Decimal | None,
    now_ms: int,
    limits: RiskLimits,
) -> BreakerState:
    """What would be alarmed or closed is not entered: the token of this asset is refused, others may be bought."""
    verdict = lst_peg_rule(asset, lst_price_usd, sol_price_usd, redemption_rate, limits)
    return judged(
        f"{NAME}:{asset}",
        not isinstance(verdict, Hold),
        verdict.reason,
        f"look for news of {asset}; enter another asset",
        now_ms,
        scope=asset,
    )

"""Peg of staked SOL: a token that has left its redemption value is not bought."""

from __future__ import annotations

from strategy.breakers.state import BreakerState, breaker
from strategy.carry.limits import RiskLimits
from strategy.carry.readings import BreakerReadings
from strategy.carry.rules.lst_peg import NAME, judge_peg
from strategy.decisions import Judged, Rank
from strategy.rules import Rule, rule


def lst_peg_breaker(asset: str) -> Rule[BreakerReadings, RiskLimits, BreakerState]:
    """The breaker of one token: what would be alarmed or closed is not entered. This asset alone is refused, others may
    be bought.
    """
    name = f"{NAME}:{asset}"

    @rule(name)
    def judge(readings: BreakerReadings, limits: RiskLimits) -> Judged[BreakerState]:
        found = judge_peg(
            asset,
            readings.token_prices_usd.get(asset),
            readings.long_venue_price_usd,
            readings.redemption_rates.get(asset),
            limits,
        )
        return breaker(
            name,
            found.rank is not Rank.HOLD,
            found.reason,
            f"look for news of {asset}; enter another asset",
            readings.now_ms,
            scope=asset,
        )

    return judge

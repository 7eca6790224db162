"""Every rule of the carry trade, listed once: what is not here is not asked. A test checks that the runbook explains each.

All are `rule(readings, limits) -> Judged`. Among decisions of one rank the first listed wins.
"""

from __future__ import annotations

from typing import TypeAlias

from evenkeel.legs import LegSide
from strategy.breakers.state import BreakerState
from strategy.carry.breakers.exposure import exposure_breaker
from strategy.carry.breakers.fee_market import fee_market_breaker
from strategy.carry.breakers.funding import funding_breaker
from strategy.carry.breakers.liquidation import liquidation_breaker
from strategy.carry.breakers.lst_peg import lst_peg_breaker
from strategy.carry.breakers.price_deviation import price_deviation_breaker
from strategy.carry.checks import (
    check_balances,
    check_exit_needs,
    check_fee_market,
    check_funding,
    check_liquidation_room,
    check_price_consensus,
    check_protocol_capacity,
    check_reference_prices,
    check_simulation,
)
from strategy.carry.decisions import Decision
from strategy.carry.keeping_size import growth_rule, reserve_rule
from strategy.carry.limits import STAKED_ASSETS, CarryLimits, RiskLimits
from strategy.carry.readings import BreakerReadings, EntryReadings, WarningReadings, WatchReadings
from strategy.carry.rebalance import Book, drift_rule, margin_rule
from strategy.carry.rules.carry import carry_rule
from strategy.carry.rules.distance_gap import distance_gap_rule
from strategy.carry.rules.liquidation import liquidation_rule
from strategy.carry.rules.lst_peg import lst_peg_rule
from strategy.carry.rules.missing_leg import missing_leg_rule
from strategy.carry.rules.not_understood import not_understood_rule
from strategy.carry.rules.outage import outage_rule
from strategy.carry.rules.price_deviation import price_deviation_rule
from strategy.carry.rules.stale_data import stale_data_rule
from strategy.carry.warnings.drift_limit import drift_limit
from strategy.carry.warnings.fee_spike import fee_spike
from strategy.carry.warnings.funding_turned import funding_turned
from strategy.carry.warnings.half_distance import half_distance
from strategy.carry.warnings.near_exit import near_exit
from strategy.carry.warnings.order_failed import order_failed
from strategy.carry.warnings.price_gap import price_gap
from strategy.carry.warnings.state import WarningState
from strategy.carry.warnings.wallets_apart import wallets_apart
from strategy.decisions import Check
from strategy.rulebook import HEALTH_BREAKERS
from strategy.rules import Rule

WatchRule: TypeAlias = Rule[WatchReadings, CarryLimits, Decision]
RebalanceRule: TypeAlias = Rule[Book, CarryLimits, Decision]
EntryCheck: TypeAlias = Rule[EntryReadings, CarryLimits, Check]
EarlyWarning: TypeAlias = Rule[WarningReadings, CarryLimits, WarningState]
Breaker: TypeAlias = Rule[BreakerReadings, RiskLimits, BreakerState]

WATCH_RULES: tuple[WatchRule, ...] = (
    missing_leg_rule,
    liquidation_rule(LegSide.LONG),
    liquidation_rule(LegSide.SHORT),
    distance_gap_rule(LegSide.LONG),
    distance_gap_rule(LegSide.SHORT),
    price_deviation_rule,
    stale_data_rule(LegSide.LONG),
    stale_data_rule(LegSide.SHORT),
    outage_rule,
    not_understood_rule,
    lst_peg_rule,
    carry_rule,
)
"""Asked at every tick of a position: whether to close it."""

REBALANCE_RULES: tuple[RebalanceRule, ...] = (reserve_rule, margin_rule, drift_rule, growth_rule)
"""Asked at every tick that saw both legs: whether to change their sizes. The first that does not hold decides: margin
is what liquidates, and money that lies beside a weak leg mends it before anything is sold. To grow comes last.
"""

WARNINGS: tuple[EarlyWarning, ...] = (
    half_distance(LegSide.LONG),
    half_distance(LegSide.SHORT),
    near_exit(LegSide.LONG),
    near_exit(LegSide.SHORT),
    price_gap,
    fee_spike,
    funding_turned,
    order_failed,
    drift_limit,
    wallets_apart,
)
"""Asked at every tick of a position, the last after a close: what a person should know in time. They decide nothing."""

ENTRY_CHECKS: tuple[EntryCheck, ...] = (
    check_balances,
    check_price_consensus,
    check_reference_prices,
    check_funding,
    check_protocol_capacity,
    check_liquidation_room,
    check_fee_market,
    check_exit_needs,
    check_simulation,
)
"""Made before an entry is written down: all must pass."""

OFFER_CHECKS = frozenset(
    one.name
    for one in (
        check_protocol_capacity,
        check_liquidation_room,
        check_fee_market,
        check_simulation,
    )
)
"""Of them, those that may fail for one offer and pass for the next."""

BREAKERS: tuple[Breaker, ...] = (
    liquidation_breaker,
    funding_breaker,
    price_deviation_breaker,
    *(lst_peg_breaker(asset) for asset in STAKED_ASSETS),
    fee_market_breaker,
    *HEALTH_BREAKERS,
    exposure_breaker,
)
"""Asked before an entry and by `evenkeel status`: what refuses one now."""

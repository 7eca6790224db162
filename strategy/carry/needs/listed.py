"""Every need of an exit, listed once: what is not here is not watched. A new venue adds its own line."""

from __future__ import annotations

from typing import TypeAlias

from strategy.carry.limits import CarryLimits
from strategy.carry.needs.account_mode import account_mode
from strategy.carry.needs.agent_key import agent_key
from strategy.carry.needs.disk_space import disk_space
from strategy.carry.needs.fee_money import fee_money
from strategy.carry.needs.lender_liquidity import lender_liquidity
from strategy.carry.needs.market_state import market_state
from strategy.carry.needs.state import NeedState
from strategy.carry.needs.swap_route import swap_route
from strategy.carry.needs.venue_clock import venue_clock
from strategy.carry.readings import NeedReadings
from strategy.rules import Rule, judge_all

Need: TypeAlias = Rule[NeedReadings, CarryLimits, NeedState]

NEEDS: tuple[Need, ...] = (
    agent_key,
    venue_clock,
    fee_money,
    lender_liquidity,
    market_state,
    account_mode,
    disk_space,
    swap_route,
)
"""Asked while a position is open, before an entry, and by `evenkeel doctor`."""


def judge_needs(readings: NeedReadings, limits: CarryLimits) -> tuple[NeedState, ...]:
    """Judge every need on one set of readings, in the order of the list."""
    return tuple(one.answer for one in judge_all(NEEDS, readings, limits))

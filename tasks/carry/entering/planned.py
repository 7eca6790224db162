"""What a dry run says of the entry that it would make: figures with the unit in their names."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.types import Frozen
from strategy.carry.limits import PROTOCOL_NAMES, CostModel
from tasks.carry.entering.choose import EntryPlan


class PlannedEntry(Frozen):
    """An entry that passed every check and is not made. USD of one leg, but costs and carry, which are of both."""

    asset: str
    protocol: str
    leverage: int
    notional_usd: float
    collateral_usd: float
    """Of the long: the wallet's USDC that it takes."""
    borrow_usd: float
    short_qty_sol: float
    """About: the short follows what the long really gets."""
    opening_cost_usd: float
    round_trip_cost_usd: float
    expected_carry_usd_per_hour: float
    expected_apr: float
    """Of the capital of both legs, a fraction."""
    break_even_hours: float | None
    """Until the carry has paid the round trip; None where it never does."""


def planned_entry(plan: EntryPlan, costs: CostModel) -> PlannedEntry:
    """Return the plan's figures, with the costs that entries are judged by."""
    round_trip, carry = costs.round_trip_usd(plan.size.position_usd), plan.carry_usd_per_hour
    return PlannedEntry(
        asset=plan.asset,
        protocol=PROTOCOL_NAMES[plan.protocol],
        leverage=plan.size.leverage,
        notional_usd=_cents(plan.size.position_usd),
        collateral_usd=_cents(plan.size.per_leg_usd),
        borrow_usd=_cents(plan.size.borrow_usd),
        short_qty_sol=round(float(plan.estimated_short_qty), 2),
        opening_cost_usd=_cents(costs.opening_usd(plan.size.position_usd)),
        round_trip_cost_usd=_cents(round_trip),
        expected_carry_usd_per_hour=round(float(carry), 4),
        expected_apr=round(float(plan.expected_apr), 4),
        break_even_hours=round(float(round_trip / carry), 1) if carry > 0 else None,
    )


def _cents(usd: Decimal) -> float:
    return round(float(usd), 2)

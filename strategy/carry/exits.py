"""The rules by which a position is closed or a person is told that belong to no circuit breaker; those that do live in
`strategy/breakers`, one a file, and are named here as well (spec 5.2, 5.3, 5.4, 8.4).

A rule that judges a lasting danger also returns its `BreachStep`; the caller stores `since_ms` under `key`
and gives it back on the next tick. Where a figure is missing no rule says that all is well. `monitor.judge`
runs them all.
"""

from __future__ import annotations

from decimal import Decimal

from evenkeel.legs import LegSide
from strategy.breakers.outage import HELD_ON, outage_rule
from strategy.breakers.stale_data import stale_data_rule
from strategy.carry.breakers.funding import carry_rule
from strategy.carry.breakers.liquidation import liquidation_rule
from strategy.carry.breakers.lst_peg import lst_peg_rule
from strategy.carry.breakers.price_deviation import price_deviation_rule
from strategy.decisions import Decision, Exit, Hold, Urgency

__all__ = [
    "carry_rule",
    "liquidation_rule",
    "lst_peg_rule",
    "missing_leg_rule",
    "outage_rule",
    "price_deviation_rule",
    "stale_data_rule",
]


def missing_leg_rule(long_qty: Decimal | None, short_qty: Decimal | None) -> Decision:
    """Exit at once when a venue shows no leg where there should be one: liquidated, or auto-deleveraged.
    None is unknown.
    """
    rule = "missing_leg"
    gone = [
        s for s, qty in ((LegSide.LONG, long_qty), (LegSide.SHORT, short_qty)) if qty is not None and qty <= 0
    ]
    if not gone:
        return Hold(rule=rule, reason="no leg is known to be gone")
    names = " and ".join(side.value for side in gone)
    left = next((side for side in HELD_ON if side not in gone), None)
    reason = f"the {names} leg is gone from its venue: what is left is not hedged"
    return Exit(rule=rule, reason=reason, urgency=Urgency.EMERGENCY, first_leg=left)

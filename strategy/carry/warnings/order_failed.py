"""Order failed: a transaction of ours failed on Solana, or never landed there."""

from __future__ import annotations

from evenkeel.units import DAY_MS
from strategy.carry.limits import CarryLimits
from strategy.carry.readings import WarningReadings
from strategy.carry.warnings.state import WarningState, unread
from strategy.decisions import Judged
from strategy.rules import rule

NAME = "order_failed"
OVER_MS = DAY_MS
"""A failure that no later order has made good is news for so long."""


@rule(NAME)
def order_failed(readings: WarningReadings, limits: CarryLimits) -> Judged[WarningState]:
    """Warn of the last order that was sent and is proved dead. It is over when a later order of the leg has landed, or after
    a day. One that was made good at once is noted and over.
    """
    failed, runs = readings.failed_order, NAME in readings.running
    if not readings.orders_read:
        return unread(NAME, "the orders of the position", runs=runs)
    if failed is None:
        return Judged(WarningState(name=NAME, stands=False, reason="no order has failed on chain"))
    made_good = readings.last_done_ms is not None and readings.last_done_ms >= failed.at_ms
    stands = not made_good and readings.now_ms - failed.at_ms < OVER_MS
    state = "a later one has landed" if made_good else "no later one has landed yet"
    return Judged(
        WarningState(
            name=NAME,
            stands=stands,
            reason=f"an order to {failed.what} failed: {failed.why}; {state}",
            advice="see the transaction in a block explorer; it is sent again where the rules still ask for it",
            mark=str(failed.at_ms),
        )
    )

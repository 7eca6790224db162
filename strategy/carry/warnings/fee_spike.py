"""Fee spike: a transaction on Solana costs more than the cap of an ordinary one."""

from __future__ import annotations

from decimal import Decimal

from strategy.carry.limits import CarryLimits
from strategy.carry.readings import WarningReadings
from strategy.carry.warnings.state import Band, WarningState, unread
from strategy.decisions import Judged
from strategy.rules import rule

NAME = "fee_spike"


@rule(NAME)
def fee_spike(readings: WarningReadings, limits: CarryLimits) -> Judged[WarningState]:
    """Warn above `limits.max_fee_lamports` until below `limits.resume_fee_lamports`: the points of the breaker of the fee
    market, while a position is held.
    """
    fee, runs, risk = readings.fee_lamports, NAME in readings.running, limits.risk
    if fee is None:
        return unread(NAME, "what a transaction would have to bid", runs=runs)
    high, low = Decimal(risk.max_fee_lamports), Decimal(risk.resume_fee_lamports)
    band = Band(starts=high, ends=low if low < high else high - 1)
    reason = (
        f"a transaction would have to bid {fee} lamports or more, the cap is {risk.max_fee_lamports}, calm is "
        f"below {risk.resume_fee_lamports}"
    )
    advice = "a way out may land late; put off what is no emergency"
    return Judged(
        WarningState(name=NAME, stands=band.stands(Decimal(fee), runs=runs), reason=reason, advice=advice)
    )

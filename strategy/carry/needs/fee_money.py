"""SOL in the wallet: without it no transaction of the long leg can be paid for."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.units import LAMPORTS_PER_SOL
from strategy.carry.limits import CarryLimits
from strategy.carry.needs.state import NeedState, critical, fine, unknown, warned
from strategy.carry.readings import NeedReadings
from strategy.decisions import Judged
from strategy.rules import rule

NAME = "fee_money"


@rule(NAME)
def fee_money(readings: NeedReadings, limits: CarryLimits) -> Judged[NeedState]:
    """Warn below `limits.min_gas_lamports`, critically below a tenth of it: then not every emergency can be paid for."""
    held, needed = readings.wallet_lamports, limits.risk.min_gas_lamports
    if held is None:
        return unknown(NAME, "SOL in the wallet")
    reason = (
        f"{_sol(held)} SOL for fees in the wallet, {_sol(needed)} are to be kept (limits.min_gas_lamports)"
    )
    advice = f"send SOL to {readings.wallet or 'the wallet'}"
    if held < needed / 10:
        return critical(NAME, f"{reason}: tips are cut to what is left", advice)
    if held < needed:
        return warned(NAME, reason, advice, refuses_entry=True)
    return fine(NAME, reason)


def _sol(lamports: int) -> str:
    return f"{Decimal(lamports) / LAMPORTS_PER_SOL:.4f}"

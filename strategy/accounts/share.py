"""What the platform is owed of a settlement: a share of realised net profit, of each trade or above the account's best."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from enum import StrEnum

from evenkeel.types import Frozen

CENT = Decimal("0.01")
UNIT = Decimal("0.000001")
"""The smallest amount that USDC has."""
ZERO = Decimal(0)


class FeeModel(StrEnum):
    """PER_TRADE: of each profit, whatever was lost before. HIGH_WATER: of what the account's results never reached before."""

    PER_TRADE = "PROFIT_SHARE"
    HIGH_WATER = "HIGH_WATER"


class ChargeState(StrEnum):
    """DUE: to be pulled. OUTSTANDING: could not be, is tried daily. WAIVED: too small. COLLECTED: paid. STATEMENT: owed where
    no agent can move funds; the user pays it by himself, and no program ever pulls it.
    """

    WAIVED = "WAIVED"
    DUE = "DUE"
    OUTSTANDING = "OUTSTANDING"
    COLLECTED = "COLLECTED"
    STATEMENT = "STATEMENT"


class Charge(Frozen):
    """What one settlement makes: of which profit, how much, and the account's sums after it."""

    base_usdc: Decimal
    usdc: Decimal
    state: ChargeState
    result_usdc: Decimal
    high_water_usdc: Decimal


def charge_for(
    profit_usdc: Decimal,
    share: Decimal,
    model: FeeModel,
    *,
    result_usdc: Decimal = ZERO,
    high_water_usdc: Decimal = ZERO,
) -> Charge | None:
    """Return the charge of a settlement with this realised net profit (below zero: a loss); None where nothing is owed.

    `result_usdc` and `high_water_usdc` are the account's sum of results before it, and the highest that this sum ever was. The
    amount is rounded down to the token's units, so that nobody pays more than the share.
    """
    after = result_usdc + profit_usdc
    best = max(high_water_usdc, after)
    base = profit_usdc if model is FeeModel.PER_TRADE else best - high_water_usdc
    if base <= 0:
        return None
    usdc = (base * share).quantize(UNIT, rounding=ROUND_DOWN)
    state = ChargeState.DUE if usdc >= CENT else ChargeState.WAIVED
    return Charge(base_usdc=base, usdc=usdc, state=state, result_usdc=after, high_water_usdc=best)


def net_profit(
    paid_usdc: Decimal, deposited_usdc: Decimal, share: Decimal, kept_fees_usdc: Decimal = ZERO
) -> Decimal:
    """Return the realised result of a close: what reached the wallet, less the part of the deposit that was closed and the fees
    that were pulled for it and not given back (fact sheet 5).
    """
    return paid_usdc - deposited_usdc * share - kept_fees_usdc

"""Exposure caps: how much may be open together, and how often in one asset."""

from __future__ import annotations

from decimal import Decimal

from strategy.breakers.state import BreakerState, breaker
from strategy.carry.limits import RiskLimits
from strategy.carry.readings import BreakerReadings
from strategy.decisions import Judged
from strategy.rules import rule
from strategy.wording import usd

NAME = "exposure"


@rule(NAME)
def exposure_breaker(readings: BreakerReadings, limits: RiskLimits) -> Judged[BreakerState]:
    """No entry where not even the smallest position would fit under the caps: of the account, and of its fleet in sum."""
    total = sum((one.position_usd for one in readings.open_positions), Decimal(0))
    held = [one.asset for one in readings.open_positions if one.own]
    full = [
        asset for asset in limits.allowed_long_assets if held.count(asset) >= limits.max_positions_per_asset
    ]
    faults = []
    if total + limits.min_position_usd > limits.max_total_exposure_usd:
        faults.append(f"{usd(total)} are open of at most {usd(limits.max_total_exposure_usd)}")
    if len(full) == len(limits.allowed_long_assets):
        faults.append(f"every allowed asset holds {limits.max_positions_per_asset} positions already")
    return breaker(
        NAME,
        bool(faults),
        "; ".join(faults) or f"{usd(total)} are open of at most {usd(limits.max_total_exposure_usd)}",
        "close a position first, or raise limits.max_total_exposure_usd",
        readings.now_ms,
    )

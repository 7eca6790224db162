"""Exposure caps: how much may be open together, and how often in one asset."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from strategy.breakers.state import BreakerState, judged
from strategy.carry.sizing import OpenExposure
from strategy.limits import RiskLimits
from strategy.wording import usd

NAME = "exposure"


def exposure_breaker(open_positions: Sequence[OpenExposure], now_ms: int, limits: RiskLimits) -> BreakerState:
    """No entry where not even the smallest position would fit under the caps (spec 8.1)."""
    total = sum((one.position_usd for one in open_positions), Decimal(0))
    held = [one.asset for one in open_positions]
    full = [
        asset for asset in limits.allowed_long_assets if held.count(asset) >= limits.max_positions_per_asset
    ]
    faults = []
    if total + limits.min_position_usd > limits.max_total_exposure_usd:
        faults.append(f"{usd(total)} are open of at most {usd(limits.max_total_exposure_usd)}")
    if len(full) == len(limits.allowed_long_assets):
        faults.append(f"every allowed asset holds {limits.max_positions_per_asset} positions already")
    return judged(
        NAME,
        bool(faults),
        "; ".join(faults) or f"{usd(total)} are open of at most {usd(limits.max_total_exposure_usd)}",
        "close a position first, or raise limits.max_total_exposure_usd",
        now_ms,
    )

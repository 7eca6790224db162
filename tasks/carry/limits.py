"""The limits that a desk's decisions about the carry trade are held against."""

from __future__ import annotations

from strategy.carry.limits import CarryLimits
from tasks.carry.desk import CarryDesk


def limits_of(desk: CarryDesk) -> CarryLimits:
    """Hard limits and strategy settings of this desk, together."""
    return CarryLimits(risk=desk.settings.limits, strategy=desk.settings.strategy)

"""What an unlevelled drift has cost so far, kept with the snapshots of a position: a restart goes on counting."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.units import HOUR_MS
from state.carry.models import Position, PositionSnapshot
from strategy.carry.rebalance import drift_cost_usd_per_hour

COST = "drift_cost_usd"
"""In a snapshot's detail."""


class DriftCost:
    """The sum in USD since the legs were level last, and up to when it was counted."""

    def __init__(self, last: PositionSnapshot | None) -> None:
        """`last`: the position as an earlier process saw it last."""
        kept = None if last is None else last.detail.get(COST)
        self.usd = Decimal(0 if kept is None else kept)
        self._at_ms = None if last is None or kept is None else last.at_ms

    def count(
        self,
        position: Position,
        drift_sol: Decimal,
        price_usd: Decimal,
        funding_hourly: Decimal | None,
        at_ms: int,
    ) -> Decimal:
        """Add the time since the last count; the sum. It begins anew where any process has levelled the legs since. A rate
        that cannot be read costs nothing that we know of.
        """
        levelled = position.facts.get("rebalances") or []
        if self._at_ms is not None and levelled and int(levelled[-1]["at_ms"]) > self._at_ms:
            self.usd, self._at_ms = Decimal(0), int(levelled[-1]["at_ms"])
        if self._at_ms is not None:
            hours = Decimal(max(0, at_ms - self._at_ms)) / HOUR_MS
            self.usd += hours * drift_cost_usd_per_hour(drift_sol, price_usd, funding_hourly or Decimal(0))
        self._at_ms = at_ms
        return self.usd

    def forget(self) -> None:
        """The legs were just levelled."""
        self.usd = Decimal(0)

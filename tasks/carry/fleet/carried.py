"""What Asgard stated last of a long leg, carried on to what its lender's accounts hold and to the price of now."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.legs import LegView
from strategy.carry.liquidation import own_long_distance


class Carried:
    """Of one account, by leg: the loan-to-value that liquidates it at Hyperliquid's price, by what Asgard stated last."""

    def __init__(self) -> None:
        self._stated: dict[str, Decimal] = {}

    def knows(self, ref: str) -> bool:
        """Return whether Asgard has stated a distance of this leg, so that its lender's accounts suffice for a look."""
        return ref in self._stated

    def on(self, leg: LegView | None, fair_usd: Decimal | None) -> LegView | None:
        """Return the leg with the distance that Asgard's last statement comes to at this price of its token, where it was read
        from chain; as it is where Asgard stated one now, which is kept.
        """
        if leg is None or fair_usd is None:
            return leg
        if not leg.on_chain:
            self._keep(leg, fair_usd)
            return leg
        threshold = self._stated.get(leg.ref)
        distance = (
            None if threshold is None else own_long_distance(leg.qty, leg.debt_usd, fair_usd, threshold)
        )
        if distance is None:
            return leg
        liquidated_usd = leg.price_usd * (1 - distance)
        return leg.model_copy(
            update={"liquidation_distance": distance, "liquidation_price_usd": liquidated_usd}
        )

    def _keep(self, leg: LegView, fair_usd: Decimal) -> None:
        """A distance of nothing, or of all, implies no threshold: Asgard is asked again at the next look."""
        distance, worth = leg.liquidation_distance, leg.qty * fair_usd
        if distance is None or not 0 < distance < 1 or worth <= 0 or leg.debt_usd <= 0:
            self._stated.pop(leg.ref, None)
        else:
            self._stated[leg.ref] = leg.debt_usd / worth / (1 - distance)

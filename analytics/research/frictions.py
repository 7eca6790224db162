"""What trading costs in a back-test: fees, and a model of slippage that grows with size and with the range of the hour."""

from __future__ import annotations

from dataclasses import dataclass

DEPTH_USD = 150_000.0
"""Order that pays the expected slippage in a calm hour; a larger one pays in proportion."""
CALM_RANGE = 0.02
"""Range of the hour, high over low, up to which the market is calm; a wilder one is thinner in proportion."""


@dataclass(frozen=True, slots=True)
class Frictions:
    """In basis points of what is traded, and USD. `factor` multiplies all of it."""

    long_open_fee_bps: float
    long_close_fee_bps: float
    short_fee_bps: float
    long_slippage_bps: float
    short_slippage_bps: float
    gas_usd: float
    """Of one change of both legs."""
    transfer_usd: float
    """Of one move of money between the venues."""
    factor: float = 1.0

    def long_fee_bps(self, *, grows: bool) -> float:
        return self.factor * (self.long_open_fee_bps if grows else self.long_close_fee_bps)

    def perp_fee_bps(self) -> float:
        return self.factor * self.short_fee_bps

    def slippage_bps(self, expected_bps: float, usd: float, hour_range: float) -> float:
        """Return the slippage of a trade of this size in an hour of this range."""
        return self.factor * expected_bps * max(1.0, usd / DEPTH_USD) * max(1.0, hour_range / CALM_RANGE)

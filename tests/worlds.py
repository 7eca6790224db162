"""Small worlds for tests: constant markets whose numbers a test can set."""

from __future__ import annotations

from dataclasses import dataclass, field

from twins.clock import TwinClock
from twins.world import HOUR_MS, LendingRates, World

START_MS = 1_757_203_200_000  # 2025-09-07 00:00:00 UTC


@dataclass
class FlatSeries:
    """A market that stands still until a test moves it."""

    price: float = 200.0
    hourly_premium: float = 0.0003
    lend_apr: float = 0.05
    borrow_apr: float = 0.06
    lst_lend_apr: float = 0.002
    staking: float = 0.066
    redemption: dict[str, float] = field(
        default_factory=lambda: {"jitoSOL": 1.22, "jupSOL": 1.12, "INF": 1.35}
    )
    source: str = "model"
    start_ms: int = START_MS
    end_ms: int = START_MS + 1000 * HOUR_MS

    def sol_price(self, t_ms: int) -> float:
        return self.price

    def premium(self, t_ms: int) -> float:
        return self.hourly_premium

    def running_premium(self, t_ms: int) -> float:
        return self.premium(t_ms)

    def settled_premium(self, hour_ms: int) -> float:
        return self.premium(hour_ms - 1)

    def funding_history(self, start_ms: int, end_ms: int) -> list[tuple[int, float, float]]:
        first = -(-start_ms // HOUR_MS) * HOUR_MS
        last = min(end_ms, self.start_ms)
        premium = self.hourly_premium
        hourly = (premium + max(-0.0005, min(0.0005, 0.0001 - premium))) / 8
        return [(t + 44, hourly, premium) for t in range(first, last + 1, HOUR_MS)]

    def rates(self, protocol: int, token: str, t_ms: int) -> LendingRates:
        if protocol == 3:
            return LendingRates(0.0, 0.0, available=False)
        if token == "USDC":
            return LendingRates(0.045, self.borrow_apr)
        if token == "SOL":
            return LendingRates(self.lend_apr, 0.07)
        return LendingRates(self.lst_lend_apr, 0.02)

    def staking_apy(self, lst: str, t_ms: int) -> float:
        return self.staking

    def redemption_rate(self, lst: str, t_ms: int) -> float:
        return self.redemption[lst]


def flat_world(*, speed: float = 1.0, stepped: bool = True, **changes: float) -> World:
    """A standing world, stepped by default so that waiting costs no wall time."""
    series = FlatSeries(**changes)  # type: ignore[arg-type]
    return World(series, TwinClock(series.start_ms, speed=speed, stepped=stepped))

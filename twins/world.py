"""The market behind the twins: SOL price, premium, lending rates, staking, all as functions of one world time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from twins.clock import TwinClock

HOUR_MS = 3_600_000
PATH_STEP_MS = 300_000
CALM_RANGE = 0.02
"""High over low of an hour up to which the market is calm; a wilder one is thinner in proportion."""
LST_SYMBOLS = ("jitoSOL", "jupSOL", "INF")


@dataclass(frozen=True)
class LendingRates:
    """Simple yearly rates as fractions, of one token at one protocol. `available` is False where nothing was recorded."""

    lend_apr: float
    borrow_apr: float
    available: bool = True


class Series(Protocol):
    """A source of market data. `t_ms` is world time; every answer is deterministic in it."""

    source: str
    """`recorded` or `model`."""

    start_ms: int
    end_ms: int

    def sol_price(self, t_ms: int) -> float:
        """Return the oracle's price in USD."""
        ...

    def premium(self, t_ms: int) -> float:
        """Return the premium of the perpetual over the oracle at this moment (8 h-formula input, a fraction)."""
        ...

    def running_premium(self, t_ms: int) -> float:
        """Return the mean premium of the hour that runs, from its start until `t_ms`."""
        ...

    def settled_premium(self, hour_ms: int) -> float:
        """Return the mean premium of the hour that ended at `hour_ms`, by which that hour is settled."""
        ...

    def funding_history(self, start_ms: int, end_ms: int) -> list[tuple[int, float, float]]:
        """Return settled hours in [start, end]: (settlement time ms, hourly rate, premium)."""
        ...

    def rates(self, protocol: int, token: str, t_ms: int) -> LendingRates:
        """Return rates of `token` ("SOL", "USDC" or an LST symbol) at protocol 0 Marginfi, 1 Kamino, 2 Solend, 3 Drift."""
        ...

    def staking_apy(self, lst: str, t_ms: int) -> float: ...

    def redemption_rate(self, lst: str, t_ms: int) -> float:
        """Return SOL per LST token; steps up with staking rewards."""
        ...


@dataclass
class Overrides:
    """What a test or the demo pins on top of the series. Factors multiply, `None` leaves the series alone."""

    sol_price_factor: float = 1.0
    sol_price: float | None = None
    premium: float | None = None
    lst_peg: dict[str, float] = field(default_factory=dict)
    """Market price of an LST relative to its redemption value: 1.0 is at peg, 0.98 a 2 % discount."""
    borrow_apr: float | None = None

    def __post_init__(self) -> None:
        self.watch(lambda: None)

    def watch(self, before_change: Callable[[], None]) -> None:
        """Call this before anything is pinned: until then the market was what it is now."""
        object.__setattr__(self, "_before_change", before_change)

    def __setattr__(self, name: str, value: Any) -> None:
        if "_before_change" in self.__dict__:
            self.__dict__["_before_change"]()
        object.__setattr__(self, name, value)


class World:
    """What every twin reads. One clock, one series, one set of overrides; what was pinned stays true of its time."""

    def __init__(self, series: Series, clock: TwinClock) -> None:
        self.series = series
        self.clock = clock
        self.overrides = Overrides()
        self.overrides.watch(self._keep_overrides)
        self._earlier: list[tuple[int, Overrides]] = []
        """What was pinned until a time, oldest first."""

    def now_ms(self) -> int:
        return self.clock.now_ms()

    def _keep_overrides(self) -> None:
        now_ms = self.now_ms()
        if not self._earlier or self._earlier[-1][0] != now_ms:
            self._earlier.append((now_ms, replace(self.overrides)))

    def overrides_at(self, t_ms: int) -> Overrides:
        """Return what was pinned at a time."""
        return next((pinned for until_ms, pinned in self._earlier if t_ms < until_ms), self.overrides)

    def sol_price(self, t_ms: int | None = None) -> float:
        """Return the oracle price of SOL in USD, of a past time as it was then."""
        at_ms = self.now_ms() if t_ms is None else t_ms
        pinned = self.overrides_at(at_ms)
        if pinned.sol_price is not None:
            return pinned.sol_price
        return self.series.sol_price(at_ms) * pinned.sol_price_factor

    def premium(self, t_ms: int | None = None) -> float:
        at_ms = self.now_ms() if t_ms is None else t_ms
        pinned = self.overrides_at(at_ms).premium
        return self.series.premium(at_ms) if pinned is None else pinned

    def running_premium(self, t_ms: int) -> float:
        """Return the mean premium of the running hour so far; a pinned premium counts for all of it."""
        pinned = self.overrides.premium
        return self.series.running_premium(t_ms) if pinned is None else pinned

    def settled_premium(self, hour_ms: int) -> float:
        pinned = self.overrides.premium
        return self.series.settled_premium(hour_ms) if pinned is None else pinned

    def thinness(self, t_ms: int) -> float:
        """Return by how much the market is thinner than in a calm hour (1.0), from the price's range over the last hour."""
        first = max(t_ms - HOUR_MS, self.series.start_ms)
        moments = range(-(-first // PATH_STEP_MS) * PATH_STEP_MS, t_ms + 1, PATH_STEP_MS)
        prices = [self.series.sol_price(one) for one in (*moments, t_ms)]
        return max(1.0, (max(prices) / min(prices) - 1) / CALM_RANGE)

    def rates(self, protocol: int, token: str, t_ms: int | None = None) -> LendingRates:
        found = self.series.rates(protocol, token, self.now_ms() if t_ms is None else t_ms)
        if self.overrides.borrow_apr is not None and token == "USDC":
            return LendingRates(found.lend_apr, self.overrides.borrow_apr, found.available)
        return found

    def staking_apy(self, lst: str, t_ms: int | None = None) -> float:
        return self.series.staking_apy(lst, self.now_ms() if t_ms is None else t_ms)

    def redemption_rate(self, symbol: str, t_ms: int | None = None) -> float:
        """Return SOL per token; 1.0 for SOL itself."""
        if symbol == "SOL":
            return 1.0
        return self.series.redemption_rate(symbol, self.now_ms() if t_ms is None else t_ms)

    def token_price(self, symbol: str, t_ms: int | None = None) -> float:
        """Return the market price in USD of SOL, an LST or USDC."""
        if symbol == "USDC":
            return 1.0
        peg = self.overrides.lst_peg.get(symbol, 1.0)
        return self.sol_price(t_ms) * self.redemption_rate(symbol, t_ms) * peg

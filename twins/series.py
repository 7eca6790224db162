"""Where the world's numbers come from: recorded venue series, or a seeded model when there are none.

Lending rates were recorded as yearly percentages with compounding; the world speaks simple APR, so they are converted.
"""

from __future__ import annotations

import csv
import gzip
import math
import random
from bisect import bisect_right
from dataclasses import dataclass, replace
from pathlib import Path

from twins.premium import HourPremium, running
from twins.world import HOUR_MS, LendingRates

HOURS_PER_YEAR = 8760
EPOCH_HOURS = 48
"""Staking rewards arrive once an epoch; in 2025 an epoch took about two days. Here they begin at whole multiples of it since
1970: when they really began was not recorded."""

JITOSOL_RATE_AT_START = 1.2105
"""SOL per jitoSOL where the recorded yield begins. The ratio itself was not recorded: it is carried forward from the
stake pool's state of epoch 539 (1.0734, December 2023) at the recorded yield of about 7 % a year."""

MAX_CARRY_HOURS = 6
"""A rate that is missing for longer than this counts as not offered, rather than as unchanged."""


def funding_rate_hourly(premium: float) -> float:
    """Return the venue's hourly rate from the hour's average premium index (Hyperliquid docs, trading/funding)."""
    eight_hours = premium + max(-0.0005, min(0.0005, 0.0001 - premium))
    return max(-0.04, min(0.04, eight_hours / 8))


def simple_apr(apy: float) -> float:
    """Return the simple yearly rate whose hourly compounding gives `apy`."""
    return HOURS_PER_YEAR * (math.pow(1 + apy, 1 / HOURS_PER_YEAR) - 1)


@dataclass(frozen=True)
class Candle:
    """One hour of trade prices in USD."""

    open: float
    high: float
    low: float
    close: float
    low_first: bool = True
    """Which extreme came first was not recorded: it is drawn, so that it does not say on which side the hour closes."""

    def at(self, fraction: float) -> float:
        """Return the price after `fraction` of the hour, along open, one extreme, the other extreme, close."""
        first, second = (self.low, self.high) if self.low_first else (self.high, self.low)
        points = (self.open, first, second, self.close)
        leg = min(2, int(fraction * 3))
        within = fraction * 3 - leg
        return points[leg] + (points[leg + 1] - points[leg]) * within


def _rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as lines:
        return list(csv.DictReader(lines))


class RecordedSeries:
    """Hourly SOL funding with premium, SOL prices, Kamino and Marginfi rates and jitoSOL staking, as recorded."""

    source = "recorded"

    def __init__(self, data: Path) -> None:
        self._candles = self._load_candles(data)
        self._funding = {
            int(row["time_ms"]) // HOUR_MS: (
                int(row["time_ms"]),
                float(row["funding_rate"]),
                float(row["premium"]),
            )
            for row in _rows(data / "hyperliquid-funding" / "SOL_hourly.csv.gz")
        }
        self._premium = running({hour - 1: premium for hour, (_, _, premium) in self._funding.items()})
        self._lending = {
            (protocol, token): self._load_rates(
                data / "solana-lending" / f"{name}_{token.lower()}_hourly.csv.gz"
            )
            for protocol, name in ((0, "marginfi"), (1, "kamino"))
            for token in ("SOL", "USDC")
        }
        self._lending_hours = {key: sorted(rates) for key, rates in self._lending.items()}
        self._staking = {
            int(row["hour_ms"]) // HOUR_MS: float(row["apy_avg"])
            for row in _rows(data / "lst" / "jitosol_staking_apy_hourly.csv.gz")
        }
        self._staking_hours = sorted(self._staking)
        first = max(min(self._staking_hours), min(hour for hour, _ in self._lending[1, "USDC"].items()))
        last = min(max(self._candles), max(self._funding), max(self._staking_hours))
        self.start_ms, self.end_ms = first * HOUR_MS, last * HOUR_MS
        self._redemption = self._grow(first, last)

    @staticmethod
    def _load_candles(data: Path) -> dict[int, Candle]:
        found: dict[int, Candle] = {}
        names = ("okx-perp/SOL-USDT-SWAP_1h.csv.gz", "hyperliquid-candles/SOL_1h.csv.gz")
        for path in (data / name for name in names):
            for row in _rows(path):
                opened, high, low, close = (float(row[key]) for key in ("open", "high", "low", "close"))
                hour = int(row["open_ms"]) // HOUR_MS
                found[hour] = Candle(opened, high, low, close, random.Random(hour).random() < 0.5)
        return found

    @staticmethod
    def _load_rates(path: Path) -> dict[int, LendingRates]:
        return {
            int(row["hour_ms"]) // HOUR_MS: LendingRates(
                simple_apr(float(row["lend_avg"]) / 100), simple_apr(float(row["borrow_avg"]) / 100)
            )
            for row in _rows(path)
        }

    def _grow(self, first: int, last: int) -> dict[int, float]:
        """SOL per jitoSOL as of the last epoch's start, compounding the recorded yield."""
        rate, grown = JITOSOL_RATE_AT_START, {}
        epoch_start = rate
        for hour in range(first - first % EPOCH_HOURS, last + 1):
            if hour % EPOCH_HOURS == 0:
                epoch_start = rate
            grown[hour] = epoch_start
            rate *= math.pow(1 + self.staking_apy("jitoSOL", hour * HOUR_MS), 1 / HOURS_PER_YEAR)
        return grown

    def sol_price(self, t_ms: int) -> float:
        """Return the oracle's price: what was recorded is the perpetual's trades, which stand a premium above it."""
        hour = t_ms // HOUR_MS
        candle = self._candles.get(hour)
        if candle is None:
            raise ValueError(
                f"no recorded SOL price at world time {t_ms} ms; recorded until {self.end_ms} ms"
            )
        return candle.at((t_ms % HOUR_MS) / HOUR_MS) / (1 + self.premium(t_ms))

    def _hour_premium(self, t_ms: int) -> HourPremium:
        found = self._premium.get(t_ms // HOUR_MS)
        if found is None:
            raise ValueError(f"no recorded premium at world time {t_ms} ms; recorded until {self.end_ms} ms")
        return found

    def premium(self, t_ms: int) -> float:
        return self._hour_premium(t_ms).at((t_ms % HOUR_MS) / HOUR_MS)

    def running_premium(self, t_ms: int) -> float:
        return self._hour_premium(t_ms).mean_until((t_ms % HOUR_MS) / HOUR_MS)

    def settled_premium(self, hour_ms: int) -> float:
        settled = self._funding.get(hour_ms // HOUR_MS)
        if settled is None:
            raise ValueError(f"no hour was settled at {hour_ms} ms; recorded until {self.end_ms} ms")
        return settled[2]

    def funding_history(self, start_ms: int, end_ms: int) -> list[tuple[int, float, float]]:
        hours = range(start_ms // HOUR_MS, end_ms // HOUR_MS + 1)
        rows = (self._funding[hour] for hour in hours if hour in self._funding)
        return [row for row in rows if start_ms <= row[0] <= end_ms]

    def rates(self, protocol: int, token: str, t_ms: int) -> LendingRates:
        """Return the recorded rates. jitoSOL is offered where its protocol's USDC market was recorded; it earns no
        lending rate of its own. What is not offered any more goes on at its last rate for those who hold it.
        """
        recorded = self._lending.get((protocol, "USDC" if token == "jitoSOL" else token))
        if recorded is None:
            return LendingRates(0.0, 0.0, available=False)
        hour = t_ms // HOUR_MS
        hours = self._lending_hours[protocol, "USDC" if token == "jitoSOL" else token]
        place = bisect_right(hours, hour)
        if place == 0:
            return LendingRates(0.0, 0.0, available=False)
        last = hours[place - 1]
        rates = LendingRates(0.0, 0.0) if token == "jitoSOL" else recorded[last]
        return replace(rates, available=hour - last <= MAX_CARRY_HOURS)

    def staking_apy(self, lst: str, t_ms: int) -> float:
        if lst != "jitoSOL":
            return 0.0
        place = bisect_right(self._staking_hours, t_ms // HOUR_MS)
        return self._staking[self._staking_hours[max(0, place - 1)]]

    def redemption_rate(self, lst: str, t_ms: int) -> float:
        if lst != "jitoSOL":
            return 1.0
        return self._redemption[min(max(t_ms // HOUR_MS, self.start_ms // HOUR_MS), self.end_ms // HOUR_MS)]


class ModelSeries:
    """A seeded market for when nothing was recorded: calm carry, a run of the price, then funding that turns.

    The phases come at fixed hours so that a demo meets each of them; the noise comes from the seed.
    """

    source = "model"
    RUN = (60, 110)
    RUN_FACTOR = 0.86
    TURN_HOUR = 300
    HISTORY_HOURS = 400

    def __init__(self, seed: int, start_ms: int, hours: int = 2000) -> None:
        chance = random.Random(seed)
        self.start_ms = start_ms // HOUR_MS * HOUR_MS
        self.end_ms = self.start_ms + hours * HOUR_MS
        self._first = self.start_ms // HOUR_MS
        self._log_price = [math.log(160.0)]
        self._means: dict[int, float] = {}
        noise = 0.0
        for hour in range(-self.HISTORY_HOURS, hours + 2):
            noise = 0.7 * noise + chance.gauss(0.0, 0.00012)
            self._means[hour] = (0.0007 if hour < self.TURN_HOUR else -0.0016) + noise
        self._premium = running(self._means)
        for hour in range(hours + 2):
            drift = (
                math.log(self.RUN_FACTOR) / (self.RUN[1] - self.RUN[0])
                if self.RUN[0] <= hour < self.RUN[1]
                else 0.0
            )
            pull = -0.01 * (self._log_price[-1] - math.log(160.0)) if hour > self.RUN[1] + 200 else 0.0
            self._log_price.append(self._log_price[-1] + drift + pull + chance.gauss(0.0, 0.0025))

    def _hours_in(self, t_ms: int) -> tuple[int, float]:
        since = max(0, t_ms - self.start_ms)
        return since // HOUR_MS, (since % HOUR_MS) / HOUR_MS

    def sol_price(self, t_ms: int) -> float:
        hour, fraction = self._hours_in(t_ms)
        hour = min(hour, len(self._log_price) - 2)
        return math.exp(self._log_price[hour] * (1 - fraction) + self._log_price[hour + 1] * fraction)

    def _hour_of(self, t_ms: int) -> int:
        return max(-self.HISTORY_HOURS, min((t_ms - self.start_ms) // HOUR_MS, max(self._means)))

    def premium(self, t_ms: int) -> float:
        return self._premium[self._hour_of(t_ms)].at((t_ms % HOUR_MS) / HOUR_MS)

    def running_premium(self, t_ms: int) -> float:
        return self._premium[self._hour_of(t_ms)].mean_until((t_ms % HOUR_MS) / HOUR_MS)

    def settled_premium(self, hour_ms: int) -> float:
        return self._means[self._hour_of(hour_ms - 1)]

    def funding_history(self, start_ms: int, end_ms: int) -> list[tuple[int, float, float]]:
        first = max(start_ms, self.start_ms - (self.HISTORY_HOURS - 1) * HOUR_MS)
        rows = []
        for hour in range(-(-first // HOUR_MS), end_ms // HOUR_MS + 1):
            premium = self.settled_premium(hour * HOUR_MS)
            settled_ms = hour * HOUR_MS + 37
            if settled_ms <= end_ms:
                rows.append((settled_ms, round(funding_rate_hourly(premium), 10), round(premium, 10)))
        return rows

    def rates(self, protocol: int, token: str, t_ms: int) -> LendingRates:
        """Return the model's rates: each protocol has its own level and a slow daily swing; Drift is not offered."""
        if protocol == 3:
            return LendingRates(0.0, 0.0, available=False)
        swing = 0.004 * math.sin(2 * math.pi * (t_ms / HOUR_MS % 24) / 24 + protocol)
        level = (0.062, 0.058, 0.066)[protocol]
        if token == "USDC":
            return LendingRates(level - 0.014 + swing, level + swing)
        if token == "SOL":
            return LendingRates(0.047 + swing, 0.064 + swing)
        return LendingRates(0.0012, 0.012)

    def staking_apy(self, lst: str, t_ms: int) -> float:
        return {"jitoSOL": 0.066, "jupSOL": 0.068, "INF": 0.064}.get(lst, 0.0)

    def redemption_rate(self, lst: str, t_ms: int) -> float:
        base = {"jitoSOL": 1.22, "jupSOL": 1.13, "INF": 1.36}.get(lst, 1.0)
        epochs = self._hours_in(t_ms)[0] // EPOCH_HOURS
        return base * math.pow(1 + self.staking_apy(lst, t_ms), epochs * EPOCH_HOURS / HOURS_PER_YEAR)

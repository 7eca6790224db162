"""The market of a back-test from a folder of recorded series: Hyperliquid, OKX before it, Kamino, and jitoSOL's staking."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from analytics.research.liquidations import LenderRule
from analytics.research.market import Column, Market, Venues, staked
from evenkeel.clock import as_datetime
from evenkeel.errors import OperatorError
from evenkeel.settings.carry import Staking
from evenkeel.units import HOUR_MS

KAMINO = 1
KAMINO_RULES = {"SOL": LenderRule(0.80, 0.02), "jitoSOL": LenderRule(0.78, 0.02)}
"""Liquidation threshold and penalty that are assumed: neither was recorded."""
MAX_LEVERAGE = 4.0
CARRY_HOURS = 6
"""For so long an hourly rate is carried over hours that were not recorded; then the daily one is used."""
FILES = {
    "perp": "hyperliquid-candles/SOL_1h.csv.gz",
    "okx": "okx-perp/SOL-USDT-SWAP_1h.csv.gz",
    "funding": "hyperliquid-funding/SOL_hourly.csv.gz",
    "sol": "solana-lending/kamino_sol_hourly.csv.gz",
    "usdc": "solana-lending/kamino_usdc_hourly.csv.gz",
    "sol_daily": "solana-lending/kamino_sol_daily.csv.gz",
    "usdc_daily": "solana-lending/kamino_usdc_daily.csv.gz",
    "staking": "lst/jitosol_staking_apy_hourly.csv.gz",
}
Rows = list[dict[str, str]]


def read_recorded(folder: Path, asset: str, staking: Staking) -> Market:
    """Return every hour for which funding was recorded. Raises OperatorError where a file or the asset is not there."""
    if asset not in KAMINO_RULES:
        raise OperatorError(f"nothing was recorded of {asset}: choose {' or '.join(KAMINO_RULES)}")
    rows = {name: _rows(folder / path) for name, path in FILES.items()}
    settled = {_hour(row, "time_ms") - 1: row for row in rows["funding"]}
    first, last = min(settled), max(settled)
    span = range(first, last + 1)

    def column(found: dict[int, float]) -> Column:
        return np.array([found.get(hour, math.nan) for hour in span])

    perp = {_hour(row, "open_ms"): row for row in rows["perp"]}
    candles = {_hour(row, "open_ms"): row for row in rows["okx"]} | perp
    prices: dict[str, Any] = {
        name: column({hour: float(row[name]) for hour, row in candles.items()})
        for name in ("open", "high", "low", "close")
    }
    lend = _rates(rows["sol"], rows["sol_daily"], "lend_avg", "apy_supply", span)
    borrow = _rates(rows["usdc"], rows["usdc_daily"], "borrow_avg", "apy_borrow", span)
    yields, assumed = _staking(rows["staking"], span, asset, staking)
    is_sol = asset == "SOL"
    return Market(
        asset=asset,
        first_ms=first * HOUR_MS,
        venues=Venues(KAMINO, KAMINO_RULES[asset], MAX_LEVERAGE),
        **prices,
        premium=column({hour: float(row["premium"]) for hour, row in settled.items()}),
        funding=column({hour: float(row["funding_rate"]) for hour, row in settled.items()}),
        lend_apr=lend if is_sol else np.zeros(len(span)),
        borrow_apr=borrow,
        staking_apr=np.zeros(len(span)) if is_sol else yields,
        redemption=np.ones(len(span)) if is_sol else staked(yields, first_hour=first),
        capacity_usd=_capacity(rows["usdc_daily"], span),
        notes=_notes(perp, rows, None if is_sol else assumed, asset),
    )


def _rows(path: Path) -> Rows:
    try:
        with gzip.open(path, "rt", newline="") as lines:
            return list(csv.DictReader(lines))
    except OSError as error:
        raise OperatorError(f"recorded series {path} cannot be read: {error}; see --data") from error


def _hour(row: dict[str, str], key: str) -> int:
    return int(row[key]) // HOUR_MS


def _simple(percent: str) -> float:
    """A simple yearly rate of a percentage that compounds (docs/deviations.md, row 33)."""
    return math.log1p(float(percent) / 100)


def _rates(hourly: Rows, daily: Rows, by_hour: str, by_day: str, span: range) -> Column:
    """The hour's own mean; where it was not recorded the last one of at most six hours before, else the last daily one."""
    means = {_hour(row, "hour_ms"): _simple(row[by_hour]) for row in hourly}
    days = _as_of(daily, lambda row: _simple(row[by_day]), span)
    found = []
    for place, hour in enumerate(span):
        recent = (means[hour - back] for back in range(CARRY_HOURS + 1) if hour - back in means)
        found.append(next(recent, float(days[place])))
    return np.array(found)


def _as_of(daily: Rows, value: Callable[[dict[str, str]], float], span: range) -> Column:
    """Of each hour the last row that was there when it began; NaN before the first."""
    stamps = np.array([int(row["time_ms"]) for row in daily])
    values = np.array([math.nan, *(value(row) for row in daily)])
    starts = np.array([hour * HOUR_MS for hour in span])
    return np.asarray(values[np.searchsorted(stamps, starts, side="right")])


def _capacity(daily: Rows, span: range) -> Column:
    """What could still be borrowed of the USDC that was supplied."""
    return _as_of(daily, lambda row: float(row["supply_usd"]) - float(row["borrow_usd"]), span)


def _staking(recorded: Rows, span: range, asset: str, staking: Staking) -> tuple[Column, bool]:
    """Yields by hour, and whether any had to be assumed: before the first that was recorded."""
    seen = {_hour(row, "hour_ms"): math.log1p(float(row["apy_avg"])) for row in recorded}
    last, found = float(staking.assumed_apr(asset)), []
    for hour in span:
        last = seen.get(hour, last)
        found.append(last)
    return np.array(found), not seen or span.start < min(seen)


def _notes(
    perp: dict[int, dict[str, str]], rows: dict[str, Rows], assumed: bool | None, asset: str
) -> tuple[str, ...]:
    def day(hour: int) -> str:
        return f"{as_datetime(hour * HOUR_MS):%Y-%m-%d}"

    rule = KAMINO_RULES[asset]
    lines = [
        f"prices before {day(min(perp))} are OKX's, from then on Hyperliquid's",
        f"lending rates before {day(_hour(rows['usdc'][0], 'hour_ms'))} are Kamino's daily ones, then hourly means",
        "no candles of five minutes were recorded: inside an hour the price goes by open, extremes and close",
        f"Kamino liquidates {asset} at a loan-to-value of {rule.threshold:.0%} with a penalty of {rule.penalty:.0%}, "
        f"and lends up to {MAX_LEVERAGE:g}x: assumed",
    ]
    if assumed is not None:
        lines.append(f"{asset} earns no lending rate as collateral: assumed")
    if assumed:
        lines.append(
            f"staking before {day(_hour(rows['staking'][0], 'hour_ms'))} is the yield of [staking] in the settings"
        )
    return tuple(lines)

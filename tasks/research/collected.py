"""The market of a back-test from what the product itself has collected into its ledger (`evenkeel collect`)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

import numpy as np

from analytics.research.liquidations import LenderRule
from analytics.research.market import Column, Market, Venues
from analytics.research.path import Bar, Path, path_of_bars
from evenkeel.errors import OperatorError
from evenkeel.settings.carry import Staking
from evenkeel.units import DAY_MS, HOUR_MS, YEAR_MS
from state.store import Store
from strategy.carry.limits import PROTOCOL_NAMES
from tasks.carry.books.series import BARS, FIVE_MINUTES_MS, FUNDING, PARTS, PREMIUM, VENUE
from tasks.carry.mark import UNDERLYING
from tasks.carry.market import MIN_STAKING_SPAN_MS
from venues.asgard.models import RESIZABLE

KAMINO = 1
MAX_LEVERAGE = 4.0
RULES = {"SOL": LenderRule(0.80, 0.02)}
STAKED_RULE = LenderRule(0.78, 0.02)
"""Liquidation threshold and penalty that are assumed: neither is collected."""
BARS_AN_HOUR = HOUR_MS // FIVE_MINUTES_MS
STAKING_WINDOW_MS = 30 * DAY_MS
SCHEDULE = "the hourly schedule `collect` stores them (`evenkeel collect` by hand)"
Points = list[tuple[int, Decimal]]


def read_collected(store: Store, asset: str, staking: Staking, protocol: int = KAMINO) -> Market:
    """Return every hour from the first to the last of which the ledger has a candle or settled funding. What was not
    collected is NaN.

    Raises OperatorError that names what a back-test needs and the ledger has not, and what collects it.
    """
    lender = f"{asset}/USDC@{protocol}"
    candles = _candles(store, HOUR_MS)
    settled = _by_hour(store.rate_points(VENUE, UNDERLYING, FUNDING), ended=True)
    lend = _by_hour(store.rate_points("asgard", lender, "lend_apr"))
    borrow = _by_hour(store.rate_points("asgard", lender, "borrow_apr"))
    _refuse_lack(store, asset, lender, {"candles": candles, "settled funding": settled, "rates": borrow})
    hours = candles.keys() | settled.keys()
    span = range(min(hours), max(hours) + 1)
    premium = _by_hour(store.rate_points(VENUE, UNDERLYING, "premium"))
    premium |= _by_hour(store.rate_points(VENUE, UNDERLYING, PREMIUM), ended=True)
    capacity = _by_hour(store.price_points("asgard", lender, "borrow_capacity"))
    inner = _inner(store, candles, span)
    redemption, yields, assumed = _staking(store, asset, staking, span)

    def column(found: dict[int, float]) -> Column:
        return np.array([found.get(hour, math.nan) for hour in span])

    rule = RULES.get(asset, STAKED_RULE)
    return Market(
        asset=asset,
        first_ms=span.start * HOUR_MS,
        venues=Venues(protocol, rule, MAX_LEVERAGE, can_resize=protocol in RESIZABLE),
        **{
            part: column({hour: bar[place] for hour, bar in candles.items()})
            for place, part in enumerate(PARTS)
        },
        premium=column(premium),
        funding=column(settled),
        lend_apr=column(lend),
        borrow_apr=column(borrow),
        staking_apr=yields,
        redemption=redemption,
        capacity_usd=column(capacity),
        source="collected",
        inner=inner,
        notes=_notes(asset, protocol, rule, span, column(borrow), column(capacity), len(inner), assumed),
    )


def _by_hour(points: Points, *, ended: bool = False) -> dict[int, float]:
    """The mean of what was seen in each hour. `ended`: a figure is stamped with its hour's end."""
    seen: dict[int, list[float]] = defaultdict(list)
    for at_ms, value in points:
        seen[at_ms // HOUR_MS - ended].append(float(value))
    return {
        hour: values[0] if len(values) == 1 else sum(values) / len(values) for hour, values in seen.items()
    }


def _candles(store: Store, length_ms: int) -> dict[int, Bar]:
    """By their number since 1970: open, high, low, close of each candle that is whole."""
    name = BARS[length_ms]
    parts = [dict(store.price_points(VENUE, UNDERLYING, f"{part}_{name}")) for part in PARTS]
    found = {}
    for at_ms in parts[0]:
        if all(at_ms in part for part in parts):
            open_, high, low, close = (float(part[at_ms]) for part in parts)
            found[at_ms // length_ms] = (open_, high, low, close)
    return found


def _inner(store: Store, candles: dict[int, Bar], span: range) -> dict[int, Path]:
    """The way inside each hour, by its place in the span, where all its candles of five minutes were collected."""
    small = _candles(store, FIVE_MINUTES_MS)
    found = {}
    for hour in sorted({number // BARS_AN_HOUR for number in small} & candles.keys()):
        numbers = range(hour * BARS_AN_HOUR, (hour + 1) * BARS_AN_HOUR)
        if all(number in small for number in numbers):
            found[hour - span.start] = path_of_bars([small[number] for number in numbers])
    return found


def _staking(store: Store, asset: str, staking: Staking, span: range) -> tuple[Column, Column, int]:
    """Redemption rate and yearly yield of each hour, and in how many hours the yield had to be assumed. The yield is the
    growth of the last 30 days' redemption rates, as the live product measures it.
    """
    if asset == UNDERLYING:
        return np.ones(len(span)), np.zeros(len(span)), 0
    points = store.price_points("solana", asset, "redemption")
    times, rates = np.array([at for at, _ in points]), np.array([float(rate) for _, rate in points])
    redemption, yields = np.full(len(span), math.nan), np.empty(len(span))
    assumed = 0
    for place, hour in enumerate(span):
        end_ms = (hour + 1) * HOUR_MS
        first, last = np.searchsorted(times, (end_ms - STAKING_WINDOW_MS, end_ms))
        if last > 0 and times[last - 1] >= end_ms - HOUR_MS:
            redemption[place] = rates[last - 1]
        lasted_ms = int(times[last - 1] - times[first]) if last - first > 1 else 0
        if lasted_ms >= MIN_STAKING_SPAN_MS:
            yields[place] = (rates[last - 1] / rates[first] - 1) * YEAR_MS / lasted_ms
        else:
            yields[place] = float(staking.assumed_apr(asset))
            assumed += 1
    return redemption, yields, assumed


def _refuse_lack(
    store: Store, asset: str, lender: str, needed: dict[str, dict[int, Bar] | dict[int, float]]
) -> None:
    lacking = [name for name, found in needed.items() if not found and name != "rates"]
    if lacking:
        raise OperatorError(
            f"the ledger holds no {' and no '.join(lacking)} of {UNDERLYING}-PERP: {SCHEDULE}; or name a folder of recorded "
            "series with --data"
        )
    if not needed["rates"]:
        known = ", ".join(_in_words(store.rate_markets("asgard", "borrow_apr"))) or "none"
        [name] = _in_words([lender])
        raise OperatorError(
            f"the ledger holds no lending rates of {name}: {SCHEDULE} of what Asgard offers; collected so far: {known}"
        )


def _in_words(markets: Iterable[str]) -> list[str]:
    """`SOL/USDC@1` as a person reads it."""
    pairs = (market.partition("/USDC@") for market in markets)
    return [f"{asset} on {PROTOCOL_NAMES.get(int(number), number)}" for asset, _, number in pairs]


def _notes(
    asset: str,
    protocol: int,
    rule: LenderRule,
    span: range,
    borrow: Column,
    capacity: Column,
    inner: int,
    assumed: int,
) -> tuple[str, ...]:
    name, hours = PROTOCOL_NAMES[protocol], len(span)
    rated, room = (int(np.count_nonzero(~np.isnan(one))) for one in (borrow, capacity))
    lines = [
        "all series are the ledger's: Hyperliquid's candles and settled funding as `evenkeel collect` stored them, and what "
        f"was read of {name}",
        f"lending rates are the mean of what was read of {name} in an hour: {rated} of {hours} hours have one; in the others "
        "nothing accrues, nothing is entered and none is left for its carry",
        f"what {name} could still lend was read in {room} of {hours} hours: in the others nothing is entered",
        f"in {inner} of {hours} hours the price goes along candles of five minutes; in the others along the hour's own candle, "
        "by open, extremes and close",
        f"{name} liquidates {asset} at a loan-to-value of {rule.threshold:.0%} with a penalty of {rule.penalty:.0%}, "
        f"and lends up to {MAX_LEVERAGE:g}x: assumed",
    ]
    if asset != UNDERLYING:
        lines.append(
            f"staking pays by the redemption rates that were collected; its yield is expected from their last 30 days, and in "
            f"{assumed} of {hours} hours, where they span less than ten, it is that of [staking] in the settings"
        )
    return tuple(lines)

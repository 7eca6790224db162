"""Metrics of every live position: how it stood at the last tick, what it has earned, and how the watch itself went."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from evenkeel.legs import LegSide
from evenkeel.settings.settings import Settings
from evenkeel.units import HOUR_MS, HOURS_PER_YEAR
from state.carry.models import Position, PositionSnapshot
from state.store import Store
from strategy.carry.liquidation import exit_distance
from strategy.carry.scoring import carry_usd_per_hour, net_carry_apr, total_apr
from tasks.budgets import HYPERLIQUID_WEIGHT_LIMIT
from tasks.carry.books.earned import earned
from tasks.carry.hosts import HYPERLIQUID
from tasks.carry.last_ticks import last_ticks, overdue_after_s
from tasks.carry.mark import LIVE, TICKED

Reading = Callable[[PositionSnapshot], Any]
BY_POSITION = ["position"]
BY_LEG = ["position", "leg"]
BY_VENUE = ["position", "venue"]


def _detail(name: str) -> Reading:
    return lambda last: last.detail.get(name)


OF_A_TICK: dict[str, tuple[str, Reading]] = {
    "equity_usd": ("Equity of both legs together.", lambda last: last.equity_usd),
    "funding_rate_hourly_ratio": (
        "Funding of the running hour, paid to the short.",
        lambda last: last.funding_rate_hourly,
    ),
    "funding_expected_hourly_ratio": (
        "Mean of the settled funding by which the exit is judged.",
        _detail("funding_expected_hourly"),
    ),
    "lend_apr_ratio": ("Interest on the tokens lent out, a year.", _detail("lend_apr")),
    "borrow_apr_ratio": ("Interest on the USDC owed, a year.", _detail("borrow_apr")),
    "staking_apr_ratio": ("Staking yield of the token, a year.", _detail("staking_apr")),
    "delta_sol": ("Long less short.", lambda last: last.delta_sol),
    "long_debt_usd": ("USDC owed by the long.", _detail("debt_usd")),
    "redemption_rate_sol": ("SOL that one token is worth in its own pool.", _detail("redemption_rate")),
}
"""By the name after `evenkeel_`: what it is, and where a tick has it."""
WORKED_OUT = {
    "delta_ratio": "Long less short, as a share of the long.",
    "token_premium_ratio": "Price of the staked token over its redemption value, less one.",
    "net_carry_apr_ratio": "Lending and staking less borrowing on the long's equity, a year.",
    "total_apr_ratio": "Expected funding and net carry on the capital of both legs, a year.",
    "carry_hourly_usd": "What the position earns in an hour at the expected funding.",
    "lending_earned_usd": "Interest received on the tokens so far, at their price of now.",
    "borrow_interest_usd": "Interest paid on the USDC owed so far; below zero.",
    "net_usd": "Result so far by the ledger: price, funding, interest, fees and gas.",
}
"""By the name after `evenkeel_`: what follows from a tick and the books."""
OF_A_LEG = {
    "liquidation_distance_ratio": "Price move that liquidates the leg.",
    "liquidation_limit_ratio": "Distance to liquidation below which the leg is closed.",
    "price_usd": "One SOL at the leg's venue.",
    "leverage_ratio": "Notional over equity.",
}
COUNTED = {
    "venue_calls": "Calls to the venue by the process that watches the position, since that process began.",
    "venue_failures": "Those of them that had no answer, 429 or 5xx.",
    "venue_weight": "Request weight that they took from the venue's budget.",
}
"""By the name between `evenkeel_` and `_total`: what the heartbeat of a watch counts."""


class PositionMetrics:
    """Reads them from one ledger, again at each scrape."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._received: dict[str, tuple[int, int, Decimal]] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, those without a live position too."""
        yield from self._watch()
        store = self._store
        info = InfoMetricFamily("evenkeel_position", "Every position that lives.", labels=BY_POSITION)
        received = _gauge("funding_received_usd", "Funding of all hours that are booked.", BY_POSITION)
        figures = {name: _gauge(name, text, BY_POSITION) for name, (text, _) in OF_A_TICK.items()}
        figures |= {name: _gauge(name, text, BY_POSITION) for name, text in WORKED_OUT.items()}
        legs = {name: _gauge(name, text, BY_LEG) for name, text in OF_A_LEG.items()}
        for position in store.carry.positions(LIVE):
            name = position.position_id
            info.add_metric([name], _described(position))
            funding = self._received_usd(name)
            add(received, [name], funding)
            last = store.carry.last_snapshot(name)
            if last is None:
                continue
            for metric, (_, of) in OF_A_TICK.items():
                add(figures[metric], [name], of(last))
            found = earned(store, last, funding)
            for metric, value in _worked_out(position, last).items():
                add(figures[metric], [name], value)
            if found is not None:
                add(figures["lending_earned_usd"], [name], found.lending_usd)
                add(figures["borrow_interest_usd"], [name], found.borrow_usd)
                add(figures["net_usd"], [name], found.net_usd)
            for leg in LegSide:
                add(
                    legs["liquidation_distance_ratio"],
                    [name, leg],
                    getattr(last, f"{leg}_liquidation_distance"),
                )
                add(legs["liquidation_limit_ratio"], [name, leg], self._limit(position, leg))
                add(legs["price_usd"], [name, leg], getattr(last, f"{leg}_price_usd"))
                add(legs["leverage_ratio"], [name, leg], last.detail.get(f"{leg}_leverage"))
        yield from (info, received, *figures.values(), *legs.values())

    def _watch(self) -> Iterator[Metric]:
        ages = _gauge(
            "last_tick_seconds", "Since somebody looked at the position or moved an order of it.", BY_POSITION
        )
        allowed = _gauge("last_tick_limit_seconds", "Most of them before it is not watched.", BY_POSITION)
        took = _gauge("tick_duration_seconds", "What the last tick took to read and judge.", BY_POSITION)
        counted = {
            name: CounterMetricFamily(f"evenkeel_{name}", text, labels=BY_VENUE)
            for name, text in COUNTED.items()
        }
        most = _gauge(
            "venue_weight_limit", "Weight a minute that the venue grants to one address.", ["venue"]
        )
        most.add_metric([HYPERLIQUID], HYPERLIQUID_WEIGHT_LIMIT)
        for one in last_ticks(self._store):
            ages.add_metric([one.position_id], one.age_s)
            allowed.add_metric([one.position_id], overdue_after_s(self._settings))
        for row in self._store.heartbeats():
            if row.name.startswith(TICKED):
                name = row.name.removeprefix(TICKED)
                add(took, [name], row.detail.get("took_s"))
                for metric, family in counted.items():
                    for venue, count in (row.detail.get(metric) or {}).items():
                        add(family, [name, venue], count)
        yield from (ages, allowed, took, most, *counted.values())

    def _limit(self, position: Position, leg: LegSide) -> Decimal | None:
        """None where the entry has not been measured yet."""
        at_entry = (position.facts.get("entry_distance") or {}).get(leg)
        return None if at_entry is None else exit_distance(Decimal(at_entry), self._settings.limits)

    def _received_usd(self, position_id: str) -> Decimal:
        """Added up from where the last scrape ended: a position is paid hourly, and held for months. From the start once an
        hour, since a payment may be booked late.
        """
        hour = self._store.clock.now_ms() // HOUR_MS
        added, since_ms, total = self._received.get(position_id, (hour, 0, Decimal(0)))
        if added != hour:
            since_ms, total = 0, Decimal(0)
        for row in self._store.carry.funding_payments(position_id=position_id, since_ms=since_ms):
            if row.hour_ms >= since_ms:
                since_ms, total = row.hour_ms + 1, total + row.usdc
        self._received[position_id] = hour, since_ms, total
        return total


def _gauge(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"evenkeel_{name}", text, labels=labels)


def add(metric: Metric, labels: list[str], value: Any) -> None:
    """Give the metric one more figure; one that is none, or no number, is left out: nothing is above or below it."""
    try:
        figure = None if value is None else float(value)
    except (TypeError, ValueError):
        return
    if figure is not None and figure == figure:
        metric.add_metric(labels, figure)  # type: ignore[attr-defined]


def _described(position: Position) -> dict[str, str]:
    return {
        "asset": position.asset,
        "status": position.status.value,
        "leverage": f"{position.leverage.normalize():f}",
        "protocol": "" if position.protocol is None else str(position.protocol),
    }


def _worked_out(position: Position, last: PositionSnapshot) -> dict[str, Decimal | None]:
    known = {
        name: _decimal(value) for name, value in last.detail.items() if not isinstance(value, dict | list)
    }
    tokens, price, rate = known.get("tokens"), known.get("token_price_usd"), known.get("redemption_rate")
    debt, funding = known.get("debt_usd"), known.get("funding_expected_hourly")
    lend, borrow, staking = known.get("lend_apr"), known.get("borrow_apr"), known.get("staking_apr")
    found: dict[str, Decimal | None] = {}
    if last.delta_sol is not None and tokens and rate:
        found["delta_ratio"] = last.delta_sol / (tokens * rate)
    if price is not None and rate is not None and rate != 1 and last.long_price_usd:
        found["token_premium_ratio"] = price / (last.long_price_usd * rate) - 1
    if lend is None or borrow is None or staking is None:
        return found
    found["net_carry_apr_ratio"] = carry = net_carry_apr(position.leverage, lend, borrow, staking)
    if funding is None:
        return found
    found["total_apr_ratio"] = total_apr(position.leverage, funding * HOURS_PER_YEAR, carry)
    if tokens is not None and price is not None and debt is not None:
        found["carry_hourly_usd"] = carry_usd_per_hour(tokens * price, debt, funding, lend, borrow, staking)
    return found


def _decimal(value: Any) -> Decimal | None:
    """None for what is no finite number."""
    try:
        found = Decimal(str(value))
    except ArithmeticError:
        return None
    return found if found.is_finite() else None

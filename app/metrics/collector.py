"""What the ledger says now, as metrics of Prometheus: read when it is asked for, so that nothing here can be out of date.

Names say their unit. A figure that was not read at the last tick is absent, and not zero. Where the ledger cannot be read,
`evenkeel_ledger_up` is 0 and everything else is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from evenkeel.errors import EvenkeelError
from evenkeel.legs import CARRY
from evenkeel.settings.settings import Settings
from state.carry.models import Position, PositionSnapshot
from state.store import Store
from state.watch_models import Severity
from tasks.carry.last_ticks import last_ticks
from tasks.carry.mark import LIVE
from tasks.desk import make_clock
from tasks.messages.choose import urgency
from tasks.messages.connect import named_channels
from tasks.messages.waiting import quiet_now, silent_s, waiting_for

Reading = Callable[[PositionSnapshot], Any]


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


class LedgerCollector(Collector):
    """Every metric of one ledger."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._received: dict[str, tuple[int, Decimal]] = {}

    def describe(self) -> list[Metric]:
        """Nothing is read before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read everything once. Never raises for a ledger that cannot be read."""
        try:
            if (
                self._settings.clock.world_url
            ):  # a world that is moved by hand says its time only when it is asked
                self._store.clock = make_clock(self._settings)
            found = [*self._positions(), *self._alerts(), *self._orders(), *self._outbox()]
        except EvenkeelError:
            yield GaugeMetricFamily("evenkeel_ledger_up", "Whether the ledger can be read.", 0)
            return
        yield GaugeMetricFamily("evenkeel_ledger_up", "Whether the ledger can be read.", 1)
        yield from found

    def _positions(self) -> Iterator[Metric]:
        store = self._store
        labels = ["position"]
        info = InfoMetricFamily("evenkeel_position", "Every position that lives.", labels=labels)
        ages = GaugeMetricFamily(
            "evenkeel_last_tick_seconds",
            "Since somebody looked at the position or moved an order of it.",
            labels=labels,
        )
        room = GaugeMetricFamily(
            "evenkeel_liquidation_distance_ratio",
            "Price move that liquidates the leg.",
            labels=[*labels, "leg"],
        )
        price = GaugeMetricFamily(
            "evenkeel_price_usd", "One SOL at the leg's venue.", labels=[*labels, "leg"]
        )
        leverage = GaugeMetricFamily(
            "evenkeel_leverage_ratio", "Notional over equity.", labels=[*labels, "leg"]
        )
        premium = GaugeMetricFamily(
            "evenkeel_token_premium_ratio",
            "Price of the staked token over its redemption value, less one.",
            labels=labels,
        )
        earned = GaugeMetricFamily(
            "evenkeel_funding_received_usd", "Funding of all hours that are booked.", labels=labels
        )
        figures = {
            name: GaugeMetricFamily(f"evenkeel_{name}", text, labels=labels)
            for name, (text, _) in OF_A_TICK.items()
        }
        for one in last_ticks(store):
            ages.add_metric([one.position_id], one.age_s)
        for position in store.carry.positions(LIVE):
            name = position.position_id
            info.add_metric([name], _described(position))
            earned.add_metric([name], self._received_usd(name))
            last = store.carry.last_snapshot(name)
            if last is None:
                continue
            for metric, (_, of) in OF_A_TICK.items():
                _add(figures[metric], [name], of(last))
            for leg in ("long", "short"):
                _add(room, [name, leg], getattr(last, f"{leg}_liquidation_distance"))
                _add(price, [name, leg], getattr(last, f"{leg}_price_usd"))
                _add(leverage, [name, leg], last.detail.get(f"{leg}_leverage"))
            _add(premium, [name], _premium(last))
        yield from (info, ages, room, price, leverage, premium, earned, *figures.values())

    def _received_usd(self, position_id: str) -> float:
        """Added up from where the last scrape ended: a position is paid hourly, and held for months."""
        since_ms, total = self._received.get(position_id, (0, Decimal(0)))
        for row in self._store.carry.funding_payments(position_id=position_id, since_ms=since_ms):
            if row.hour_ms >= since_ms:
                since_ms, total = row.hour_ms + 1, total + row.usdc
        self._received[position_id] = since_ms, total
        return float(total)

    def _alerts(self) -> Iterator[Metric]:
        opened = GaugeMetricFamily(
            "evenkeel_alert_open",
            "1 for each open alert; `acknowledged` says whether a person has seen it.",
            labels=["kind", "subject", "severity", "acknowledged"],
        )
        count = GaugeMetricFamily("evenkeel_alerts_open", "Open alerts.", labels=["severity"])
        rows = self._store.alerts(open_only=True)
        for one in rows:
            seen = "yes" if one.seen_ms is not None else "no"
            opened.add_metric([one.kind, one.subject, one.severity, seen], 1)
        for severity in Severity:
            count.add_metric([severity], sum(one.severity is severity for one in rows))
        pauses = GaugeMetricFamily(
            "evenkeel_pause_active", "1 for each pause that holds.", labels=["scope", "by"]
        )
        for pause in {(one.scope, one.breaker or "person") for one in self._store.active_pauses()}:
            pauses.add_metric(list(pause), 1)
        yield from (opened, count, pauses)

    def _orders(self) -> Iterator[Metric]:
        unfinished = self._store.unfinished_intents(CARRY)
        yield GaugeMetricFamily("evenkeel_intents_unfinished", "Orders that are not final.", len(unfinished))
        oldest = min((one.created_ms for one in unfinished), default=None)
        age = 0.0 if oldest is None else (self._store.clock.now_ms() - oldest) / 1000
        yield GaugeMetricFamily(
            "evenkeel_intents_oldest_seconds", "Age of the oldest of them.", max(age, 0.0)
        )

    def _outbox(self) -> Iterator[Metric]:
        store, now_ms = self._store, self._store.clock.now_ms()
        waiting = GaugeMetricFamily("evenkeel_messages_waiting", "Not delivered yet.", labels=["channel"])
        oldest = GaugeMetricFamily(
            "evenkeel_messages_oldest_seconds",
            "Age of the oldest that does not wait for the end of quiet hours.",
            labels=["channel"],
        )
        quiet = quiet_now(self._settings)
        for name in named_channels(self._settings):
            rows = waiting_for(store, name)
            waiting.add_metric([name], len(rows))
            due = [one for one in rows if not quiet or urgency(one.message) == Severity.CRITICAL.rank]
            oldest.add_metric([name], max(0.0, (now_ms - due[0].message.at_ms) / 1000) if due else 0.0)
        yield from (waiting, oldest)
        alive = GaugeMetricFamily("evenkeel_sender_alive_seconds", "Since the sender's last sign of life.")
        if named_channels(self._settings):
            alive.add_metric([], silent_s(store))
        yield alive


def _add(metric: GaugeMetricFamily, labels: list[str], value: Any) -> None:
    """A figure that is none, or odd, is left out."""
    try:
        figure = None if value is None else float(value)
    except (TypeError, ValueError):
        return
    if figure is not None:
        metric.add_metric(labels, figure)


def _described(position: Position) -> dict[str, str]:
    return {
        "asset": position.asset,
        "status": position.status.value,
        "leverage": f"{position.leverage.normalize():f}",
        "protocol": "" if position.protocol is None else str(position.protocol),
    }


def _premium(last: PositionSnapshot) -> float | None:
    """None for plain SOL, which is redeemed for itself, and where a price is missing."""
    rate, token = last.detail.get("redemption_rate"), last.detail.get("token_price_usd")
    if rate is None or token is None or not last.long_price_usd or Decimal(rate) == 1:
        return None
    return float(Decimal(token) / (last.long_price_usd * Decimal(rate)) - 1)

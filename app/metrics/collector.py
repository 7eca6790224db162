"""What the ledger says now, as metrics of Prometheus: read when it is asked for, so that nothing here can be out of date.

Names say their unit. A figure that was not read at the last tick is absent, and not zero. Where the ledger cannot be read,
`evenkeel_ledger_up` is 0 and everything else is absent.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.metrics.accounts import account_metrics
from app.metrics.hedging import HedgingMetrics
from app.metrics.positions import PositionMetrics
from evenkeel.errors import EvenkeelError
from evenkeel.legs import CARRY
from evenkeel.settings.settings import Settings
from state.accounts.store import ACCOUNTS
from state.store import Store
from state.watch_models import Severity
from tasks.desk import make_clock
from tasks.messages.choose import urgency
from tasks.messages.connect import named_channels
from tasks.messages.waiting import quiet_now, silent_s, waiting_for


class LedgerCollector(Collector):
    """Every metric of one ledger."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._positions = PositionMetrics(settings, store)
        self._hedging = HedgingMetrics(settings.hedging, store)

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
            found = [*self._positions.collect(), *self._alerts(), *self._orders(), *self._outbox()]
            found += [*account_metrics(self._store), *self._hedging.collect()]
        except EvenkeelError:
            yield GaugeMetricFamily("evenkeel_ledger_up", "Whether the ledger can be read.", 0)
            return
        yield GaugeMetricFamily("evenkeel_ledger_up", "Whether the ledger can be read.", 1)
        yield from found

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
        unfinished = [one for name in (CARRY, ACCOUNTS) for one in self._store.unfinished_intents(name)]
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

"""Metrics of hedged market making: what is open of each symbol and since when, orders, passes, streams, what was earned."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from analytics.hedging.buckets import Bucket
from evenkeel.settings.hedging import Hedging
from state.hedging.amounts import EXACT
from state.store import Store
from tasks.hedging.running.earned import Earned
from tasks.hedging.running.silence import HEARTBEAT, last_good_ms, silent_s

BY_SYMBOL = ["symbol"]


class HedgingMetrics:
    """Reads them from one ledger, again at each scrape; what was earned is made anew a minute apart at least."""

    def __init__(self, hedging: Hedging, store: Store) -> None:
        self._hedging, self._store = hedging, store
        self._earned = Earned()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, those without a figure too."""
        yield from self._exposures()
        yield from self._orders()
        yield from self._passes()
        yield from self._books()

    def _exposures(self) -> Iterator[Metric]:
        shares = _gauge(
            "open_shares", "Shares of fills that no hedge covers; below zero a hedge buys.", BY_SYMBOL
        )
        usd = _gauge("open_usd", "The same at the price of the latest fill.", BY_SYMBOL)
        age = _gauge("open_seconds", "Since the oldest fill that no hedge covers.", BY_SYMBOL)
        fills = _gauge("fills", "Fills that the chain has.", BY_SYMBOL)
        store, now_ms = self._store.hedging, self._store.clock.now_ms()
        for one in store.exposures():
            shares.add_metric([one.symbol], float(one.open_shares))
            if one.price_usd is not None:
                usd.add_metric([one.symbol], float(EXACT.multiply(one.open_shares, one.price_usd)))
            oldest = store.oldest_open(one.symbol) if one.open_shares else None
            age.add_metric([one.symbol], 0.0 if oldest is None else max(0.0, (now_ms - oldest.at_ms) / 1000))
        for symbol, count in store.counts()[0].items():
            fills.add_metric([symbol], count)
        yield from (shares, usd, age, fills)

    def _orders(self) -> Iterator[Metric]:
        store, now_ms = self._store, self._store.clock.now_ms()
        found = store.hedging.open_orders()
        oldest = min((one.created_ms for one in found), default=now_ms)
        yield _gauge("orders_open", "Hedges that are not final.", value=len(found))
        yield _gauge("order_oldest_seconds", "Age of the oldest of them.", value=(now_ms - oldest) / 1000)
        blocked = sum(one.until_ms > now_ms for one in store.hedging.blocked().values())
        yield _gauge("symbols_blocked", "Symbols that get no order for now.", value=blocked)

    def _passes(self) -> Iterator[Metric]:
        store, now_ms = self._store, self._store.clock.now_ms()
        age = _gauge("last_pass_seconds", "Since a pass succeeded.")
        allowed = _gauge("last_pass_limit_seconds", "Most of them in an open market.")
        silent = _gauge("silent_seconds", "The same where it is too long, in an open market; else absent.")
        behind = _gauge("behind_blocks", "Blocks below the cutoff that are not read.", ["chain"])
        streams = _gauge("stream_up", "1 where node or broker push what wakes a pass early.", ["stream"])
        good_ms = last_good_ms(store)
        if self._hedging.enabled:
            allowed.add_metric([], self._hedging.alert_silence_s)
            if good_ms is not None:
                age.add_metric([], max(0.0, (now_ms - good_ms) / 1000))
                if (too_long_s := silent_s(store, self._hedging, good_ms)) is not None:
                    silent.add_metric([], too_long_s)
        for cursor in store.hedging.cursors():
            behind.add_metric([cursor.chain], max(0, cursor.newest - cursor.next_block + 1))
        last = next((one for one in store.heartbeats() if one.name == HEARTBEAT), None)
        for name, fault in ((last.detail.get("streams") if last else None) or {}).items():
            streams.add_metric([name], 0 if fault else 1)
        yield from (age, allowed, silent, behind, streams)

    def _books(self) -> Iterator[Metric]:
        earned = _gauge("earned_usd", "Realised before fees, by what it was earned by.", ["bucket"])
        fees = _gauge("fees_usd", "Fees that were paid.")
        traded = _gauge("traded_usd", "What was traded on chain.")
        if self._store.hedging.cursors():
            found = self._earned.make(self._store)
            for bucket in Bucket:
                earned.add_metric([bucket.label], float(found.earned(bucket)))
            fees.add_metric([], float(found.fees_usd))
            traded.add_metric([], float(found.chain_usdc))
        yield from (earned, fees, traded)


def _gauge(
    name: str, text: str, labels: list[str] | None = None, value: float | None = None
) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"evenkeel_hedging_{name}", text, value=value, labels=labels)

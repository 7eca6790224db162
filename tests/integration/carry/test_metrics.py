"""What Prometheus reads: of a position that is watched, of alerts and messages, and of a ledger that cannot be read."""

from __future__ import annotations

import asyncio
import urllib.request
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from app.metrics.collector import LedgerCollector
from app.metrics.positions import OF_A_TICK, WORKED_OUT, PositionMetrics, add
from app.metrics.serving import metrics
from evenkeel.legs import CARRY, FundingPayment
from evenkeel.settings.settings import load_settings
from evenkeel.units import HOUR_MS
from flows.carry.report import ReportRequest, account_for
from state.watch_models import Severity
from strategy.carry.liquidation import exit_distance
from tests.carry.rig import Rig, story_rig, watched


def read(rig: Rig, **settings: Any) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels, in the order of their names, as a scrape has them."""
    chosen = rig.desk.settings.model_copy(update=settings)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LedgerCollector(chosen, rig.desk.store))
    return samples(generate_latest(registry).decode())


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (one.name, *(one.labels[label] for label in sorted(one.labels))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


async def test_a_watched_position_is_measured_as_it_was_seen(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        name = await rig.entered(asset="jitoSOL", protocol=1)
        await watched(rig, name, 40)
        store = rig.desk.store
        store.alert("fee_money", Severity.CRITICAL, "t", name)
        store.pause("entries", "a holiday")
        found = read(rig)
        last, position = store.carry.last_snapshot(name), store.carry.position(name)
        assert last is not None
        assert found["evenkeel_ledger_up",] == 1
        for leg in ("long", "short"):
            seen = getattr(last, f"{leg}_liquidation_distance")
            assert found["evenkeel_liquidation_distance_ratio", leg, name] == pytest.approx(float(seen))
            entered = Decimal(position.facts["entry_distance"][leg])
            limit = exit_distance(entered, rig.desk.settings.limits)
            assert found["evenkeel_liquidation_limit_ratio", leg, name] == pytest.approx(float(limit))
        for metric in (*OF_A_TICK, *WORKED_OUT):
            assert (f"evenkeel_{metric}", name) in found, metric
        assert 0 <= found["evenkeel_last_tick_seconds", name] <= 40
        assert found["evenkeel_last_tick_limit_seconds", name] == 90
        assert found["evenkeel_tick_duration_seconds", name] >= 0
        assert abs(found["evenkeel_token_premium_ratio", name]) < 0.01
        assert found["evenkeel_alert_open", "no", "fee_money", "critical", name] == 1
        assert found["evenkeel_pause_active", "person", "entries"] == 1
        assert found["evenkeel_intents_unfinished",] == 0
        assert found["evenkeel_position_info", "jitoSOL", f"{position.leverage:f}", name, "1", "OPEN"] == 1

        rig.world.clock.advance_to(rig.world.now_ms() + 300_000)
        assert read(rig)["evenkeel_last_tick_seconds", name] >= 300


async def test_what_was_earned_is_what_the_report_says(tmp_path: Path) -> None:
    """But for lamports beside the fees of its transactions, which only the chain knows, and the lending at hourly prices."""
    async with story_rig(tmp_path) as rig:
        name = await rig.entered(asset="jitoSOL", protocol=1)
        for _ in range(3):
            await watched(rig, name, 40)
            rig.later(3_540)
        rig.market(sol_price=207.0)
        await watched(rig, name, 40)
        report, _ = await account_for(rig.desk, ReportRequest(position_id=name))
        items, found = report.attribution.items, read(rig)
        assert items["funding"] > 0 and items["borrow"] < 0 < items["lending"]
        assert found["evenkeel_funding_received_usd", name] == pytest.approx(float(items["funding"]))
        assert found["evenkeel_borrow_interest_usd", name] == pytest.approx(float(items["borrow"]), abs=0.01)
        assert found["evenkeel_lending_earned_usd", name] == pytest.approx(float(items["lending"]), abs=0.01)
        booked = sum(one.amount_usd or 0 for one in rig.desk.store.fees(CARRY, name) if one.kind == "gas")
        expected = report.attribution.net_usd - items["gas"] - booked
        assert found["evenkeel_net_usd", name] == pytest.approx(float(expected), abs=0.05)


async def test_a_payment_that_is_booked_late_counts_within_the_hour(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        name = await rig.entered(asset="jitoSOL", protocol=1)
        store, metrics_of = rig.desk.store, PositionMetrics(rig.desk.settings, rig.desk.store)
        first = store.clock.now_ms() // HOUR_MS * HOUR_MS

        def pay(hour_ms: int) -> None:
            paid = FundingPayment(
                venue="hyperliquid",
                account="a",
                coin="SOL",
                hour_ms=hour_ms,
                time_ms=hour_ms + 60,
                usdc=Decimal("0.5"),
                position_size=Decimal(-70),
                funding_rate_hourly=Decimal("0.0001"),
            )
            assert store.carry.record_funding([paid], name) == 1

        def received() -> float:
            [found] = [one for one in metrics_of.collect() if one.name == "evenkeel_funding_received_usd"]
            return found.samples[0].value

        pay(first + 2 * HOUR_MS)
        assert received() == 0.5
        pay(first + 3 * HOUR_MS)
        assert received() == 1.0, "what is new at once"
        pay(first + HOUR_MS)
        rig.later(3_600)
        await rig.desk.clock.refresh()
        assert received() == 1.5


async def test_calls_failures_and_weight_are_counted_by_who_watches(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        name = await rig.entered(asset="jitoSOL", protocol=1)
        await watched(rig, name, 40)
        before = read(rig)
        struck = rig.fault("hyperliquid", "http_500", "info:clearinghouseState", times=2)
        await watched(rig, name, 70)
        after = read(rig)

        def more(metric: str, venue: str) -> float:
            key = (f"evenkeel_{metric}_total", name, venue)
            return after[key] - before[key]

        calls = {venue: more("venue_calls", venue) for venue in ("hyperliquid", "asgard", "solana")}
        assert min(calls.values()) > 0
        assert (
            more("venue_failures", "hyperliquid") == struck.hits == 2
            and more("venue_failures", "asgard") == 0
        )
        assert calls["hyperliquid"] < more("venue_weight", "hyperliquid") <= 60 * calls["hyperliquid"]


def test_what_is_no_number_is_left_out() -> None:
    metric = GaugeMetricFamily("evenkeel_x", "x", labels=["position"])
    for value in (None, "", Decimal("NaN"), float("nan"), "0.5"):
        add(metric, ["p"], value)
    assert [one.value for one in metric.samples] == [0.5]


async def test_a_ledger_that_cannot_be_read_says_so_and_nothing_else(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        with rig.desk.store._engine.begin() as db:
            db.exec_driver_sql("ALTER TABLE alerts RENAME TO gone")
        assert read(rig) == {("evenkeel_ledger_up",): 0.0}


async def test_they_are_served_and_a_port_that_is_taken_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with story_rig(tmp_path) as rig:
        chosen = load_settings(rig.config)
        with metrics(chosen, 0) as nothing:
            assert nothing == ""
        with ExitStack() as stack:
            address = next(
                found
                for port in range(29_100, 29_300)
                if (found := stack.enter_context(metrics(chosen, port)))
            )
            text = await asyncio.to_thread(lambda: urllib.request.urlopen(address, timeout=10).read())
            with metrics(chosen, int(address.rpartition(":")[2].partition("/")[0])) as second:
                assert second == "" and "choose another port" in caplog.text
        assert samples(text.decode())["evenkeel_ledger_up",] == 1

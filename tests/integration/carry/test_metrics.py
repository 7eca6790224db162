"""What Prometheus reads: of a position that is watched, of alerts and messages, and of a ledger that cannot be read."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import urllib.request
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from app.metrics.collector import LedgerCollector
from app.metrics.positions import OF_A_TICK, WORKED_OUT, add
from app.metrics.serving import metrics
from evenkeel.legs import CARRY
from evenkeel.settings.settings import load_settings
from flows.carry.report import ReportRequest, account_for
from state.watch_models import Severity
from strategy.carry.liquidation import exit_distance
from tasks.carry.watching.meanings import MEANINGS
from tasks.messages.compose import anchor, load_meanings
from tests.carry.rig import Rig, story_rig, watched

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"


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


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


async def test_every_rule_asks_for_a_metric_that_there_is_and_every_alert_has_one(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        store = rig.desk.store
        for kind, severity in (("x", Severity.CRITICAL), ("y", Severity.WARNING)):
            store.alert(kind, severity, "t")
        registry = CollectorRegistry(auto_describe=False)
        registry.register(LedgerCollector(rig.desk.settings, store))
        named = {family.name for family in registry.collect()}
    asked = {name for rule in rules() for name in re.findall(r"\bevenkeel_\w+", rule["expr"])}
    assert asked <= {*named, *(f"{one}_info" for one in named)}
    kinds = load_meanings(MEANINGS)
    patterns = [pattern for rule in rules() for pattern in re.findall(r'kind=~?"([^"]+)"', rule["expr"])]
    unknown = [one for one in patterns if not any(re.fullmatch(one, kind) for kind in kinds)]
    assert not unknown, "a rule for an alert that there is not"
    for severity in (Severity.CRITICAL, Severity.WARNING):
        [general] = [one for rule in rules() if f'severity="{severity}"' in (one := rule["expr"])]
        [left_out] = re.findall(r'kind!~"([^"]+)"', general)
        others = [one for rule in rules() if "severity=" not in (one := rule["expr"])]
        for kind in kinds:
            ways = int(not re.fullmatch(left_out, kind)) + sum(
                bool(re.fullmatch(pattern, kind))
                for one in others
                for pattern in re.findall(r'kind=~?"([^"]+)"', one)
            )
            assert ways == 1 or kind == "breaker tripped", (kind, "is paged for once")
    assert {rule["labels"]["severity"] for rule in rules()} == {"critical", "warning"}


def test_every_rule_names_a_place_in_a_document() -> None:
    for rule in rules():
        path, _, fragment = rule["annotations"]["runbook"].partition("#")
        headings = [
            line.lstrip("#").strip()
            for line in (ROOT / path).read_text().splitlines()
            if line.startswith("#")
        ]
        assert not fragment or fragment in {anchor(one) for one in headings}, rule["alert"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")
def test_prometheus_takes_the_rules_and_they_fire(tmp_path: Path) -> None:
    done = subprocess.run(
        ["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = tmp_path / "tests.yml"
    shutil.copy(RULES, tmp_path / "rules.yml")
    written.write_text(yaml.safe_dump(_incident()))
    done = subprocess.run(
        ["promtool", "test", "rules", str(written)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _incident() -> dict[str, Any]:
    """A minute of calm, five of trouble, calm again; what fires within, and that it ends."""
    rows = [
        ("funding_turned", "p1", "warning", "FundingTurned"),
        ("half_distance:long", "p1", "warning", "HealthFalls"),
        ("near_exit:short", "p1", "critical", "NearLiquidation"),
        ("drift_limit", "p1", "warning", "DeltaDrift"),
        ("lst_peg", "p1", "critical", "StakedTokenOffItsValue"),
        ("price_gap", "p1", "warning", "PricesApart"),
        ("outage", "p1", "critical", "VenueOut"),
        ("breaker tripped", "api_errors", "warning", "BreakerOpen"),
        ("order_failed", "p1", "warning", "OrderFailed"),
        ("fee_spike", "p1", "warning", "FeesSpike"),
        ("carry", "p1", "warning", "EvenkeelWarning"),
        ("fee_money", "p1", "critical", "EvenkeelCritical"),
    ]
    trouble = {
        'up{job="evenkeel"}': ("1", "0", "EvenkeelSilent"),
        "evenkeel_ledger_up": ("1", "0", "EvenkeelLedgerUnreadable"),
        'evenkeel_last_tick_seconds{position="p1"}': ("5", "120", "EvenkeelNotWatched"),
        'evenkeel_messages_oldest_seconds{channel="slack"}': ("0", "2000", "EvenkeelMessagesWait"),
        "evenkeel_sender_alive_seconds": ("5", "100", "EvenkeelSenderSilent"),
        "evenkeel_intents_oldest_seconds": ("0", "700", "EvenkeelOrderUnfinished"),
    } | {
        f'evenkeel_alert_open{{kind="{kind}",subject="{subject}",severity="{severity}",acknowledged="no"}}': (
            "_",
            "1",
            alert,
        )
        for kind, subject, severity, alert in rows
    }
    assert {one[2] for one in trouble.values()} == {rule["alert"] for rule in rules()}

    def values(calm: str, bad: str) -> str:
        return " ".join([calm] * 2 + [bad] * 5 + [calm] * 6)

    series = [{"series": name, "values": values(one[0], one[1])} for name, one in trouble.items()]
    expressions = [
        {
            "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
            "eval_time": at,
            "exp_samples": [{"labels": "{}", "value": int(firing)}],
        }
        for at, firing in (("1m", False), ("6m", True), ("12m", False))
        for name in sorted({one[2] for one in trouble.values()})
    ]
    return {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": expressions}],
    }

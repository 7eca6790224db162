"""What Prometheus reads of hedging: what is open and since when, orders, passes, streams, and what was earned."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from app.metrics.collector import LedgerCollector
from app.metrics.serving import metrics
from flows.hedging.hedge import HedgeRequest, hedge_account
from tests.databases import database_fixtures
from tests.hedging_rig import HedgingRig, hedging_rig
from tests.integration.carry.test_metrics import samples
from tests.integration.carry.test_prometheus import empty, free_port, prometheus, until
from tests.integration.hedging.test_operating import settings_of

databases, url, _store = database_fixtures("sqlite")


def read(rig: HedgingRig, collector: LedgerCollector | None = None) -> dict[tuple[str, ...], float]:
    """Every sample of hedging, without the beginning of its name."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector or LedgerCollector(rig.given(), rig.store))
    found = samples(generate_latest(registry).decode())
    begin = "evenkeel_hedging_"
    return {(key[0].removeprefix(begin), *key[1:]): value for key, value in found.items() if begin in key[0]}


async def test_what_is_open_is_measured_and_what_was_earned_once_it_is_hedged(url: str) -> None:
    async with hedging_rig(url) as rig:
        before = read(rig)
        assert before["orders_open",] == 0 and not [
            key for key in before if key[0] in ("earned_usd", "last_pass_seconds")
        ]
        rig.fault("alpaca", "slow", seconds=300)
        rig.trade("AAPL", "sell", "3", "261")
        await rig.one_pass()
        rig.later(30)
        kept = LedgerCollector(rig.given(), rig.store)
        found = read(rig, kept)
        assert (found["open_shares", "AAPL"], found["open_usd", "AAPL"]) == (-3, -783)
        assert found["open_seconds", "AAPL"] >= 30 and found["fills", "AAPL"] == 1
        assert found["orders_open",] == 1 and 30 <= found["order_oldest_seconds",] < 60
        assert found["last_pass_seconds",] == 30 and ("silent_seconds",) not in found
        assert (found["behind_blocks", "base"], found["stream_up", "broker"]) == (0, 0)
        assert found["earned_usd", "spread"] == 0 and found["traded_usd",] == 783
        rig.later(300)
        assert read(rig, kept)["silent_seconds",] == 330
        async with rig.desk() as at:
            done = await hedge_account(at, HedgeRequest(until_ms=rig.clock.now_ms() + 90_000))
        assert done.failed == 0
        found = read(rig, kept)
        assert (found["open_shares", "AAPL"], found["open_seconds", "AAPL"], found["orders_open",]) == (
            0,
            0,
            0,
        )
        earned = sum(value for key, value in found.items() if key[0] == "earned_usd")
        assert (
            earned != 0 and abs(earned - float(_chain_usd(rig)) - float(rig.account.cash) + 1_000_000) < 1e-6
        )


def _chain_usd(rig: HedgingRig) -> Any:
    return rig.chain.market.truth(rig.chain.chain.height())["usdc"]


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus here")
async def test_every_panel_of_hedging_shows_something_in_a_real_prometheus(url: str, tmp_path: Path) -> None:
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "sell", "3", "261")
        await rig.one_pass()
        rig.later(30)
        await rig.one_pass()
        rig.fault("alpaca", "slow", seconds=300)
        rig.trade("AAPL", "sell", "2", "261")
        await rig.one_pass()
        port = free_port()
        with metrics(settings_of(rig, url), port), prometheus(tmp_path, f"127.0.0.1:{port}") as address:
            await until(
                lambda: empty(address, leaves_out="^$", only="evenkeel_hedging") == [],
                "a panel of hedging is empty",
            )

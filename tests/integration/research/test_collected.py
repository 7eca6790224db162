"""A back-test on what `collect` has stored: the twins' own series come back, what was not collected stays missing."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from analytics.research.market import Market
from app.cli import app
from app.demo.environment import write_settings
from evenkeel.clock import SystemClock
from evenkeel.errors import OperatorError
from evenkeel.settings.carry import Staking
from evenkeel.settings.settings import load_settings
from evenkeel.units import HOUR_MS
from state.store import Store
from tasks.carry.books.collect import collect_with_series
from tasks.carry.desk import open_desk
from tasks.carry.market import read_market
from tasks.research.collected import read_collected
from tests.carry.rig import STRATEGY, Rig
from tests.databases import make_ledger
from tests.twins_rig import twins_in_thread
from tests.worlds import START_MS
from twins.clock import TwinClock
from twins.series import ModelSeries
from twins.serve import TwinOptions
from twins.world import World

HOURS = 30
MISSED = range(12, 16)
"""Hours in which nobody collected."""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Twins on a market that moves, and a ledger into which thirty hours of it were collected."""
    series = ModelSeries(7, START_MS)
    world = World(series, TwinClock(series.start_ms, speed=1.0, stepped=True))
    with twins_in_thread(TwinOptions(stepped=True), world) as (twins, loop):
        config = write_settings(tmp_path_factory.mktemp("collected"), twins.announcement(), STRATEGY, "")
        make_ledger(load_settings(config).database.url)
        found = Rig(twins, loop, config)
        asyncio.run(lived(found))
        yield found


async def lived(rig: Rig) -> None:
    """Two minutes after each hour the schedule collects, ten minutes before its end it scans; at last nothing is new."""
    rig.later(120)
    async with open_desk(load_settings(rig.config)) as desk:
        for hour in range(HOURS):
            await desk.clock.refresh()
            if hour not in MISSED:
                await collect_with_series(desk)
            rig.later(48 * 60)
            await desk.clock.refresh()
            if hour not in MISSED:
                await read_market(desk)
            rig.later(12 * 60)
        await desk.clock.refresh()
        assert (await collect_with_series(desk)).series > 0
        assert (await collect_with_series(desk)).series == 0


def hours_of(market: Market) -> range:
    """Columns of the hours through which the test has lived."""
    first = market.hour_at(START_MS)
    return range(first, first + HOURS)


def test_what_was_collected_is_what_the_twins_showed(rig: Rig) -> None:
    store = Store.open(load_settings(rig.config).database.url, SystemClock())
    engine, world = rig.twins.hyperliquid.engine, rig.world
    market = read_collected(store, "jitoSOL", Staking())
    store.close()
    assert market.source == "collected"
    assert market.start_ms(len(market)) == START_MS + HOURS * HOUR_MS, "an hour that is not over is none yet"
    settled = {stamp // HOUR_MS * HOUR_MS: row for stamp, *row in engine.settled["SOL"]}
    for hour in hours_of(market):
        end_ms = market.start_ms(hour + 1)
        assert [market.funding[hour], market.premium[hour]] == [float(one) for one in settled[end_ms]]
        mids = [
            float(engine.market.quote("SOL", at).mid)
            for at in range(market.start_ms(hour), end_ms + 1, 5_000)
        ]
        for column in (market.open, market.high, market.low, market.close):
            assert min(mids) * 0.99999 <= column[hour] <= max(mids) * 1.00001
        assert market.open[hour] == mids[0]
        path = market.inner[hour]
        assert all(min(mids) * 0.99999 <= price <= max(mids) * 1.00001 for _, price in path)
        assert dict(path)[0.5] == pytest.approx(mids[360], rel=1e-6)
    first = hours_of(market)[0]
    gaps = [hour - first for hour in hours_of(market) if math.isnan(market.borrow_apr[hour])]
    assert gaps == list(MISSED), "what nobody read is not filled in"
    assert [math.isnan(market.redemption[first + gap]) for gap in gaps] == [True] * len(gaps)
    rate = world.rates(1, "USDC", START_MS + 60_000).borrow_apr
    assert market.borrow_apr[first] == pytest.approx(rate, rel=0.05)
    assert market.redemption[first] == pytest.approx(world.redemption_rate("jitoSOL", START_MS), rel=1e-6)
    assert np.nanmin(market.capacity_usd) > 0
    assert len(market) >= 168 + HOURS, "the first time reaches back for the hours that are averaged"


def test_the_command_runs_on_the_ledger(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENKEEL_CONFIG", str(rig.config))
    monkeypatch.setenv("EVENKEEL_DATA", str(tmp_path / "nowhere"))
    asked = [
        "backtest",
        "--collected",
        "--from",
        "2025-09-07",
        "--to",
        "2025-09-08",
        "--leverage",
        "2",
        "--json",
    ]
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    body = json.loads(done.stdout)
    assert (body["source"], body["hours"], body["leverage"]) == ("collected", 24, 2)
    assert {"net_apr", "entries", "liquidations", "mean_notional_share", "transfers", "baseline"} <= set(body)
    assert body["baseline"]["time_in_market"] == 1.0
    assert body["entries"] == 1, "the market pays, and its history was collected with it"
    assert any(f": {HOURS - len(MISSED)} of " in note for note in body["notes"]), body["notes"]
    monkeypatch.delenv("EVENKEEL_DATA")
    same = CliRunner().invoke(app, [one for one in asked if one != "--collected"], catch_exceptions=False)
    assert json.loads(same.stdout) == body, "without a folder it is the ledger"
    both = CliRunner().invoke(app, [*asked, "--data", str(tmp_path)])
    assert "choose one" in str(both.exception)
    other = CliRunner().invoke(app, [*asked, "--protocol", "drift"])
    assert "SOL on Kamino" in str(other.exception)


def test_an_empty_ledger_says_what_collects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    make_ledger(url)
    monkeypatch.setenv("EVENKEEL_DATABASE__URL", url)
    done = CliRunner().invoke(app, ["backtest", "--collected"])
    assert isinstance(done.exception, OperatorError)
    assert "`collect`" in str(done.exception) and "--data" in str(done.exception)

"""Pauses and breakers at work: entries are refused with the reason, exits never, and everybody can see why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.actions import status
from evenkeel.legs import PositionStatus
from evenkeel.settings.host import Admin
from evenkeel.settings.settings import Settings, load_settings
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.monitor import MonitorRequest, watch_position
from flows.carry.rebalance import RebalanceRequest, rebalance_position
from tasks.admin import make_hash
from tests.carry.rig import Rig, story_rig
from tests.interruptions import hooked

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}
KEY = "a key of our own, 27 letters"


def with_admin(rig: Rig) -> None:
    rig.config.write_text(f'{rig.config.read_text()}\n[admin]\nkey_hash = "{make_hash(KEY)}"\n')


def command(rig: Rig, *arguments: str, key: str = KEY, **more: str) -> subprocess.CompletedProcess[str]:
    """The command with the admin key alone: neither venue key is to be found."""
    hidden = {name for name in os.environ if name.startswith("EVENKEEL_")}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"EVENKEEL_CONFIG": str(rig.config), "EVENKEEL_ADMIN_KEY": key} | more
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        capture_output=True, text=True, env=environment, timeout=60, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


async def test_pause_and_resume_need_the_admin_key_and_no_venue_key(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        without = command(rig, "pause", "--reason", "x")
        assert without.returncode == 2 and "admin hash" in without.stderr
        with_admin(rig)
        keys = tmp_path / "keys"
        keys.rename(tmp_path / "elsewhere")
        for arguments in (
            ["--reason", " "],
            ["--reason", "x", "--scope", "mars"],
            ["--reason", "x", "--hours", "-1"],
        ):
            refused = command(rig, "pause", *arguments)
            assert refused.returncode == 2 and len(refused.stderr.strip().splitlines()) == 1, refused.stderr
        wrong = command(rig, "pause", "--reason", "x", key="not the key at all")
        assert wrong.returncode == 2 and len(wrong.stderr.strip().splitlines()) == 1
        assert "not the admin key" in wrong.stderr and "not the key at all" not in wrong.stderr
        store = rig.desk.store
        assert not store.active_pauses()
        [alert] = [row for row in store.alerts(open_only=True) if row.kind == "wrong admin key"]
        assert "pause" in alert.text and "not the key at all" not in alert.text

        done = command(rig, "pause", "--reason", "an audit", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["scope"] == "entries"
        (tmp_path / "elsewhere").rename(keys)
        refused_entry = await rig.enter(**SOL_ON_KAMINO)
        assert refused_entry.status == "refused" and "an audit" in refused_entry.reasons[0]

        ended = command(rig, "resume", "--reason", "audited", "--json")
        assert [one["reason"] for one in json.loads(ended.stdout)["resumed"]] == ["an audit"]
        moves = [row for row in store.transitions() if row.entity == "pause"]
        assert [(row.from_state, row.to_state) for row in moves] == [("", "paused"), ("paused", "resumed")]
        assert "an audit" in moves[0].note and "@" in moves[0].note and "audited" in moves[1].note
        assert (await rig.enter(**SOL_ON_KAMINO)).status == "OPEN"


@pytest.mark.parametrize("scope", ["entries", "hyperliquid", "asgard", "all"])
async def test_each_scope_refuses_an_entry_before_any_venue_is_asked_and_never_an_exit(
    tmp_path: Path, scope: str
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.desk.store.pause(scope, "for a test")
        result = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert result.status == "CLOSED" and rig.flat

        before, called = rig.fingerprint(), len(rig.on_twins(lambda: list(rig.twins.faults.calls)))
        refused = await rig.enter(**SOL_ON_KAMINO)
        assert refused.status == "refused" and "for a test" in refused.reasons[0], refused
        assert rig.fingerprint() == before
        assert len(rig.on_twins(lambda: list(rig.twins.faults.calls))) == called, "nobody was asked"


async def test_a_pause_that_comes_between_decision_and_order_is_honoured(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        store = rig.desk.store
        with hooked(store.carry, "create_position", after=lambda: store.pause("entries", "just in time")):
            result = await rig.enter(**SOL_ON_KAMINO)
        assert result.status == "FAILED" and "just in time" in result.reasons[0]
        assert rig.flat and not rig.opened_longs() and not rig.filled_orders()


async def test_a_pause_of_everything_stops_growth_and_neither_shrinking_nor_the_way_out(
    tmp_path: Path,
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("hyperliquid", "adl", address=rig.address, coin="SOL", fraction="0.3")
        rig.desk.store.pause("all", "hold everything")
        short_before, long_before = rig.short_qty(), rig.long_sol()
        drifted = await rebalance_position(rig.desk, RebalanceRequest(position_id=position_id))
        assert "paused" in drifted.reason, drifted
        assert len(rig.sells()) == 1 and rig.short_qty() <= short_before, "no hedge is sold on top"
        assert rig.long_sol() <= long_before

        long_before = rig.long_sol()
        rig.market(sol_price=165.0)  # the long is in danger: it is made smaller all the same
        shrunk = await rebalance_position(rig.desk, RebalanceRequest(position_id=position_id))
        assert shrunk.action == "resized" and rig.long_sol() < long_before, shrunk
        assert len(rig.sells()) == 1
        result = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert result.status == "CLOSED" and rig.flat


def _deviate(rig: Rig) -> None:
    rig.market(premium=0.06)


def _congest(rig: Rig) -> None:
    rig.control("solana", "congestion", micro_lamports=40_000_000)


def _share_margin(rig: Rig) -> None:
    rig.control("hyperliquid", "set_abstraction", address=rig.address, mode="portfolioMargin")


def _funding_turns(rig: Rig) -> None:
    rig.market(premium=-0.001)


def _go_stale(rig: Rig) -> None:
    rig.fault("hyperliquid", "stale", "info:clearinghouseState", times=-1, age_s="3600")


@pytest.mark.parametrize(
    ("breaker", "happens"),
    [
        ("price_deviation", _deviate),
        ("fee_market", _congest),
        ("venue_mode", _share_margin),
        ("funding", _funding_turns),
        ("stale_data", _go_stale),
    ],
)
async def test_what_trips_a_breaker_refuses_the_entry_shows_in_status_and_lets_out(
    tmp_path: Path, breaker: str, happens: Callable[[Rig], None]
) -> None:
    async with story_rig(tmp_path) as rig:
        happens(rig)
        before = rig.fingerprint()
        refused = await rig.enter(**SOL_ON_KAMINO)
        assert refused.status == "refused" and refused.reasons, refused
        assert rig.fingerprint() == before
        rows = {one["name"]: one for one in (await status(load_settings(rig.config)))["breakers"]}
        assert rows[breaker]["tripped"] and rows[breaker]["advice"] and rows[breaker]["since"], rows[breaker]
        text = " ".join(refused.reasons)
        assert breaker in text or breaker.replace("_", " ") in text, text


async def test_the_half_hour_after_a_deviation_is_kept_by_every_process(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        rig.market(premium=0.06)
        assert (await rig.enter(**SOL_ON_KAMINO)).status == "refused"
        rig.market(premium=0.0003)
        rig.later(20 * 60)
        await rig.desk.clock.refresh()
        refused = await rig.enter(**SOL_ON_KAMINO)
        assert refused.status == "refused" and "price_deviation" in refused.reasons[0], refused
        [pause] = (await status(load_settings(rig.config)))["pauses"]
        assert pause["until"] and pause["scope"] == "entries"
        rig.later(11 * 60)
        await rig.desk.clock.refresh()
        assert (await rig.enter(**SOL_ON_KAMINO)).status == "OPEN"
        assert not [row for row in rig.desk.store.alerts(open_only=True) if row.kind == "breaker tripped"]


async def test_a_fee_spike_must_halve_before_it_is_over(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("solana", "congestion", micro_lamports=40_000_000)
        rig.later(60)
        result = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert result.status == "CLOSED" and rig.flat, "the way out is open in a spike"
        assert (await rig.enter(**SOL_ON_KAMINO)).status == "refused"
        rig.control(
            "solana", "congestion", micro_lamports=9_000_000
        )  # 0.0067 SOL with the premium: between the limits
        rig.later(120)
        await rig.desk.clock.refresh()
        between = await rig.enter(**SOL_ON_KAMINO)
        assert between.status == "refused" and "asgard is paused" in between.reasons[0], between
        rig.control("solana", "congestion", micro_lamports=1_000)
        rig.later(120)
        await rig.desk.clock.refresh()
        assert (await rig.enter(**SOL_ON_KAMINO)).status == "OPEN"


async def test_failed_calls_seen_by_the_monitor_stop_an_entry_elsewhere(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.fault("hyperliquid", "http_500", "info:.*", times=6)
        await rig.desk.clock.refresh()
        until_ms = rig.desk.clock.now_ms() + 30_000
        await watch_position(rig.desk, MonitorRequest(position_id=position_id, until_ms=until_ms))
        assert (await exit_position(rig.desk, ExitRequest(position_id=position_id))).status == "CLOSED"
        async with rig.another_desk() as fresh:
            names = {one.reason for one in fresh.store.active_pauses()}
        assert {"breaker api_errors", "breaker outage"} & names, names
        refused = await rig.enter(**SOL_ON_KAMINO)
        assert refused.status == "refused" and "failed" in " ".join(refused.reasons), refused
        rig.later(301)
        await rig.desk.clock.refresh()
        assert (await rig.enter(**SOL_ON_KAMINO)).status == "OPEN"


@pytest.mark.parametrize("words", ["breaker outage", "breaker api_errors", "breaker price_deviation"])
async def test_a_persons_pause_in_a_breakers_words_is_lifted_by_nobody_but_a_person(
    tmp_path: Path, words: str
) -> None:
    async with story_rig(tmp_path) as rig:
        with_admin(rig)
        assert command(rig, "pause", "--reason", words).returncode == 0
        for _ in range(2):  # the first judges the breakers, all closed; the second would find the pause gone
            refused = await rig.enter(**SOL_ON_KAMINO)
            assert refused.status == "refused" and words in refused.reasons[0], refused
            rig.later(3600)
            await rig.desk.clock.refresh()
        [kept] = (await status(load_settings(rig.config)))["pauses"]
        assert words in kept["reason"] and kept["until"] is None
        assert command(rig, "resume").returncode == 0
        assert (await rig.enter(**SOL_ON_KAMINO)).status == "OPEN"


async def test_a_breach_of_a_position_that_ended_stops_nobody(tmp_path: Path) -> None:
    limits = {"breach_duration_s": "0", "liquidation_floor": "0.15"}
    async with story_rig(tmp_path, limits=limits) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.market(sol_price=195.0)
        await rig.desk.clock.refresh()
        until_ms = rig.desk.clock.now_ms() + 60_000
        await watch_position(rig.desk, MonitorRequest(position_id=position_id, until_ms=until_ms))
        assert rig.status(position_id) is PositionStatus.CLOSED
        assert (await rig.enter(**SOL_ON_KAMINO)).status == "OPEN"


def test_the_hash_command_prints_what_the_settings_take() -> None:
    environment = os.environ | {"EVENKEEL_ADMIN_KEY": KEY}
    made = subprocess.run(
        [sys.executable, "-m", "app.cli", "admin", "hash"],
        capture_output=True, text=True, env=environment, timeout=60, check=True,
    )  # fmt: skip
    settings = Settings(admin=Admin(key_hash=made.stdout.strip()))
    assert settings.admin.key_hash.startswith("scrypt$") and KEY not in made.stdout

"""Reconciliation: what is missing is booked, what is foreign is named and left alone, what contradicts is alarmed."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest

from evenkeel.legs import CARRY, IntentKind, LegSide
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.monitor import MonitorRequest, watch_position
from flows.carry.reconcile import reconcile_and_act
from state.watch_models import Severity
from strategy.carry.reconcile import Handling
from tasks.carry.books.collect import collect_everything
from tasks.carry.books.reconcile import reconcile_everything
from tests.carry.rig import NO_RESERVE, Rig, story_rig
from tests.databases import by_hand
from tests.interruptions import hooked

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}


def alerts(rig: Rig) -> set[str]:
    return {row.kind for row in rig.desk.store.alerts(open_only=True)}


async def test_a_healthy_position_agrees_and_the_checkpoint_moves(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.later(5 * 3600)
        found = await reconcile_everything(rig.desk)
        assert found.agrees and found.findings == (), found
        assert found.rows >= 6, "five payments and a fill"
        assert len(rig.desk.store.carry.funding_payments(position_id=position_id)) == 5
        checkpoint = rig.desk.store.checkpoint("reconcile:hyperliquid")
        assert checkpoint is not None
        rig.later(3 * 3600)
        again = await reconcile_everything(rig.desk)
        assert again.agrees and again.rows < found.rows + 3 + 2, (
            "only what came since, and two hours of overlap"
        )
        later = rig.desk.store.checkpoint("reconcile:hyperliquid")
        assert later is not None and later.at_ms > checkpoint.at_ms


@pytest.mark.parametrize(("coin", "critical"), [("BTC", False), ("SOL", True)])
async def test_a_foreign_position_is_named_and_never_touched(
    tmp_path: Path, coin: str, critical: bool
) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        ours = rig.short_qty()
        rig.trade_by_hand(coin, "-2" if coin == "SOL" else "-0.01")
        orders = len(rig.filled_orders())
        result = await reconcile_and_act(rig.desk)
        foreign = [one for one in result.found.findings if one.subject == "foreign position"]
        assert len(foreign) == 1 and foreign[0].critical is critical, result
        assert not result.agrees and not result.actions
        assert {"foreign position", "foreign fill"} & alerts(rig)
        await rig.desk.clock.refresh()
        until_ms = rig.desk.clock.now_ms() + 60_000
        watched = await watch_position(rig.desk, MonitorRequest(position_id=position_id, until_ms=until_ms))
        assert watched.status == "OPEN" and not watched.actions, watched
        assert len(rig.filled_orders()) == orders, "nobody traded against it"
        leg = rig.desk.store.carry.leg(position_id, LegSide.SHORT)
        assert leg is not None and leg.qty == ours

        await exit_position(rig.desk, ExitRequest(position_id=position_id))
        left = {row["coin"]: Decimal(row["szi"]) for row in rig.account()["positions"]}
        assert left == {coin: Decimal("-2") if coin == "SOL" else Decimal("-0.01")}


async def test_a_trade_by_hand_against_our_short_is_hedged_again(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.trade_by_hand("SOL", "9")
        result = await reconcile_and_act(rig.desk)
        assert result.actions[position_id].startswith("resized"), result
        rig.assert_hedged()
        assert "leg reduced" in {row.kind for row in rig.desk.store.alerts()}


@pytest.mark.parametrize("whose", ["nobody's", "an ended position's"])
async def test_a_fill_that_collecting_finds_first_is_alerted_once_and_stays_news(
    tmp_path: Path, whose: str
) -> None:
    """Collecting books it, so that no later comparison could miss it any more: who books must alert."""
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        ended = await rig.entered(**SOL_ON_KAMINO)
        await exit_position(rig.desk, ExitRequest(position_id=ended))
        [opening] = [
            attempt.key["cloid"]
            for intent in rig.desk.store.intents_of(CARRY, ended)
            if intent.part == LegSide.SHORT and intent.kind == IntentKind.OPEN
            for attempt in rig.desk.store.attempts_of(intent.intent_id)
        ]
        rig.later(60)
        await rig.entered(**SOL_ON_KAMINO)
        kind, cloid = ("foreign fill", None) if whose == "nobody's" else ("late fill", str(opening))
        rig.trade_by_hand("SOL", "-1", cloid)
        assert (await collect_everything(rig.desk)).fills == 1
        [alert] = [row for row in rig.desk.store.alerts(open_only=True) if row.kind == kind]
        assert (ended in alert.text) is (kind == "late fill"), alert
        assert alert.severity is (Severity.CRITICAL if kind == "late fill" else Severity.WARNING)
        owners = {row.fill_id: row.subject for row in rig.desk.store.fills()}
        assert owners[alert.subject.removeprefix("hyperliquid ")] == (ended if cloid else None)
        rig.later(60)
        await collect_everything(rig.desk)
        await reconcile_everything(rig.desk)
        again = [row for row in rig.desk.store.alerts(open_only=True) if row.kind == kind]
        assert [(row.id, row.times) for row in again] == [(alert.id, 1)], "raised once, and news for a person"


async def test_a_payment_and_a_fill_lost_from_the_books_come_back(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.later(3 * 3600)
        await reconcile_everything(rig.desk)
        with by_hand(tmp_path / "evenkeel.db") as ledger:
            ledger.execute("DELETE FROM funding_payments WHERE id = (SELECT max(id) FROM funding_payments)")
        found = await reconcile_everything(rig.desk)
        assert found.agrees, found
        assert len(rig.desk.store.carry.funding_payments(position_id=position_id)) == 3


@pytest.mark.parametrize(
    ("sql", "subject"),
    [
        ("UPDATE funding_payments SET usdc = '99.5'", "funding"),
        ("UPDATE fills SET price_usd = '1.5' WHERE venue = 'hyperliquid'", "fill"),
        ("UPDATE fees SET amount_usd = '77' WHERE kind = 'hl_taker'", "fee"),
        ("UPDATE lending_changes SET debt_after_usd = '5000'", "long"),
        ("UPDATE legs SET qty = '19' WHERE side = 'short'", "short"),
    ],
)
async def test_books_that_contradict_a_venue_are_alarmed_until_they_agree(
    tmp_path: Path, sql: str, subject: str
) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        rig.later(3600)
        await reconcile_everything(rig.desk)
        saved = (tmp_path / "evenkeel.db").with_suffix(".bak")
        with by_hand(tmp_path / "evenkeel.db") as ledger, sqlite3.connect(saved) as copy:
            ledger.backup(copy)
            assert ledger.execute(sql).rowcount >= 1
        rig.later(600)
        found = await reconcile_everything(rig.desk)
        assert subject in {one.subject for one in found.open}, found
        assert all(one.critical for one in found.open)
        if subject == "short":  # the venue's fills prove what it really is
            assert found.open[0].handling is Handling.ACT
            return
        assert "books differ" in alerts(rig)
        with sqlite3.connect(tmp_path / "evenkeel.db") as ledger, sqlite3.connect(saved) as copy:
            copy.backup(ledger)
        assert (await reconcile_everything(rig.desk)).agrees
        assert "books differ" not in alerts(rig)


@pytest.mark.parametrize("venue", ["hyperliquid", "asgard"])
async def test_a_venue_out_of_reach_is_named_and_its_checkpoint_stays(tmp_path: Path, venue: str) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        await reconcile_everything(rig.desk)
        before = rig.desk.store.checkpoint(f"reconcile:{venue}")
        rig.later(3600)
        rig.fault(venue, "http_500", times=-1)
        found = await reconcile_everything(rig.desk)
        assert venue in found.unreadable and not found.agrees
        assert rig.desk.store.checkpoint(f"reconcile:{venue}") == before
        rig.heal()
        assert (await reconcile_everything(rig.desk)).agrees


@pytest.mark.parametrize("what", ["part of the short", "short", "part of the long"])
async def test_taken_while_the_monitor_sleeps(tmp_path: Path, what: str) -> None:
    """Between two ticks of a calm watch: the other leg follows within one fast tick, not at the next slow one."""
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        [held] = rig.holdings()
        orders = len(rig.filled_orders())
        taken: list[int] = []

        def take() -> None:
            taken.append(rig.world.now_ms())
            if what == "part of the long":
                rig.control("asgard", "liquidate", pda=held["pda"])
            else:
                fraction = "1" if what == "short" else "0.5"
                rig.control("hyperliquid", "adl", address=rig.address, coin="SOL", fraction=fraction)

        await rig.desk.clock.refresh()
        until_ms = rig.desk.clock.now_ms() + 120_000
        asleep = [0]

        def waits_between_ticks(seconds: float) -> bool:
            asleep[0] += seconds == 2.0
            return seconds == 2.0 and asleep[0] == 4

        with hooked(rig.desk.clock, "sleep", before=take, when=waits_between_ticks):
            request = MonitorRequest(position_id=position_id, until_ms=until_ms)
            result = await watch_position(rig.desk, request)
        assert taken and len(result.actions) == 1, result
        if what == "short":
            assert rig.flat
            closed = [row["time_ms"] for row in rig.executions()]
            acted_ms = max(closed)
        else:
            rig.assert_hedged()
            rows = [row for row in rig.account()["fills"] if row["time"] > taken[0]]
            acted_ms = min(row["time"] for row in rows if row["dir"] != "Auto-Deleveraging")
        assert len(rig.filled_orders()) >= orders
        limit_s = 2 * 2 + 4 if what != "short" else 2 * 2 + 12
        assert acted_ms - taken[0] <= limit_s * 1000, (acted_ms - taken[0]) / 1000

"""Early warnings in simulated incidents: raised once, not again by another process, and closed when the incident is over."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

from evenkeel.legs import CARRY, LegSide
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.monitor import MonitorRequest, watch_position
from state.watch_models import Alert, Severity
from tasks.carry.books.collect import collect_everything
from tasks.carry.watching.alerts import WARNING_NAMES
from tasks.carry.watching.early_warnings import KEPT
from tasks.carry.watching.watcher import Watcher
from tests.carry.rig import NO_RESERVE, Rig, story_rig, watched

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}


def apart(rig: Rig, share: float) -> None:
    """Let the perpetual's mark, which lies half way to its premium, be so far above the oracle that Asgard lists."""
    rig.market(premium=2 * share)


def raised(rig: Rig, kind: str) -> list[Alert]:
    return [row for row in rig.desk.store.alerts() if row.kind == kind]


def the_only(rig: Rig, kind: str) -> Alert:
    [row] = raised(rig, kind)
    assert row.times == 1, "written once, not at every tick"
    return row


async def watched_by_another(rig: Rig, position_id: str, seconds: int) -> None:
    """A monitor that was started anew goes on: it knows nothing but the ledger."""
    async with rig.another_desk() as desk:
        await desk.clock.refresh()
        until_ms = desk.clock.now_ms() + seconds * 1000
        await watch_position(desk, MonitorRequest(position_id=position_id, until_ms=until_ms))


async def seen_by_another(rig: Rig, position_id: str) -> None:
    """One tick of a process that knows nothing but the ledger, 30 s later."""
    rig.later(30)
    await rig.desk.clock.refresh()
    await Watcher(rig.desk, position_id).tick()


async def test_a_calm_position_has_no_warning(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy={"poll_interval_s": 600}) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        await watched(rig, position_id, 6 * 3600)
        assert not WARNING_NAMES & {row.kind for row in rig.desk.store.alerts()}
        assert KEPT not in rig.desk.store.carry.position(position_id).facts


async def test_half_of_the_distance_and_its_end(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO, leverage=2)
        entry = Decimal(rig.desk.store.carry.position(position_id).facts["entry_distance"]["long"])

        def price_at(distance: Decimal) -> float:
            return 200.0 * float((1 - entry) / (1 - distance))

        rig.market(sol_price=price_at(entry * Decimal("0.49")))
        await watched(rig, position_id, 70)
        row = the_only(rig, "half_distance:long")
        assert (row.subject, row.severity, row.acked_ms) == (position_id, Severity.WARNING, None)
        for swing in (3, -1) * 3:  # tenths of a point around it, each seen by a process that has just begun
            rig.market(sol_price=price_at(entry * Decimal("0.49") + Decimal(swing) / 1000))
            await seen_by_another(rig, position_id)
        assert the_only(rig, "half_distance:long").acked_ms is None
        assert not raised(rig, "near_exit:long") and rig.status(position_id) == "OPEN"
        rig.market(sol_price=200.0)
        await watched(rig, position_id, 35)
        assert the_only(rig, "half_distance:long").acked_ms is not None


async def test_near_the_exit_is_critical_and_ends_when_the_legs_were_made_smaller(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO, leverage=2)
        entry = Decimal(rig.desk.store.carry.position(position_id).facts["entry_distance"]["long"])
        rig.market(sol_price=200.0 * float((1 - entry) / (1 - Decimal("0.14"))))
        done = await watched(rig, position_id, 150)
        assert done.actions and rig.status(position_id) == "OPEN"
        row = the_only(rig, "near_exit:long")
        assert row.severity is Severity.CRITICAL and row.acked_ms is not None
        rig.assert_hedged()


async def test_the_short_is_warned_of_as_well(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        facts = rig.desk.store.carry.position(position_id).facts["entry_distance"]
        rig.desk.store.carry.set_facts(position_id, {"entry_distance": facts | {"short": "0.5"}})
        worth = Decimal(rig.account()["account_value_usd"])
        short_usd = rig.short_qty() * 200
        rig.set_usdc("hyperliquid", int(worth - (worth - short_usd * Decimal("0.27"))))
        await watched(rig, position_id, 35)
        assert the_only(rig, "half_distance:short").acked_ms is None
        rig.fund("20000")
        await watched(rig, position_id, 35)
        assert the_only(rig, "half_distance:short").acked_ms is not None


async def test_a_price_gap_between_the_venues(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        for share in (0.006, 0.0049, 0.0052, 0.0045, 0.0056):
            apart(rig, share)
            await seen_by_another(rig, position_id)
        assert the_only(rig, "price_gap").acked_ms is None
        apart(rig, 0.0005)
        await watched(rig, position_id, 35)
        assert the_only(rig, "price_gap").acked_ms is not None
        apart(rig, 0.006)
        await watched(rig, position_id, 35)
        assert [row.acked_ms is None for row in raised(rig, "price_gap")] == [False, True], "another incident"


async def test_a_warning_that_was_acknowledged_is_not_raised_again_before_it_has_ended(
    tmp_path: Path,
) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        apart(rig, 0.006)
        await watched(rig, position_id, 35)
        rig.desk.store.acknowledge("price_gap", None, "seen by me")
        await watched(rig, position_id, 35)
        await watched_by_another(rig, position_id, 35)
        the_only(rig, "price_gap")


async def test_a_crash_between_alert_and_fact_raises_nothing_twice(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        apart(rig, 0.006)
        await watched(rig, position_id, 35)
        rig.desk.store.carry.set_facts(position_id, {KEPT: {}})
        apart(rig, 0.0045)  # between end and start
        await watched_by_another(rig, position_id, 35)
        assert the_only(rig, "price_gap").acked_ms is None
        assert rig.desk.store.carry.position(position_id).facts[KEPT]["price_gap"]["since_ms"]


async def test_a_fee_spike_while_a_position_is_held(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("solana", "congestion", micro_lamports=40_000_000)
        await watched(rig, position_id, 150)
        assert the_only(rig, "fee_spike").acked_ms is None
        rig.control("solana", "congestion", micro_lamports=9_500_000)  # 0.007 SOL: neither high nor calm
        await watched_by_another(rig, position_id, 150)
        assert the_only(rig, "fee_spike").acked_ms is None
        rig.control("solana", "congestion", micro_lamports=1_000)
        await watched(rig, position_id, 250)
        assert the_only(rig, "fee_spike").acked_ms is not None


async def test_funding_that_has_turned_is_said_once_a_turn(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.market(premium=-0.002)  # an hour of it is no turn
        await watched(rig, position_id, 35)
        assert not raised(rig, "funding_turned")
        rig.funding_was(-0.00055)
        await watched(rig, position_id, 70)
        rig.funding_was(-0.000502)
        await watched_by_another(rig, position_id, 35)
        assert the_only(rig, "funding_turned").acked_ms is None
        rig.funding_was(0.0001)
        await watched(rig, position_id, 35)
        assert the_only(rig, "funding_turned").acked_ms is not None


async def test_an_order_that_failed_on_chain_is_said_and_is_over_once_made_good(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO, leverage=2)
        assert not raised(rig, "order_failed")
        entry = Decimal(rig.desk.store.carry.position(position_id).facts["entry_distance"]["long"])
        broken = rig.fault("solana", "fail_transaction", "rpc:sendTransaction", times=1)
        rig.market(sol_price=200.0 * float((1 - entry) / (1 - Decimal("0.14"))))
        await watched(rig, position_id, 240)
        assert broken.hits == 1
        rig.assert_hedged()
        row = the_only(rig, "order_failed")
        assert "failed" in row.text and row.acked_ms is not None and row.subject == position_id
        await watched_by_another(rig, position_id, 70)
        the_only(rig, "order_failed")


async def test_a_close_that_failed_once_is_noted_though_the_position_has_ended(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        broken = rig.fault("solana", "fail_transaction", "rpc:sendTransaction", times=1)
        result = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert result.status == "CLOSED" and broken.hits == 1
        row = the_only(rig, "order_failed")
        assert row.acked_ms is not None and "close the long" in row.text


async def test_drift_above_the_limit_is_said_and_ends_when_it_is_levelled(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        part = (rig.short_qty() * Decimal("0.015")).quantize(Decimal("0.01"))
        rig.trade_by_hand("SOL", str(part))
        await watched(rig, position_id, 120)
        rig.assert_hedged()
        assert the_only(rig, "drift_limit").acked_ms is not None


async def test_wallets_apart_after_a_close_and_the_transfer_that_levels_them(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.fund("15000")
        await watched(rig, position_id, 35)
        assert not raised(rig, "wallets_apart"), "not while a position is open"
        await exit_position(rig.desk, ExitRequest(position_id=position_id))
        row = the_only(rig, "wallets_apart")
        found = re.search(
            r"move ([\d,.]+) USDC from the Hyperliquid account (0x\w+) to the Solana wallet (\w+)", row.text
        )
        assert found is not None, row.text
        assert (found[2], found[3]) == (rig.address, rig.desk.long.wallet)
        amount = Decimal(found[1].replace(",", ""))
        margin = Decimal(rig.account()["account_value_usd"])
        wallet = (await rig.desk.long.wallet_balances()).usdc
        assert abs((margin - amount) - (wallet + amount)) <= Decimal("0.03"), "level to the cent"

        await collect_everything(rig.desk)
        assert the_only(rig, "wallets_apart").acked_ms is None
        rig.set_usdc("hyperliquid", int(margin - amount))
        rig.set_usdc("solana", int(wallet + amount))
        await collect_everything(rig.desk)
        assert the_only(rig, "wallets_apart").acked_ms is not None


async def test_what_a_drift_has_cost_outlives_the_process_and_ends_with_a_levelling(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        store = rig.desk.store.carry
        leg = store.leg(position_id, LegSide.SHORT)
        assert leg is not None
        part = (leg.qty * Decimal("0.003")).quantize(Decimal("0.01"))  # below the limit
        rig.trade_by_hand("SOL", str(part))
        store.put_leg(leg.model_copy(update={"qty": leg.qty - part}))

        def cost() -> Decimal:
            last = store.last_snapshot(position_id)
            assert last is not None
            return Decimal(last.detail["drift_cost_usd"])

        await Watcher(rig.desk, position_id).tick()
        assert cost() == 0
        costs = []
        for _ in range(3):
            rig.later(3600)
            await rig.desk.clock.refresh()
            await Watcher(rig.desk, position_id).tick()  # of a process that knows nothing but the ledger
            costs.append(cost())
        assert 0 < costs[0] < costs[1] < costs[2]
        assert abs(costs[2] - 3 * costs[0]) < costs[0] / 10, "an hour of it costs the same"
        levelled = [{"at_ms": rig.desk.clock.now_ms() + 1, "reason": "by another process"}]
        store.set_facts(position_id, {"rebalances": levelled})
        rig.later(36)
        await rig.desk.clock.refresh()
        await Watcher(rig.desk, position_id).tick()
        assert cost() < costs[0] / 50


async def test_no_breach_and_no_decision_comes_of_a_warning(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        apart(rig, 0.006)
        rig.control("solana", "congestion", micro_lamports=40_000_000)
        done = await watched(rig, position_id, 150)
        assert {"price_gap", "fee_spike"} <= {row.kind for row in rig.desk.store.alerts(open_only=True)}
        assert not done.actions and not rig.desk.store.breaches(CARRY, position_id)

"""Long legs of several accounts are read from their lenders' accounts, and Asgard's own answer is asked for in turns."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from solders.account import Account
from solders.pubkey import Pubkey

from evenkeel.errors import NotUnderstood
from evenkeel.legs import LegSide, PositionStatus
from evenkeel.types import Confirmed, VenueName
from flows.carry.enter import EnterRequest, enter_position
from tasks.carry.watching.seen import Seen
from tasks.carry.watching.watcher import Watcher
from tests.carry.fleet import FleetRig, fleet_rig
from tests.integration.asgard_bench import Bench, bench
from venues.solana.lenders.reader import LenderAccounts
from venues.solana.rules.common import KAMINO, MARGINFI, SAVE

D = Decimal
REFRESH = "POST /refresh-positions"
TOGETHER = "rpc:getMultipleAccounts"
PROGRAMS = {0: MARGINFI, 1: KAMINO}


async def opened(b: Bench, asset: str, protocol: int) -> str:
    """A threefold long; its position account."""
    supply = 6_000_000 * 10**9
    if asset != "SOL":
        b.put_stake_pool(asset, int(Decimal(str(b.world.redemption_rate(asset))) * supply), supply)
    outcome = await b.run(await b.open_order(asset, protocol))
    assert isinstance(outcome, Confirmed), outcome
    return str(outcome.value.ref)


@pytest.mark.parametrize("protocol", PROGRAMS)
@pytest.mark.parametrize("asset", ["SOL", "jitoSOL"])
async def test_what_a_lenders_accounts_say_is_what_the_lender_holds(protocol: int, asset: str) -> None:
    """With the interest of a week, which no transaction of ours has touched."""
    async with bench() as b:
        pda = await opened(b, asset, protocol)
        reader = LenderAccounts(b.venue.rpc, b.clock)
        for days in (0, 7):
            await b.clock.sleep(days * 86_400)
            held = await reader.held(str(PROGRAMS[protocol]), pda)
            [truth] = b.ledger()["positions"]
            [deposit], [debt] = held.deposits.values(), held.debts.values()
            assert held.owner == str(b.wallet)
            assert deposit.tokens == pytest.approx(D(truth["tokens_exact"]), abs=D("0.00000001"))
            assert debt.tokens == pytest.approx(D(truth["debt_usd_exact"]), abs=D("0.00001"))
        assert D(truth["debt_usd_exact"]) > D(truth["position_accounting"][0]["debt_after_usd"])
        assert not LenderAccounts.can_read(str(SAVE)), "no account of Save is recorded"


async def positions_of(rig: FleetRig, protocol: int = 1) -> list[Watcher]:
    found = []
    for desk in rig.desks:
        result = await enter_position(desk, EnterRequest(asset="SOL", protocol=protocol))  # type: ignore[arg-type]
        assert result.position_id is not None, result
        found.append(Watcher(desk, result.position_id, is_monitor=True))
    return found


async def each_seen(rig: FleetRig, watchers: list[Watcher], after_s: float = 20) -> list[Seen]:
    """One tick of all accounts, with the calls of it alone counted."""
    await rig.desk.clock.sleep(after_s)
    rig.on_twins(rig.twins.faults.calls.clear)
    return [seen for seen, _, _ in await asyncio.gather(*(one.tick() for one in watchers))]


def long_truth(rig: FleetRig) -> dict[str, tuple[Decimal, Decimal, Decimal]]:
    """By PDA what the lender has: tokens, USD owed, and room in percent."""
    return {
        one["pda"]: (D(one["tokens"]), D(one["debt_usd"]), D(one["health_pct"]))
        for one in rig.control("asgard", "ledger")["positions"]
    }


def pda_of(watcher: Watcher) -> str:
    leg = watcher._desk.store.carry.leg(watcher.position_id, LegSide.LONG)
    assert leg is not None
    return leg.ref


def odd_words(rig: FleetRig) -> str:
    return rig.desk.oddities.words().get("lenders' accounts", "")


async def settled(rig: FleetRig, watchers: list[Watcher]) -> None:
    """Asgard has stated every leg, and said the same as the chain."""
    for _ in range(2):
        assert not any(seen.long is None or seen.long.on_chain for seen in await each_seen(rig, watchers))


@pytest.mark.parametrize("protocol", PROGRAMS)
async def test_a_tick_of_several_accounts_reads_all_longs_in_one_call_and_asks_asgard_in_turns(
    tmp_path: Path, protocol: int
) -> None:
    async with fleet_rig(tmp_path, 3) as rig:
        watchers = await positions_of(rig, protocol)
        await settled(rig, watchers)
        for price in (198.0, 196.0):
            rig.market(sol_price=price)
            each = await each_seen(rig, watchers)
            truth = long_truth(rig)
            for watcher, seen in zip(watchers, each, strict=True):
                assert seen.long is not None and seen.long.on_chain and seen.long_read and not seen.failed
                tokens, debt, health = truth[seen.long.ref]
                assert seen.long.qty == pytest.approx(tokens, rel=D("1e-8"))
                assert seen.long.debt_usd == pytest.approx(debt, abs=D("0.001"))
                assert seen.long.liquidation_distance == pytest.approx(health / 100, abs=D("0.0005"))
                assert watcher._desk.store.carry.position(watcher.position_id).status is PositionStatus.OPEN
            assert rig.calls("asgard", REFRESH) == 0
            assert rig.calls("solana", TOGETHER) == 1, "every position and both banks"
        each = await each_seen(rig, watchers, 30)
        assert not any(seen.long is None or seen.long.on_chain for seen in each), "once a minute it is asked"
        assert rig.calls("asgard", REFRESH) == 1 and odd_words(rig) == ""


async def test_without_the_setting_asgard_is_asked_at_every_tick(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        rig.desk.long.client.on_chain = None
        watchers = await positions_of(rig)
        for _ in range(3):
            each = await each_seen(rig, watchers)
            assert all(seen.long is not None and not seen.long.on_chain for seen in each)
            assert rig.calls("asgard", REFRESH) == 1


async def test_a_leg_is_seen_while_asgard_is_out_of_reach_and_that_is_said(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        watchers = await positions_of(rig)
        await settled(rig, watchers)
        rig.fault("asgard", "http_500", REFRESH, times=-1)
        rig.market(sol_price=195.0)
        for number in range(4):
            each = await each_seen(rig, watchers, 25)
            for seen in each:
                assert seen.long is not None and seen.long.on_chain and seen.long.liquidation_distance
                assert (VenueName.ASGARD in seen.failed) == (number >= 2), "from its next turn on"
        await each_seen(rig, watchers)
        alerts = {(one.kind, one.subject) for one in rig.whole.alerts(open_only=True)}
        assert {("outage", one.position_id) for one in watchers} <= alerts
        rig.heal()
        each = await each_seen(rig, watchers)
        assert all(seen.long is not None and not seen.long.on_chain and not seen.failed for seen in each)


def spoiled(rig: FleetRig, pda: str, **changes: Any) -> None:
    """The position's account on chain as somebody else's program would keep it."""
    key = Pubkey.from_string(pda)

    def put() -> None:
        found = rig.twins.chain.account(key)
        assert found is not None
        content = bytearray(found.data)
        content[changes["at"] : changes["at"] + len(changes["content"])] = changes["content"]
        rig.twins.chain.set_account(key, Account(found.lamports, bytes(content), found.owner))

    rig.on_twins(put)


ODD = {
    "another kind of account": ({"at": 0, "content": bytes(8)}, "begin with 0000000000000000"),
    "twice as much": (
        {"at": 128, "content": (10**13).to_bytes(8, "little")},
        "its lender's accounts say 1000",
    ),
    "a debt that shrinks": ({"at": 1240, "content": (2**62).to_bytes(32, "little")}, "has grown to 0.25"),
    "another owner": ({"at": 64, "content": bytes(range(32))}, "belongs to"),
}


@pytest.mark.parametrize(("change", "words"), ODD.values(), ids=list(ODD))
async def test_a_layout_that_is_not_understood_is_asked_of_asgard_said_and_closes_nothing(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    async with fleet_rig(tmp_path) as rig:
        watchers = await positions_of(rig)
        await settled(rig, watchers)
        spoiled(rig, pda_of(watchers[0]), **change)
        truth = long_truth(rig)
        seen = []
        for _ in range(4):
            seen.append(await each_seen(rig, watchers))
        for first, second in seen[2:]:
            assert first.long is not None and not first.long.on_chain, "its lender's account is not believed"
            assert first.long.qty == pytest.approx(truth[first.long.ref][0], rel=D("1e-6"))
            assert second.long is not None
        assert words in odd_words(rig) and "asked of Asgard instead" in odd_words(rig)
        [alert] = [one for one in rig.whole.alerts(open_only=True) if one.kind == "odd answer"]
        assert pda_of(watchers[0]) in alert.text
        for one in watchers:
            assert one._desk.store.carry.position(one.position_id).status is PositionStatus.OPEN
            assert one._desk.store.unfinished_intents("carry", one.position_id) == []


async def test_an_empty_account_is_proved_by_asgard_before_anything_is_missed(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        watchers = await positions_of(rig)
        await settled(rig, watchers)
        for at, size in ((96, 40), (1208, 200)):
            spoiled(rig, pda_of(watchers[0]), at=at, content=bytes(size))
        first, second = await each_seen(rig, watchers)
        assert first.long is not None and not first.long.on_chain and not first.misses_a_leg
        assert second.long is not None and second.long.on_chain


async def test_without_a_price_of_hyperliquids_the_distance_is_asked_of_asgard(tmp_path: Path) -> None:
    async with fleet_rig(tmp_path) as rig:
        watchers = await positions_of(rig)
        await settled(rig, watchers)
        rig.fault("hyperliquid", "http_500", "info:metaAndAssetCtxs", times=-1)
        for seen in await each_seen(rig, watchers):
            assert seen.long is not None and not seen.long.on_chain and seen.long.liquidation_distance
        rig.heal()


async def test_nobody_elses_answer_is_spoiled_by_a_position_that_is_gone() -> None:
    async with bench() as b:
        pda = await opened(b, "SOL", 1)
        reader = LenderAccounts(b.venue.rpc, b.clock)
        nobody = str(Pubkey.new_unique())
        there, gone = await asyncio.gather(
            reader.held(str(KAMINO), pda), reader.held(str(KAMINO), nobody), return_exceptions=True
        )
        assert not isinstance(there, BaseException) and there.deposits
        assert isinstance(gone, NotUnderstood) and "is not on chain" in gone.reason

"""SIGKILL at the moments that matter: whatever dies, `evenkeel recover` leaves no unowned leg and no double open.

Each moment is an outside call of an undisturbed trade, held by the gate when it arrived or when it was applied and not
yet answered. `test_every_writing_call_has_its_moments` records an undisturbed trade, so that a new call cannot be forgotten.
Each test run takes the moments after a call was applied and a few others, since `make chaos` kills at every call;
`EVENKEEL_KILLS=whole` takes them all.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from evenkeel.legs import LegSide
from tests.chaos.carry.command_rig import CarryRig, carry_rig
from tests.chaos.carry.kill_checks import check_books, check_opened_once, long_events, recovered
from tests.chaos.commands import Moment

ENTER = ["enter", "--asset", "SOL", "--protocol", "1", "--json"]
ORDER, LEVERAGE = "hyperliquid exchange:order", "hyperliquid exchange:updateLeverage"
MARKS, FILLS = "hyperliquid info:metaAndAssetCtxs", "hyperliquid info:userFillsByTime"
BUILD, SUBMIT = "asgard POST /create-position", "asgard POST /submit-create-position-tx"
UNBUILD, UNSUBMIT = "asgard POST /close-position", "asgard POST /submit-close-position-tx"
REBUILD, RESUBMIT = "asgard POST /position/deleverage", "asgard POST /submit-position-update-tx"
STATUSES, READ_BACK = "solana rpc:getSignatureStatuses", "solana rpc:getTransaction"
SEND = "solana rpc:sendTransaction"
WHOLE = os.environ.get("EVENKEEL_KILLS") == "whole"
READS = ("info:", "GET ", "rpc:get", "simulate", "/positions/", "/refresh-positions")

ENTERING = [
    (MARKS, 1, "applied", ""),  # looking at the market
    (LEVERAGE, 1, "arrived", "FAILED"),
    (LEVERAGE, 1, "applied", "FAILED"),
    (BUILD, 1, "arrived", "FAILED"),  # the plan is written, nothing is sent
    (BUILD, 1, "applied", "FAILED"),
    (SUBMIT, 1, "arrived", "FAILED"),  # signed and never sent: dead once its blockhash has expired
    (SUBMIT, 1, "applied", "OPEN"),  # sent, and the answer lost
    (STATUSES, 1, "applied", "OPEN"),
    (READ_BACK, 1, "arrived", "OPEN"),  # landed, not booked
    (ORDER, 1, "arrived", "OPEN"),  # signed and never sent: dead once it has expired
    (ORDER, 1, "applied", "OPEN"),  # filled, and the answer lost
    (FILLS, 1, "applied", "OPEN"),
    (MARKS, 5, "arrived", "OPEN"),  # filled and known, not booked
    ("asgard POST /refresh-positions", 1, "arrived", "OPEN"),  # both legs booked, not yet marked open
]
EXITING = [
    (ORDER, 1, "arrived", "CLOSED"),
    (ORDER, 1, "applied", "CLOSED"),
    (FILLS, 1, "arrived", "CLOSED"),
    (UNBUILD, 1, "arrived", "CLOSED"),  # the long alone is left
    (UNBUILD, 1, "applied", "CLOSED"),
    (UNSUBMIT, 1, "arrived", "CLOSED"),
    (UNSUBMIT, 1, "applied", "CLOSED"),
    (READ_BACK, 1, "applied", "CLOSED"),
    ("solana rpc:getBalance", 1, "arrived", "CLOSED"),  # flat, not settled
]
REBALANCING = [
    (REBUILD, 1, "arrived", "OPEN"),
    (REBUILD, 1, "applied", "OPEN"),
    (RESUBMIT, 1, "arrived", "OPEN"),
    (RESUBMIT, 1, "applied", "OPEN"),
    (ORDER, 1, "arrived", "OPEN"),
    (ORDER, 1, "applied", "OPEN"),
]
RECOVERING = [  # an entry was killed with its order filled or unsent; now the recovery itself is killed
    ("applied", "hyperliquid info:orderStatus", 1, "applied"),
    ("arrived", "hyperliquid info:orderStatus", 1, "arrived"),
    ("arrived", ORDER, 1, "applied"),
    ("arrived", ORDER, 1, "arrived"),
]


def moments(rows: list[tuple[str, int, str, str]]) -> list[object]:
    chosen = [row for at, row in enumerate(rows) if WHOLE or row[2] == "applied" or at % 8 == 0]
    return [
        pytest.param(Moment(*row[:3]), row[3], id=f"{row[0].split()[-1]}-{row[1]}-{row[2]}") for row in chosen
    ]


async def entered(rig: CarryRig) -> None:
    done = await rig.run(*ENTER)
    assert done.code == 0, (done.out, done.err)


@pytest.mark.parametrize(("moment", "then"), moments(ENTERING))
async def test_killed_while_entering(tmp_path: Path, moment: Moment, then: str) -> None:
    async with carry_rig(tmp_path) as rig:
        before = rig.hyperliquid()["cash_usd"]
        await rig.kill_at(moment, *ENTER)
        assert await recovered(rig) == then
        if then != "OPEN":
            assert long_events(rig) == []
            assert rig.hyperliquid()["cash_usd"] == before


async def test_killed_while_the_chain_alone_has_the_transaction(tmp_path: Path) -> None:
    """Asgard refuses the submit, so the same bytes go to the node; the process dies before the answer."""
    from twins.faults import Fault

    async with carry_rig(tmp_path) as rig:
        rig.twins.faults.add(Fault("asgard", "http_500", r"POST /submit-create-position-tx", times=-1))
        await rig.kill_at(Moment(SEND, 1, "applied"), *ENTER)
        assert await recovered(rig) == "OPEN"


@pytest.mark.parametrize(("moment", "then"), moments(EXITING))
async def test_killed_while_leaving(tmp_path: Path, moment: Moment, then: str) -> None:
    async with carry_rig(tmp_path) as rig:
        await entered(rig)
        rig.twins.world.clock.advance_to(rig.twins.world.now_ms() + 3 * 3_600_000)
        await rig.kill_at(moment, "exit", "--json")
        assert await recovered(rig) == then
        assert rig.short_qty() == 0


@pytest.mark.parametrize(("moment", "then"), moments(REBALANCING))
async def test_killed_while_rebalancing(tmp_path: Path, moment: Moment, then: str) -> None:
    """Recovery finishes what was started; the next tick levels what is left, by the same rules."""
    async with carry_rig(tmp_path) as rig:
        await entered(rig)
        rig.twins.world.overrides.sol_price = 180.0
        await rig.kill_at(moment, "rebalance", "--json")
        recovery = await rig.run("recover", "--json")
        assert recovery.code == 0, (recovery.out, recovery.err)
        assert recovery.json()["clean"]
        levelled = await rig.run("rebalance", "--json")
        assert levelled.code == 0, (levelled.out, levelled.err)
        seen = (await rig.run("status", "--json")).json()
        assert (seen["unfinished_intents"], seen["unowned_legs"], seen["unreadable"]) == ([], [], {})
        (position,) = seen["positions"]
        assert position["status"] == then
        legs = {leg["side"]: Decimal(leg["qty"]) for leg in position["legs"]}
        assert abs(legs["long"] - legs["short"]) < legs["long"] * Decimal("0.005"), legs
        assert [event["kind"] for event in long_events(rig)].count("deleverage") <= 1
        check_opened_once(rig)
        check_books(rig)


@pytest.mark.parametrize(
    ("first", "moment"),
    [
        pytest.param(row[0], Moment(*row[1:]), id=f"{row[0]}-{row[1].split()[-1]}-{row[3]}")
        for row in (RECOVERING if WHOLE else RECOVERING[::2])
    ],
)
async def test_killed_while_recovering(tmp_path: Path, first: str, moment: Moment) -> None:
    async with carry_rig(tmp_path) as rig:
        await rig.kill_at(Moment(ORDER, 1, first), *ENTER)
        await rig.kill_at(moment, "recover", "--json")
        assert await recovered(rig) == "OPEN"


async def test_every_writing_call_has_its_moments(tmp_path: Path) -> None:
    """The calls of an undisturbed trade that could change something, all of them, before and after they took effect."""
    known = {
        "enter": {(row[0], row[2]) for row in ENTERING},
        "rebalance": {(row[0], row[2]) for row in REBALANCING},
        "exit": {(row[0], row[2]) for row in EXITING},
    }
    async with carry_rig(tmp_path) as rig:
        for arguments in (ENTER, ["rebalance", "--json"], ["exit", "--json"]):
            rig.gate.watch_for(None)
            done = await rig.run(*arguments)
            assert done.code == 0, (done.out, done.err)
            writing = {call for call in rig.gate.calls if not any(mark in call for mark in READS)}
            assert writing, rig.gate.calls
            wanted = {(call, when) for call in writing for when in ("arrived", "applied")}
            assert wanted <= known[arguments[0]], wanted - known[arguments[0]]
            rig.twins.world.overrides.sol_price = 180.0
        store = rig.store()
        assert store.carry.open_legs() == []
        assert {leg.side for leg in store.carry.legs(store.carry.positions()[0].position_id)} == set(LegSide)
        store.close()

"""A rebalance that nobody goes on with is one alert, by whoever sees it in the ledger, until it goes on or has ended."""

from __future__ import annotations

import contextlib
from typing import Any

from app.watchdog import Watchdog
from evenkeel.settings.settings import Settings
from flows.hedging.hedge import HedgeRequest, hedge_account
from state.hedging.models import RebalanceState
from tasks.hedging.rebalancing.carrying import TO_BRIDGE, end
from tasks.hedging.rebalancing.left import LEFT, left_after_s
from tests.databases import database_fixtures
from tests.interruptions import Killed, die, hooked
from tests.rebalancing_rig import RebalanceRig, rebalancing_rig
from twins.faults import Fault

databases, url, _store = database_fixtures("sqlite")


def said(rig: RebalanceRig) -> list[tuple[str, int]]:
    """Subject and times of the open alerts of this kind."""
    return [(one.subject, one.times) for one in rig.hedging.store.alerts(open_only=True) if one.kind == LEFT]


def ever(rig: RebalanceRig) -> int:
    return sum(1 for one in rig.hedging.store.alerts() if one.kind == LEFT)


async def passed(rig: RebalanceRig) -> None:
    """One pass of the process that hedges."""
    async with rig.desk() as rd:
        await hedge_account(rd.at, HedgeRequest(), once=True)


async def killed_half_way(rig: RebalanceRig) -> str:
    """One whose process dies when its first step has passed; its name."""
    row = await rig.usdc_approved()

    def has_moved(name: str, done: dict[str, Any], *_: Any, **__: Any) -> bool:
        return len(done.get("steps", ())) == 1

    with hooked(rig.hedging.store.hedging, "note_rebalance", after=die, when=has_moved):
        for _ in range(10):
            with contextlib.suppress(Killed):
                await rig.go(row.name)
            if rig.row(row.name).done.get("steps"):
                break
            rig.hedging.later(10)
    found = rig.row(row.name)
    assert found.state is RebalanceState.RUNNING and len(found.done["steps"]) == 1
    return row.name


def watchdog(rig: RebalanceRig) -> Watchdog:
    rig.settings()
    return Watchdog(Settings(hedging=rig.hedging.given().hedging), rig.hedging.store)


async def test_one_whose_process_was_killed_is_one_alert_until_it_goes_on(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        name = await killed_half_way(rig)
        await passed(rig)
        assert said(rig) == [], "it was gone over a moment ago"
        rig.hedging.later(left_after_s(rig.hedging.given().hedging) + 1)
        dog = watchdog(rig)
        for _ in range(3):
            await passed(rig)
            await dog.round()
            rig.hedging.later(60)
        assert said(rig) == [(name, 1)] and ever(rig) == 1
        await rig.go(name)
        assert said(rig) == []
        for _ in range(2):
            await passed(rig)
            await dog.round()
        assert said(rig) == [] and ever(rig) == 1
        assert (await rig.to_the_end(name)).state is RebalanceState.DONE and ever(rig) == 1


async def test_the_watchdog_sees_it_where_no_process_hedges_and_ends_it_where_a_person_did(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        name = await killed_half_way(rig)
        dog = watchdog(rig)
        rig.hedging.later(left_after_s(dog.settings.hedging) + 1)
        await dog.round()
        await dog.round()
        assert said(rig) == [(name, 1)]
        async with rig.desk() as rd, rd.at.desk.exclusive(rd.lease, "rebalancing") as fence:
            end(rd, name, "a person", "moved back by hand", fence)
        assert said(rig) == []
        await dog.round()
        assert said(rig) == []


async def test_one_that_was_approved_and_never_begun_is_left_too(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        row = await rig.usdc_approved()
        rig.hedging.later(left_after_s(rig.hedging.given().hedging) + 1)
        await passed(rig)
        assert said(rig) == [(row.name, 1)]
        await rig.go(row.name)
        assert said(rig) == []


async def test_one_that_waits_and_is_gone_over_or_that_waits_for_a_person_is_not_left(url: str) -> None:
    async with rebalancing_rig(url) as rig:
        row = await rig.usdc_approved()
        after_s, waits = left_after_s(rig.hedging.given().hedging), list[str]()
        slow = {"path": "0.status", "value": "PROCESSING"}
        rig.hedging.broker.faults.add(Fault("alpaca", "field", "transfers:list", times=-1, args=slow))
        for _ in range(10):
            if (await rig.go(row.name)).done.get("waits", "").startswith("pay-out:"):
                break
            rig.hedging.later(10)
        for _ in range(6):  # a payment that does not come to its end: each go says the same
            await rig.go(row.name)
            rig.hedging.later(after_s / 2)
            await passed(rig)
            assert said(rig) == []
            waits.append(rig.row(row.name).done["waits"])
        assert len(set(waits)) == 1 and waits[0].startswith("pay-out:"), waits
        rig.hedging.broker.faults.faults.clear()
        for _ in range(40):
            if (TO_BRIDGE, row.name) in rig.alerts():
                break
            await rig.go(row.name)
            rig.hedging.later(10)
        rig.hedging.later(after_s * 3)
        await passed(rig)
        assert said(rig) == [] and (TO_BRIDGE, row.name) in rig.alerts()

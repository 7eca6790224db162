"""Hedging in whose name no pass succeeds in an open market is alerted, also by a process that has the ledger alone."""

from __future__ import annotations

from app.watchdog import Watchdog
from flows.hedging.hedge import HedgeRequest, hedge_account
from tasks.hedging.running.silence import HEARTBEAT, SILENT
from tests.databases import database_fixtures
from tests.hedging_rig import HedgingRig, hedging_rig

databases, url, _store = database_fixtures("sqlite")
SATURDAY_MS = 1_768_058_000_000


def alarms(rig: HedgingRig) -> list[str]:
    return [one.text for one in rig.store.open_alerts_of(HEARTBEAT) if one.kind == SILENT]


async def test_a_process_that_is_gone_is_missed_and_the_next_pass_ends_it(url: str) -> None:
    async with hedging_rig(url) as rig:
        watchdog = Watchdog(rig.given(), rig.store)
        await rig.one_pass()
        rig.later(40)
        await watchdog.round()
        assert alarms(rig) == [] and 15 <= watchdog.pause_s() <= 20.2
        rig.later(20.2)
        for _ in range(2):
            await watchdog.round()
        assert len(alarms(rig)) == 1 and "is it running?" in alarms(rig)[0]
        await rig.one_pass()
        await watchdog.round()
        assert alarms(rig) == []


async def test_hedging_that_was_switched_on_and_never_began_is_missed_too(url: str) -> None:
    async with hedging_rig(url) as rig:
        watchdog = Watchdog(rig.given(), rig.store)
        await watchdog.round()
        assert alarms(rig) == []
        rig.later(61)
        await watchdog.round()
        assert len(alarms(rig)) == 1
        rig.store.ack_alert(SILENT, HEARTBEAT)
        rig.settings = {"enabled": False}
        off = Watchdog(rig.given(), rig.store)
        for _ in range(2):
            await off.round()
            rig.later(61)
        assert alarms(rig) == []


async def test_a_closed_market_misses_nobody(url: str) -> None:
    async with hedging_rig(url, start_ms=SATURDAY_MS) as rig:
        await rig.one_pass()
        rig.later(3_600)
        await Watchdog(rig.given(), rig.store).round()
        assert alarms(rig) == []
        async with rig.desk() as at:
            rig.fault("raindex", "http_500", times=1_000)
            await hedge_account(at, HedgeRequest(until_ms=rig.clock.now_ms() + 120_000))
        assert alarms(rig) == []


async def test_a_pass_that_fails_says_itself_why(url: str) -> None:
    async with hedging_rig(url) as rig:
        await rig.one_pass()
        async with rig.desk() as at:
            rig.fault("raindex", "http_500", times=1_000)
            done = await hedge_account(at, HedgeRequest(until_ms=rig.clock.now_ms() + 120_000))
        assert done.failed == done.passes
        [text] = alarms(rig)
        assert "500" in text
        await Watchdog(rig.given(), rig.store).round()
        assert alarms(rig) == [text], "who has the ledger alone knows less"

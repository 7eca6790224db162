"""What the commands that serve every business say and do of hedging: status, recover and doctor."""

from __future__ import annotations

from decimal import Decimal

from app.doctor import hedging
from app.doctor.frame import CHECKS, Health, Installation
from app.hedging.operating import hedging_status, recover_hedging
from app.watchdog import Watchdog
from tasks.hedging.running.silence import SILENT, alarm_silent
from tests.databases import database_fixtures
from tests.hedging_rig import HedgingRig, hedging_rig, keys_of
from tests.integration.hedging.test_commands import settings_of

databases, url, _store = database_fixtures("sqlite")


async def test_the_status_says_what_is_open_and_a_recovery_asks_what_became_of_it(url: str) -> None:
    async with hedging_rig(url) as rig:
        assert hedging_status(rig.store)["seconds_since_pass"] is None
        rig.trade("AAPL", "sell", "3")
        await rig.one_pass()
        found = hedging_status(rig.store)
        assert found["unfinished_intents"] == 1 and found["seconds_since_pass"] == 0
        assert Decimal(found["open_shares"]["AAPL"]) == -3
        rig.later(20)
        settings = settings_of(rig, url)
        with keys_of(rig.keys["trading"]):
            async with rig.desk() as at, at.desk.exclusive(at.lease, "hedging"):
                said = await recover_hedging(settings)
                assert "another process hedges" in said["faults"]["hedging"]
                assert said["unfinished_intents"] == 1
            assert await recover_hedging(settings) == {"unfinished_intents": 0, "faults": {}}
        assert hedging_status(rig.store)["open_shares"] == {}
        rig.check()


async def test_the_doctor_examines_chain_broker_and_calendar(url: str) -> None:
    async with hedging_rig(url) as rig:
        checks = [one for one in CHECKS if one.group == hedging.GROUP]

        async def examined(rig: HedgingRig) -> dict[str, Health]:
            asked = Installation(rig.given(), rig.clock, ledger=rig.store)
            with keys_of(rig.keys["trading"]):
                return {one.name: (await one.run(asked)).health for one in checks}

        assert (
            await examined(rig) == dict.fromkeys((one.name for one in checks), Health.OK) and len(checks) == 4
        )
        rig.broker.control("asset", {"symbol": "TSLA", "fractionable": True, "tradable": False})
        assert (await examined(rig))["broker"] is Health.FAIL
        rig.fault("alpaca", "http_500", times=1000)
        assert (await examined(rig))["broker"] is Health.FAIL
        rig.fault("raindex", "http_500", times=1000)
        found = await examined(rig)
        assert found.pop("rebalances") is Health.OK and set(found.values()) == {Health.FAIL}


async def test_the_watchdog_says_that_nobody_hedges_while_the_market_is_open(url: str) -> None:
    async with hedging_rig(url) as rig:
        watchdog = Watchdog(settings_of(rig, url), rig.store)

        async def is_said() -> bool:
            await watchdog.round()
            return SILENT in {one.kind for one in rig.store.alerts(open_only=True)}

        assert not await is_said(), "it was never begun"
        await rig.one_pass()
        rig.later(50)
        assert not await is_said()
        rig.later(30)
        assert await is_said() and await is_said()
        await rig.one_pass()
        assert not await is_said()
        rig.later(16 * 3600)
        assert not await is_said(), "it is night in New York"
        rig.later(8 * 3600)
        assert await is_said(), "it is ten o'clock again"
        off = rig.given().hedging.model_copy(update={"enabled": False})
        assert alarm_silent(rig.store, off, 0) is None

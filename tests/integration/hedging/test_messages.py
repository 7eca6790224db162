"""What is wrong with hedging reaches people: at Slack's twin, with what it means and what to do, and again when it is over."""

from __future__ import annotations

from app.watchdog import Watchdog
from tasks.hedging.passing import pass_once
from tests.databases import database_fixtures
from tests.hedging_rig import hedging_rig
from tests.message_rig import Rig, slack_rig

databases, url, _store = database_fixtures("sqlite")


async def delivered(slack: Rig) -> list[str]:
    while await slack.sender.step(slack.line):
        pass
    return slack.texts


async def test_alerts_of_hedging_are_sent_and_their_end_is(url: str) -> None:
    async with hedging_rig(url) as rig, slack_rig(rig.store) as slack:
        async with rig.desk() as at:
            await pass_once(at, None)
            rig.fault("raindex", "http_500", times=1_000)
            rig.trade("AAPL", "sell", "3")
            await rig.passes(at, None, 3, apart_s=30)
        assert await delivered(slack) == ["CRITICAL: chain unread (base)"]
        [shown] = slack.twin.shown()
        assert "not seen" in shown["text"] and "another node" in str(shown)
        rig.later(120)
        await Watchdog(rig.given(), rig.store).round()
        assert (await delivered(slack))[1:] == ["CRITICAL: hedging silent (hedging)"]
        rig.plan.clear()
        await rig.one_pass()
        said = (await delivered(slack))[2:]
        assert sorted(said) == ["over: chain unread (base)", "over: hedging silent (hedging)"]

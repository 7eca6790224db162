"""A dead man's switch is called while people would hear of an alert: a sender that is gone cannot report that it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.watchdog import Watchdog
from evenkeel.settings.host import Watchdog as WatchdogSettings
from state.watch_models import Severity
from tasks.messages.sender import HEARTBEAT, wall_ms
from tests.carry.rig import Rig, story_rig
from tests.integration.carry.test_watchdog import Switch, switch
from tests.message_rig import CHANNEL, slack_rig


def dog(rig: Rig, dead_man: Switch, *more: str) -> Watchdog:
    """With Slack as a channel, and what else is named."""
    given = rig.desk.settings
    update: dict[str, Any] = {
        "watchdog": WatchdogSettings(ping_url=dead_man.url),
        "slack": given.slack.model_copy(update={"channel": CHANNEL}),
    }
    if "webhook" in more:
        update["webhook"] = given.webhook.model_copy(update={"url": "http://127.0.0.1:9/hook"})
    return Watchdog(given.model_copy(update=update), rig.desk.store)


def alive(rig: Rig, seconds_ago: float = 0) -> None:
    """The sender's sign of life, as it leaves one."""
    rig.desk.store.record_heartbeat(HEARTBEAT, {"faults": {}, "wall_ms": wall_ms() - int(1000 * seconds_ago)})


async def test_the_switch_is_not_called_while_no_sender_lives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with story_rig(tmp_path) as rig, switch() as dead_man:
        watchdog = dog(rig, dead_man)
        await watchdog.round()
        assert dead_man.paths == [], "a channel is set, and no sender has ever run"
        alive(rig)
        await watchdog.round()
        assert len(dead_man.paths) == 1
        alive(rig, seconds_ago=600)
        await watchdog.round()
        await watchdog.round()
        assert len(dead_man.paths) == 1
        said = [one.getMessage() for one in caplog.records if "nobody hears" in one.getMessage()]
        assert said == [
            "nobody hears of an alert: the sender has never run",
            "nobody hears of an alert: the sender was last alive 10 min ago",
        ], "once, while it goes on"


async def test_nor_while_something_critical_reaches_nobody(tmp_path: Path) -> None:
    async with (
        story_rig(tmp_path) as rig,
        switch() as dead_man,
        slack_rig(rig.desk.store) as slack,
    ):
        slack.sender.joined(slack.line.channel)
        watchdog = dog(rig, dead_man)
        rig.desk.store.alert("outage", Severity.WARNING, "SOL", "the venue does not answer")
        rig.later(1000)
        alive(rig)
        await watchdog.round()
        assert len(dead_man.paths) == 1, "a warning may wait"
        rig.desk.store.alert("liquidation:long", Severity.CRITICAL, "p1", "closer than the limit")
        rig.later(600)
        await watchdog.round()
        assert len(dead_man.paths) == 2, "Slack may be down for some minutes"
        rig.later(400)
        await watchdog.round()
        assert len(dead_man.paths) == 2
        while await slack.sender.step(slack.line):
            pass
        await watchdog.round()
        assert len(dead_man.paths) == 3, "it was delivered"


async def test_one_channel_that_delivers_is_enough(tmp_path: Path) -> None:
    async with (
        story_rig(tmp_path) as rig,
        switch() as dead_man,
        slack_rig(rig.desk.store) as slack,
    ):
        store = rig.desk.store
        slack.sender.joined(slack.line.channel)
        store.move_checkpoint("channel webhook", store.clock.now_ms(), {"after": 0})
        store.alert("liquidation:long", Severity.CRITICAL, "p1", "closer than the limit")
        rig.later(1000)
        alive(rig)
        await dog(rig, dead_man, "webhook").round()
        assert dead_man.paths == []
        while await slack.sender.step(slack.line):
            pass
        await dog(rig, dead_man, "webhook").round()
        assert len(dead_man.paths) == 1


async def test_without_a_channel_nobody_is_to_hear(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig, switch() as dead_man:
        settings = rig.desk.settings.model_copy(update={"watchdog": WatchdogSettings(ping_url=dead_man.url)})
        rig.desk.store.alert("liquidation:long", Severity.CRITICAL, "p1", "closer than the limit")
        rig.later(5000)
        await Watchdog(settings, rig.desk.store).round()
        assert len(dead_man.paths) == 1

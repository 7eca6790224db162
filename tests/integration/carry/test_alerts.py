"""Alerts and breaches end with what they are about; what is news for a person stays until a person has seen it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

from evenkeel.legs import CARRY
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.monitor import MonitorRequest, watch_position
from state.watch_models import Severity
from tests.carry.rig import Rig, story_rig
from tests.integration.carry.test_pause import command

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}


async def watched(rig: Rig, position_id: str, seconds: int) -> str:
    await rig.desk.clock.refresh()
    until_ms = rig.desk.clock.now_ms() + seconds * 1000
    return (await watch_position(rig.desk, MonitorRequest(position_id=position_id, until_ms=until_ms))).status


def still_open(rig: Rig, position_id: str) -> set[str]:
    return {row.kind for row in rig.desk.store.alerts(open_only=True) if row.subject == position_id}


async def test_what_the_watch_said_of_a_position_ends_with_it(tmp_path: Path) -> None:
    """The exit acts first and notes its danger afterwards, when the position has ended already."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="jitoSOL", protocol=1)
        rig.funding_was(-0.00055)
        rig.market(lst_peg={"jitoSOL": 0.985})
        assert await watched(rig, position_id, 60) == "OPEN"
        assert {"lst_peg", "carry"} <= still_open(rig, position_id)
        rig.fault("asgard", "reject", "POST /position/.*", times=-1)  # the long cannot be made smaller
        entry = Decimal(rig.desk.store.carry.position(position_id).facts["entry_distance"]["long"])
        rig.market(lst_peg={}, sol_price=200.0 * float((1 - entry) / (1 - entry / 5)))
        assert await watched(rig, position_id, 120) == "CLOSED"
        assert str(rig.desk.store.carry.position(position_id).close_reason).startswith("liquidation:long")
        [danger] = rig.desk.store.breaches(CARRY, position_id)
        assert danger.fired_ms is not None, "that it was, is kept"
        assert not rig.desk.store.running_breaches(CARRY)
        assert not still_open(rig, position_id)


async def test_a_closing_by_hand_ends_alerts_and_breaches_too_and_keeps_the_news(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.funding_was(-0.00055)
        await watched(rig, position_id, 60)
        store = rig.desk.store
        store.breach_start(CARRY, position_id, "price_deviation")
        store.alert("leg reduced", Severity.CRITICAL, "partly liquidated", subject=position_id, news=True)
        store.alert("carry", Severity.WARNING, "of another", subject="another")
        assert {"carry", "leg reduced"} <= still_open(rig, position_id)
        result = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert result.status == "CLOSED"
        assert still_open(rig, position_id) == {"leg reduced"}
        assert still_open(rig, "another") == {"carry"}
        assert not store.running_breaches(CARRY, position_id)


async def test_a_person_acknowledges_what_is_news(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        store = rig.desk.store
        store.alert("leg vanished", Severity.CRITICAL, "gone", subject="P", news=True)
        store.alert("leg vanished", Severity.CRITICAL, "gone too", subject="Q", news=True)
        store.alert(
            "late fill", Severity.CRITICAL, "of an order called dead", subject="hyperliquid 7", news=True
        )

        nothing = command(rig, "ack", "leg reduced")
        assert nothing.returncode == 2 and len(nothing.stderr.strip().splitlines()) == 1, nothing.stderr
        assert "no open alert is 'leg reduced'" in nothing.stderr and "late fill" in nothing.stderr
        elsewhere = command(rig, "ack", "leg vanished", "--subject", "R")
        assert elsewhere.returncode == 2 and "of 'R'" in elsewhere.stderr, elsewhere.stderr
        assert len(store.alerts(open_only=True)) == 3

        one = command(rig, "ack", "leg vanished", "--subject", "Q", "--reason", "seen on the venue", "--json")
        assert one.returncode == 0, one.stderr
        assert [row["subject"] for row in json.loads(one.stdout)["acknowledged"]] == ["Q"]
        both = command(rig, "ack", "leg vanished")
        assert both.returncode == 0 and "leg vanished (P): gone" in both.stdout, both
        assert [row.kind for row in store.alerts(open_only=True)] == ["late fill"]

        moves = [row for row in store.transitions() if row.entity == "alert"]
        assert [(row.entity_id, row.from_state, row.to_state) for row in moves] == [
            ("leg vanished/Q", "open", "acknowledged"),
            ("leg vanished/P", "open", "acknowledged"),
        ]
        assert "@" in moves[0].note and "seen on the venue" in moves[0].note and moves[0].at_ms > 0
        _, new = store.alert("leg vanished", Severity.CRITICAL, "again", subject="P", news=True)
        assert new, "what happens anew is raised anew"


async def test_ack_without_any_open_alert_says_so(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        ran = command(rig, "ack", "leg vanished")
        assert ran.returncode == 2 and "none is open" in ran.stderr, ran.stderr

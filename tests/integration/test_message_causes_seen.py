"""A cause that somebody has acknowledged, and the accounts that come to it afterwards."""

from __future__ import annotations

from state.store import Store
from tests.databases import database_fixtures
from tests.integration.test_message_causes import DOWN, fleet_of

databases, url, store = database_fixtures()


async def test_what_comes_to_it_after_it_was_acknowledged_is_said_aloud(store: Store) -> None:
    """Who has acknowledged it knows of the accounts until then: one more stood in the thread alone, where nobody looks."""
    async with fleet_of(store, 5) as rig:
        rig.raises(range(2))
        await rig.deliver()
        for number in range(2):
            assert rig.of(number).acknowledge("outage", f"P{number}", "ann")
        rig.clock.ms += 60_000
        rig.raises(range(2, 4))
        await rig.deliver()
        [letter] = rig.letters
        said = rig.twin.shown(thread=letter["ts"])[1:]
        aloud = [one["text"].split("\n")[:2] for one in said if one.get("subtype") == "thread_broadcast"]
        assert aloud == [["CRITICAL: outage (2 accounts)", f"a2, a3: {DOWN}"]]
        rig.clock.ms += 60_000
        rig.raises(range(4, 5))
        await rig.deliver()
        assert [row.kind for row in rig.said if row.kind in ("alert", "grew")] == ["alert", "alert", "grew"]

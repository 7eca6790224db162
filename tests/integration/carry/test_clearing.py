"""Only what passed every check of an entry can be written down, and nothing but the checks can say that it did."""

from __future__ import annotations

import ast
import copy
import pickle
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from evenkeel.errors import Bug
from tasks.carry.entering import entry
from tasks.carry.entering.choose import Declined, RequestedEntry
from tasks.carry.entering.clearing import Cleared, Ready, clear, get_ready
from tests.carry.rig import story_rig

ROOT = Path(__file__).resolve().parents[3]
SOL_ON_KAMINO = RequestedEntry(asset="SOL", protocol=1)


def test_a_clearance_made_by_hand_is_refused() -> None:
    plan: Any = object()
    with pytest.raises(Bug, match="Cleared is made by the checks of an entry alone"):
        Cleared(object(), plan, ())
    with pytest.raises(Bug, match="Ready is made by the checks of an entry alone"):
        Ready(None)


async def test_a_plan_is_written_down_only_once_it_is_cleared(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        desk, not_ready = rig.desk, Declined(reasons=("paused",))
        forged: Any = not_ready
        with pytest.raises(Bug, match="only when it is ready"):
            await clear(desk, forged, SOL_ON_KAMINO)
        ready = await get_ready(desk)
        assert isinstance(ready, Ready)
        cleared = await clear(desk, ready, SOL_ON_KAMINO)
        assert isinstance(cleared, Cleared) and len(cleared.checks) == 9
        uncleared: Any = cleared.plan
        with pytest.raises(Bug, match="passed every check"):
            await entry.write_down(desk, uncleared)
        assert not desk.store.carry.positions()

        for change in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="check again"):
                change(cleared)
        with pytest.raises(AttributeError):
            cleared.plan = uncleared.model_copy(update={"protocol": 2})  # type: ignore[misc]
        assert (await entry.write_down(desk, cleared)).asset == "SOL"


async def test_what_refuses_an_entry_says_why_in_a_type_of_its_own(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        rig.desk.store.pause("entries", "for a test")
        refused = await get_ready(rig.desk)
        assert isinstance(refused, Declined) and "for a test" in refused.reasons[0]
        rig.desk.store.resume("entries", "for a test")
        ready = await get_ready(rig.desk)
        assert isinstance(ready, Ready)
        declined = await clear(rig.desk, ready, RequestedEntry(asset="SOL", protocol=3))
        assert isinstance(declined, Declined) and declined.reasons


def test_the_signature_demands_a_clearance_and_nobody_else_makes_a_position() -> None:
    assert get_type_hints(entry.write_down)["cleared"] is Cleared
    assert get_type_hints(clear)["ready"] is Ready
    makers = {
        str(path.relative_to(ROOT))
        for folder in ("app", "flows", "tasks")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "create_position"
    }
    assert makers == {"tasks/carry/entering/entry.py"}

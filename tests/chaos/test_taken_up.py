"""A run of chaos is ended and taken up again: scenarios are found by their names alone, and what has passed is not played."""

from __future__ import annotations

import traceback
from collections import Counter
from pathlib import Path

import pytest

from tests.agents_rig import SECRET
from tests.chaos import taken_up
from tests.chaos.__main__ import BUSINESSES, main
from tests.chaos.business import Business
from tests.chaos.harness import Harness, Result
from tests.chaos.interceptor import Point
from tests.chaos.scenarios import SEPARATOR, Scenario, covering, scenario_named, scenarios_of


def _points(business: Business) -> list[Point]:
    """A call that can change something and two of one that only reads, one with the parts of a name in its own."""
    writing = business.calls.writing[0]
    reads = [Point("hyperliquid GET /a / b#c", nth) for nth in (1, 2)]
    return [Point(f"hyperliquid {writing}order", 1), *reads]


@pytest.mark.parametrize("business", BUSINESSES, ids=lambda one: one.name)
def test_each_scenario_is_found_by_its_name(business: Business) -> None:
    known = business.handwritten()
    crossed = [
        one for story in business.stories for one in scenarios_of(story, _points(business), business.calls)
    ]
    for one in [*known, *crossed]:
        assert scenario_named(one.name, business.stories, known, business.calls) == one
    names = Counter(one.name for one in [*known, *crossed])
    assert not [name for name, count in names.items() if count > 1]
    for wrong in ("", "enter", f"{business.stories[0].name} / x / 500 before", f"{crossed[0].name}s"):
        assert scenario_named(wrong, business.stories, known, business.calls) is None


def test_what_is_ended_early_has_seen_one_of_each_fault_of_each_story() -> None:
    business = BUSINESSES[-1]
    every = [
        one
        for story in business.stories[:3]
        for one in scenarios_of(story, _points(business), business.calls)
    ]
    kinds = {(one.story, one.fault) for one in every}
    ordered = covering(every)
    assert {(one.story, one.fault) for one in ordered[: len(kinds)]} == kinds
    assert sorted(one.name for one in ordered) == sorted(one.name for one in every)


def test_what_has_passed_is_not_played_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [one.name for one in BUSINESSES[-1].handwritten()[:3]]
    (tmp_path / "named").write_text("\n".join([*names, "3 scenarios"]) + "\n")
    passed, asked = tmp_path / "passed", ["--only", BUSINESSES[-1].name, "--named", str(tmp_path / "named")]
    taken_up.note_passed(passed, names[1])
    taken_up.note_passed(None, names[0])
    assert main([*asked, "--passed", str(passed), "--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [names[0], names[2], "2 scenarios"]
    (tmp_path / "named").write_text(f"{names[0]}{SEPARATOR}never\n")
    assert main(asked) == 2
    assert "no scenario of these has the name" in capsys.readouterr().out


def test_no_traceback_holds_the_secret_that_is_searched_for() -> None:
    with pytest.raises(ValueError, match="invalid literal") as raised:
        _ = [int("a line of this length is marked from here to there")]
    said = "".join(traceback.format_exception(raised.value))
    assert "^" * 32 in said
    assert bytes.fromhex(SECRET) not in said.encode()


def test_a_scenario_whose_call_never_comes_is_played_again_and_fails_at_last(tmp_path: Path) -> None:
    business = BUSINESSES[0]
    story = next(one for one in business.stories if one.name == "enter")
    never = Scenario(
        story.name,
        "500 before",
        story.snapshot,
        story.steps,
        Point("solana rpc:getTransaction", 1000),
    )
    reported: list[Result] = []
    [result] = Harness(business, tmp_path).play([never], jobs=1, report=reported.append)
    assert reported == [result] and result.missed and "never came" in result.problems[0][1]
    assert [len(list((tmp_path / "played").glob(f"0{more}"))) for more in ("", "-2", "-3", "-4")] == [
        0,
        0,
        1,
        0,
    ]

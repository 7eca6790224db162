"""Each story of the predecessor is found again: with its defect in the product the story's own test fails, and only then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.chaos.hedging import defects
from tests.chaos.hedging.crossing import LEDGER, Crossing, new_ledger, play
from tests.chaos.hedging.defects import Defect, planted
from tests.integration.hedging import test_stories as stories

IN_TWO_COMMITS = Crossing("live", "alpaca", (LEDGER, "confirm"), 1, "dies after")


async def position_never_learns(url: str) -> None:
    """The process dies after the commit that says that the order is filled; the next one goes on."""
    await play(url, Path(url.removeprefix("sqlite:///")).parent, IN_TWO_COMMITS)


FOUND_BY: tuple[tuple[Defect, Callable[[str], Awaitable[None]]], ...] = (
    (defects.claim_lost_but_broker_called, stories.test_a_claim_that_is_lost_calls_no_broker),
    (defects.dead_by_age, stories.test_an_order_is_not_dead_for_its_age),
    (defects.dead_order_adopted_for_ever, stories.test_a_dead_order_is_given_up_and_its_key_with_it),
    (defects.polled_without_a_pace, stories.test_two_open_orders_are_asked_at_their_own_pace),
    (defects.limit_counted_as_failure, stories.test_a_limit_of_calls_uses_up_nothing_and_is_over),
    (defects.silent_for_hours, stories.test_hours_without_a_pass_that_succeeded_are_said_within_a_minute),
    (defects.position_in_a_commit_of_its_own, position_never_learns),
    (defects.empty_answer_believed, stories.test_an_empty_answer_of_a_node_that_lags_is_no_answer),
    (defects.balance_and_fill_counted, stories.test_a_restart_across_an_open_order_counts_its_part_once),
)


@pytest.mark.parametrize(("defect", "story"), FOUND_BY, ids=[defect.__name__ for defect, _ in FOUND_BY])
async def test_a_planted_defect_is_found_by_the_test_of_its_story(
    tmp_path: Path, defect: Defect, story: Callable[[str], Awaitable[None]]
) -> None:
    with planted(defect), pytest.raises(AssertionError):
        await story(new_ledger(tmp_path))


async def test_without_the_defect_the_same_death_loses_nothing(tmp_path: Path) -> None:
    await position_never_learns(new_ledger(tmp_path))

"""A sample of `python -m tests.workers`: ten entries and exits of four accounts at once, by three processes on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from tests.workers.asked import asked_at_once


async def test_what_is_asked_for_at_once_is_done_once_and_books_and_venues_agree(tmp_path: Path) -> None:
    outcome = await asked_at_once(tmp_path, 10, 4, with_prefect=False)
    assert not outcome.faults, outcome.lines()
    assert set(outcome.states) <= {"Completed", "Failed"} and sum(outcome.states.values()) == 10
    # The processes count the venue's weight together: none of them is refused any.
    refusals = ("being handled by", "another entry is being decided")
    assert all(any(one in text for one in refusals) for text in outcome.said), outcome.said
    assert set(outcome.positions) <= {"CLOSED", "OPEN"}
    # An exit that comes while another process has its position is refused, and the position stays.
    refused = sum(count for text, count in outcome.said.items() if "being handled by" in text)
    assert 2 - refused <= outcome.positions["CLOSED"] <= 2, outcome.lines()
    assert outcome.orders == outcome.positions["CLOSED"] * 2 + outcome.positions["OPEN"], outcome.lines()

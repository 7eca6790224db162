"""A venue's clock, as the stamps of its answers show it: behind is proved by one answer, ahead only by several."""

from __future__ import annotations

import pytest

from venues.timing import KEPT, VenueTime

NOW = 1_757_203_200_000


class Still:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.ms = NOW
        self.refreshed = 0

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)

    async def refresh(self) -> None:
        self.refreshed += 1


async def test_a_stamp_between_asking_and_arrival_says_that_the_clocks_agree() -> None:
    clock = Still()
    time = VenueTime(clock)
    assert time.ahead_ms is None and time.now_ms() == NOW
    await time.note(NOW - 80, NOW - 40)
    assert time.ahead_ms in (0, -0) and time.now_ms() == NOW


async def test_a_stamp_of_the_future_moves_the_time_to_sign_by() -> None:
    clock = Still()
    time = VenueTime(clock)
    await time.note(NOW - 80, NOW + 12_000)
    assert time.ahead_ms == -12_000 and time.now_ms() == NOW + 12_000
    assert clock.refreshed == 1, "our own picture of the time is made sure of first"
    await time.note(NOW - 80, NOW - 40)
    assert time.now_ms() == NOW, "a clock that was set right is right at once"


async def test_an_old_answer_is_no_clock_that_is_ahead_and_five_in_a_row_are() -> None:
    clock = Still()
    time = VenueTime(clock)
    await time.note(NOW, NOW + 12_000)
    await time.note(NOW, NOW - 3_600_000)
    assert time.ahead_ms == -12_000, "one old answer changes nothing"
    for _ in range(KEPT):
        await time.note(NOW, NOW - 7_000)
    assert time.ahead_ms == 7_000
    assert time.now_ms() == NOW, "orders that live longer are no danger: the venue's clock proves their end"


@pytest.mark.parametrize(
    "date",
    [
        None,
        "",
        "yesterday",
        "Sun, 99 Sep 2025 00:00:00 GMT",
        "Sun, 07 Sep 99999999999999999999 00:00:00 GMT",
        "Sun, 07 Sep 2025 00:00:00 +99999999999999",
    ],
)
async def test_a_date_that_cannot_be_read_is_left_out(date: str | None) -> None:
    time = VenueTime(Still())
    await time.note_date(NOW, date)
    assert time.ahead_ms is None


async def test_a_date_counts_whole_seconds() -> None:
    clock = Still()
    clock.ms = NOW + 900
    time = VenueTime(clock)
    await time.note_date(NOW + 850, "Sun, 07 Sep 2025 00:00:00 GMT")
    assert time.ahead_ms is not None and time.now_ms() == NOW + 900

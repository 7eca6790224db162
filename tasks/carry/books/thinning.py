"""Which looks at a position are kept for how long: every one for two days, one in five minutes for a month, hourly for ever.

Orders, fills, payments and the audit log are never removed. A report splits interest from price by hourly marks of the long
leg (`marked`): those looks are kept whatever their age, so that no figure of an account moves.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from evenkeel.units import DAY_MS, HOUR_MS
from state.carry.models import Position, PositionSnapshot
from state.store import Store
from tasks import step
from tasks.carry.desk import CarryDesk

WHOLE_MS = 2 * DAY_MS
FINE_MS = 30 * DAY_MS
FINE_STEP_MS = 5 * 60_000
PIECE_MS = 7 * DAY_MS
EVERY_MS = 20 * HOUR_MS
"""Between two rounds; the hourly collection asks."""
THINNED = "snapshots thinned"
"""The heartbeat of a round."""
MESSAGES_MS = 90 * DAY_MS
"""How long what was sent to people is kept: the alerts themselves stay for ever."""
RESULT_DAYS = 7
"""Days for which Prefect's results of harmless steps are kept: nobody reads them after the run."""


def marked(snapshots: Iterable[PositionSnapshot], last_ms: int = 0) -> Iterator[PositionSnapshot]:
    """Yield the looks that saw the long leg and both prices, at least an hour apart: enough to split interest from price.
    `last_ms`: of the mark before them.
    """
    for one in snapshots:
        if "tokens" in one.detail and one.short_price_usd is not None and one.at_ms - last_ms >= HOUR_MS:
            last_ms = one.at_ms
            yield one


class Thinning:
    """Goes through the snapshots of one position in order of time, piece by piece, and names those that are kept no longer."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._last_mark_ms, self._last_step = 0, -1
        self._stands_in: int | None = None
        """The look that is kept of the present step as long as the step has no mark."""

    def superfluous(self, piece: Sequence[PositionSnapshot]) -> list[int]:
        """Return their ids, and that of one of the piece before whose place a mark takes. The piece follows the one before."""
        kept = {one.at_ms for one in marked(piece, self._last_mark_ms)}
        self._last_mark_ms = max(kept, default=self._last_mark_ms)
        found = []
        for one in piece:
            age_ms = self._now_ms - one.at_ms
            if age_ms <= WHOLE_MS:
                break
            fine = age_ms <= FINE_MS
            # Steps of both widths are numbered apart, so that the first look of each is kept.
            step_of = one.at_ms // FINE_STEP_MS * 2 if fine else one.at_ms // HOUR_MS * 2 + 1
            is_first, self._last_step, before = step_of != self._last_step, step_of, self._last_step
            if is_first:
                self._stands_in = None
            if one.at_ms in kept:
                if self._stands_in is not None:
                    found.append(self._stands_in)
                self._stands_in = None
            elif not is_first and one.id is not None:
                found.append(one.id)
            elif before != -1:  # the first of all stays
                self._stands_in = one.id
        return found


async def thin_out(desk: CarryDesk) -> int:
    """Remove what is kept no longer, at most once in 20 hours. Returns how many looks were removed."""
    now_ms = desk.clock.now_ms()
    rounds = [one.at_ms for one in desk.store.heartbeats() if one.name == THINNED]
    if rounds and now_ms - rounds[0] < EVERY_MS:
        return 0
    removed = await asyncio.to_thread(_round, desk, now_ms)
    desk.store.record_heartbeat(THINNED, {"removed": removed})
    await asyncio.to_thread(forget_results, step.RESULTS, time.time())
    await asyncio.to_thread(desk.store.forget_messages, now_ms - MESSAGES_MS)
    return removed


def _round(desk: CarryDesk, now_ms: int) -> int:
    removed = 0
    for position in desk.store.carry.positions():
        # What ended long ago has been thinned to the end; once more does no harm, and costs a read.
        if position.closed_ms is not None and now_ms - position.closed_ms > 2 * FINE_MS:
            continue
        removed += _thinned(desk.store, position, now_ms)
    return removed


def _thinned(store: Store, position: Position, now_ms: int) -> int:
    """A week at a time, so that a year of looks is never held at once; the last look stays, whatever its age."""
    last = store.carry.last_snapshot(position.position_id)
    if last is None:
        return 0
    thinning, removed = Thinning(now_ms), 0
    for since_ms in range(position.created_ms, min(last.at_ms, now_ms - WHOLE_MS) + 1, PIECE_MS):
        piece = store.carry.snapshots(position.position_id, since_ms, since_ms + PIECE_MS)
        ids = [one for one in thinning.superfluous(piece) if one != last.id]
        removed += store.carry.remove_snapshots(ids)
    return removed


def forget_results(folder: Path, now_s: float) -> int:
    """Remove Prefect's old result files. Returns how many."""
    old = now_s - RESULT_DAYS * DAY_MS / 1000
    gone = 0
    for path in folder.glob("*") if folder.is_dir() else ():
        with contextlib.suppress(OSError):  # somebody else removes it, or it is not ours to remove
            if path.is_file() and path.stat().st_mtime < old:
                path.unlink()
                gone += 1
    return gone

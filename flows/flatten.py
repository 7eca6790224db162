"""The kill switch: close everything with the fewest dependencies. It knows nothing of Prefect, and asks nobody for leave.

Not a Prefect flow on purpose: it has to work while that server is down, and importing it alone takes a second.
"""

from __future__ import annotations

import asyncio
import logging

from evenkeel.errors import LostRace, OperatorError, Retryable, VenueRefused
from evenkeel.types import Frozen
from strategy.decisions import Urgency
from tasks.choose import LIVE
from tasks.close_out import ENDED, close_out
from tasks.desk import Desk
from tasks.recovery import compare_legs

log = logging.getLogger("evenkeel.flatten")
REASON = "kill switch"
WITHIN_S = 600.0
YIELD_S = 5.0
"""What another worker that holds a position gets to let go of it; then it is taken over, and its fence stops it."""


class Flattened(Frozen):
    """`flat`: nothing of ours is left, by the ledger and by the venues. `left` says what is, and why."""

    flat: bool
    positions: dict[str, str]
    left: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


async def flatten_everything(desk: Desk, reason: str, within_s: float = WITHIN_S) -> Flattened:
    """Pause everything, then close both legs of every position at once, again and again until nothing is left.

    Raises Retryable where the ledger cannot be used at all; `tasks.last_resort` closes without one.
    """
    await desk.clock.refresh()
    deadline_ms = desk.clock.now_ms() + int(within_s * 1000)
    desk.store.pause("all", f"{REASON}: {reason}")
    found = [one.position_id for one in desk.store.positions(LIVE)]
    ends: dict[str, str] = {}
    while True:
        waiting = [one for one in found if ends.get(one) not in ENDED]
        told = await asyncio.gather(*(_close(desk, one, reason) for one in waiting))
        ends |= dict(zip(waiting, told, strict=True))
        if all(ends.get(one) in ENDED for one in found) or desk.clock.now_ms() >= deadline_ms:
            break
        await desk.clock.sleep(2.0)
    left = [f"{one}: {ends[one]}" for one in found if ends[one] not in ENDED]
    compared = await compare_legs(desk)
    left += [f"{venue} cannot be asked what it holds: {why}" for venue, why in compared.unreadable.items()]
    notes = [
        f"{one.key}: the venue holds {one.venue or 'nothing'}, our books {one.books or 'nothing'}: not touched"
        for one in compared.unowned
    ]
    return Flattened(flat=not left, positions=ends, left=tuple(left), notes=tuple(notes))


async def _close(desk: Desk, position_id: str, reason: str) -> str:
    """One try at one position; its status, or why it could not be tried."""
    why = f"{REASON}: {reason}"
    try:
        await _let_go(desk, position_id)
        async with desk.sole_writer(position_id, seize=True) as fence:
            done = await close_out(desk, position_id, why, Urgency.EMERGENCY, fence, together=True)
        if done.status not in ENDED:
            return f"{done.status}: {'; '.join(done.reasons)}"
        return done.status
    except (LostRace, Retryable, VenueRefused, OperatorError) as hiccup:
        log.warning("%s: %s", position_id, hiccup)
        return f"not closed yet: {hiccup}"


async def _let_go(desk: Desk, position_id: str) -> None:
    """A moment for another worker to finish what it is writing."""
    until_ms = desk.clock.now_ms() + int(YIELD_S * 1000)
    while desk.held_elsewhere(position_id) and desk.clock.now_ms() < until_ms:
        await desk.clock.sleep(0.5)

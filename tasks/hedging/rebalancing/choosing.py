"""Which of several rows of the broker's a move is, as a person says: its answer was lost, and two of them look alike."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from evenkeel.errors import OperatorError
from evenkeel.types import Receipt, Working
from state.hedging.models import Rebalance
from state.hedging.store import HEDGING
from state.models import Attempt, Fence, Intent
from tasks.hedging.choosing import NONE, refuse_no_reason
from tasks.hedging.rebalancing.carrying import known, refuse_too_early, rows_that_may_be
from tasks.hedging.rebalancing.desk import RebalanceDesk
from venues.alpaca.transfers import WireJournal, WireTransfer


async def rows_of(rd: RebalanceDesk, name: str) -> list[dict[str, Any]]:
    """Return the rows that may be the move in doubt. Raises OperatorError where none is in doubt, UNREAD."""
    _, _, rows = await _in_doubt(rd, name)
    return [
        {
            "row": one.id,
            "status": one.status,
            "amount": str(one.amount if isinstance(one, WireTransfer) else one.net_amount or one.qty),
            "created": (one.created_at if isinstance(one, WireTransfer) else None) or "",
        }
        for one in rows
    ]


async def choose_row(
    rd: RebalanceDesk, name: str, row: str, by: str, why: str, fence: Fence | None
) -> Rebalance:
    """Take one of the broker's rows for the move in doubt; with `none` none of them, and it may be tried again. What is taken
    is asked about from now on, whatever else looks like it.

    Raises OperatorError for what makes no sense, with nothing changed, and UNREAD.
    """
    refuse_no_reason(why, "--why")
    intent, attempt, found = await _in_doubt(rd, name)
    refs = [one.id for one in found]
    shown = ", ".join(refs) or "none at all"
    if row != NONE and row not in refs:
        raise OperatorError(f"row {row!r} is not among those that may be {intent.intent_id}: {shown}")
    if len(refs) < 2:
        raise OperatorError(
            f"{shown} may be {intent.intent_id}: the next go finds out by itself, and what was never sent is given up by "
            "`evenkeel hedging rebalance unsent`"
        )
    if row == NONE:
        refuse_too_early(rd, attempt)
    store, now_ms = rd.at.desk.store, rd.at.desk.clock.now_ms()
    words = f"{by} chose {row} of {shown}: {why.strip()}"
    with store.one_transaction():
        store.hedging.note_choice(intent.intent_id, words, fence)
        if row == NONE:
            store.attempt_dead(intent.intent_id, words, again=False, fence=fence)
        else:
            begun = Receipt(ref=row, done_qty=Decimal(0), avg_price_usd=None, settled_ms=now_ms)
            store.record_working(intent.intent_id, Working(words, 0.0, begun), fence=fence)
    return known(rd, name)


async def _in_doubt(rd: RebalanceDesk, name: str) -> tuple[Intent, Attempt, list[WireTransfer | WireJournal]]:
    known(rd, name)
    store = rd.at.desk.store
    for one in store.unfinished_intents(HEDGING, name):
        attempt = store.live_attempt(one.intent_id)
        if one.venue == rd.moves.name and one.state.may_be_on_the_wire and attempt is not None:
            return one, attempt, await rows_that_may_be(rd, one, attempt)
    raise OperatorError(f"nothing of {name} is in doubt that a person chooses for")

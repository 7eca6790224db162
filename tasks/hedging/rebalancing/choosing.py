"""Which of several rows of the broker's a move is, as a person says: its answer was lost, and two of them look alike."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from evenkeel.errors import OperatorError, VenueRefused
from evenkeel.types import Receipt, Working
from state.hedging.models import Rebalance
from state.hedging.store import HEDGING
from state.models import Attempt, Fence, Intent
from tasks.hedging.choosing import LEAST_REASON, NONE
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
    if len(why.strip()) < LEAST_REASON:
        raise OperatorError(
            f"the reason {why!r} says too little: at least {LEAST_REASON} characters are kept (--why)"
        )
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
    store, now_ms = rd.at.desk.store, rd.at.desk.clock.now_ms()
    waited_s = (now_ms - int(attempt.key["until_ms"])) // 1000
    if row == NONE and waited_s < rd.settings.stuck_s:
        raise OperatorError(
            f"{intent.intent_id} may have left {max(waited_s, 0)} s ago: wait {rd.settings.stuck_s} s (rebalance.stuck_s) first"
        )
    words = f"{by} chose {row} of {shown}: {why.strip()}"
    with store.one_transaction():
        store.hedging.note_choice(intent.intent_id, words, fence)
        if row == NONE:
            store.attempt_dead(intent.intent_id, words, again=False, fence=fence)
        else:
            begun = Receipt(ref=row, done_qty=Decimal(0), avg_price_usd=None, settled_ms=now_ms)
            store.record_working(intent.intent_id, Working(words, 0.0, begun), fence=fence)
    found_row = store.hedging.rebalance(name)
    assert found_row is not None
    return found_row


async def _in_doubt(rd: RebalanceDesk, name: str) -> tuple[Intent, Attempt, list[WireTransfer | WireJournal]]:
    store = rd.at.desk.store
    if store.hedging.rebalance(name) is None:
        raise OperatorError(f"no rebalance is called {name}: see `evenkeel hedging rebalance list`")
    for one in store.unfinished_intents(HEDGING, name):
        attempt = store.live_attempt(one.intent_id)
        if one.venue == rd.moves.name and one.state.may_be_on_the_wire and attempt is not None:
            try:
                return one, attempt, await rd.moves.candidates(one.spec, attempt.key)
            except VenueRefused as refused:
                raise OperatorError(str(refused)) from None
    raise OperatorError(f"nothing of {name} is in doubt that a person chooses for")

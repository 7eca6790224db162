"""Which of several orders at the broker is ours, as a person says: it knows no id of ours, and two of them look alike."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.errors import OperatorError
from evenkeel.types import Receipt, Working
from state.models import AttemptOutcome, Fence, Intent
from tasks.admin import user_here
from tasks.hedging.desk import HedgingDesk
from tasks.hedging.orders import UNCLEAR, sweep
from venues.broker import Candidates, SearchedBroker

NONE = "none"
LEAST_REASON = 4


def refuse_no_reason(reason: str, option: str = "") -> None:
    """Raise OperatorError where a person's reason says nothing; `option` is where it is given."""
    if len(reason.strip()) < LEAST_REASON:
        where = f" ({option})" if option else ""
        raise OperatorError(
            f"the reason {reason!r} says too little: at least {LEAST_REASON} characters are kept{where}"
        )


async def candidates_of(at: HedgingDesk, hedge: str) -> Candidates:
    """Return the orders that may be an open hedge. Raises OperatorError where there is nothing to choose, UNREAD."""
    intent, broker = _open(at, hedge), at.broker
    if not isinstance(broker, SearchedBroker):
        raise OperatorError(f"{broker.name} finds its orders by our own id: there is nothing to choose")
    attempt = at.desk.store.live_attempt(hedge)
    if attempt is None or not intent.state.may_be_on_the_wire:
        raise OperatorError(f"{hedge} was not sent yet: there is nothing to choose")
    if attempt.outcome is AttemptOutcome.WORKING:
        ref = str((intent.so_far or {}).get("ref", "")) or "known"
        raise OperatorError(f"{hedge} is order {ref} at {broker.name} already: there is nothing to choose")
    return await broker.candidates(intent.spec, attempt.key)


async def choose_order(at: HedgingDesk, hedge: str, order: str, reason: str, fence: Fence | None) -> Intent:
    """Take an order of the broker's for an open hedge, with `none` none of them, and return the hedge as it stands then.
    What is chosen is asked about at once and booked by what it filled; where none is, what is open is hedged anew.

    Raises OperatorError for what makes no sense, with nothing changed, and UNREAD.
    """
    refuse_no_reason(reason)
    found = await candidates_of(at, hedge)
    refs = [one.ref for one in found.orders]
    shown = ", ".join(refs) or "none at all"
    if order != NONE and order not in refs:
        raise OperatorError(f"order {order!r} is not among those that may be {hedge}: {shown}")
    if len(refs) < 2:
        raise OperatorError(f"{shown} may be {hedge}: the next pass finds out by itself what became of it")
    if order == NONE and not found.is_over:
        raise OperatorError(f"{hedge} may still arrive at {at.broker.name}: try again in two minutes")
    store, words = at.desk.store, f"{user_here()} chose {order} of {shown}: {reason.strip()}"
    with store.one_transaction():
        store.hedging.note_choice(hedge, words, fence)
        if order != NONE:
            so_far = Receipt(
                ref=order, done_qty=Decimal(0), avg_price_usd=None, settled_ms=at.desk.clock.now_ms()
            )
            store.record_working(hedge, Working(words, 0.0, so_far), fence=fence)
        else:
            store.attempt_dead(hedge, words, again=False, fence=fence)
    if order != NONE:
        await sweep(at, fence)
    else:
        store.ack_alert(UNCLEAR, store.intent(hedge).subject)
    return store.intent(hedge)


def _open(at: HedgingDesk, hedge: str) -> Intent:
    every = at.desk.store.hedging.open_orders()
    for one in every:
        if one.intent_id == hedge:
            return one
    known = ", ".join(one.intent_id for one in every) or "none is open"
    raise OperatorError(f"no open hedge is called {hedge!r}: {known}")

"""What the market did between the decision on an order and its fill: it lies in the prices of a leg, never in slippage."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from analytics.carry.legs import ZERO, LongEvent, ShortFill


def moved_before_long(events: Sequence[LongEvent]) -> Decimal | None:
    """Return USD that SOL's move from decision to settlement gave (above zero) or took in all swaps of the long; None where
    no decision is known.

    A buy of `q` tokens worth `r` SOL each pays `q·r·(s − d)` more at `s` than it was decided at `d`; a sale gets that.
    """
    found = [
        -_bought(event) * event.redemption_rate * (event.sol_price_usd - event.decided_sol_usd)
        for event in events
        if event.decided_sol_usd is not None
    ]
    return sum(found, ZERO) if found else None


def moved_before_short(fills: Sequence[ShortFill]) -> Decimal | None:
    """Return the same of all fills of the short, by its index price; None where no decision is known."""
    found = [
        -(row.fill.qty if row.fill.side == "buy" else -row.fill.qty)
        * (row.index_price_usd - row.decided_sol_usd)
        for row in fills
        if row.decided_sol_usd is not None and row.index_price_usd is not None
    ]
    return sum(found, ZERO) if found else None


def prices_before_swap(event: LongEvent) -> tuple[Decimal | None, Decimal | None]:
    """Return USD per token when the swap's order was decided and when it was sent: the reference, moved with SOL's price."""
    reference, sol = event.token_price_usd, event.sol_price_usd
    decided, sent = event.decided_sol_usd, event.sent_sol_usd
    return (
        None if decided is None else reference * decided / sol,
        None if sent is None else reference * sent / sol,
    )


def prices_before_fill(row: ShortFill) -> tuple[Decimal | None, Decimal | None]:
    """Return USD of the perpetual when the fill's order was decided and when it was sent; neither for a fill without one."""
    if row.decided_sol_usd is None or row.index_price_usd is None:
        return None, None if row.reference_price_usd == row.fill.price_usd else row.reference_price_usd
    return row.reference_price_usd * row.decided_sol_usd / row.index_price_usd, row.reference_price_usd


def _bought(event: LongEvent) -> Decimal:
    change = event.change
    return change.swap_token_qty * (-1 if change.tokens_after < change.tokens_before else 1)

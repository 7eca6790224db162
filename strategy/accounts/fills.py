"""What a run of fills did to trades: opened, added to, closed; each with the money that moved, by the venue's figures.

One market of one account holds one net position. A trade begins where that leaves zero and ends where it comes back to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from itertools import groupby

from evenkeel.types import Frozen
from strategy.chains import in_order

ZERO = Decimal(0)
UNIT = Decimal("0.00000001")


class Did(StrEnum):
    """What became of a trade."""

    OPENED = "opened"
    ADDED = "added"
    CLOSED = "closed"


class FillSeen(Frozen):
    """One fill as the venue lists it. `start` is the signed position before it, `order` the venue's number of the order.

    `closed_pnl` is the venue's own gain by price, without fees; `fee` > 0 is a cost, and `builder_fee` a part of it. `forced`:
    why the venue itself traded, "" where an order did.
    """

    fill_id: str
    coin: str
    signed_qty: Decimal
    price: Decimal
    start: Decimal
    closed_pnl: Decimal
    fee: Decimal
    builder_fee: Decimal = ZERO
    at_ms: int
    order: int
    cloid: str = ""
    hash: str = ""
    forced: str = ""


class Change(Frozen):
    """What one match did to one trade. `qty` is positive, `price` its average; `from_qty` is what was held before it."""

    did: Did
    order_id: str
    coin: str
    is_long: bool
    qty: Decimal
    price: Decimal
    from_qty: Decimal
    closed_pnl: Decimal
    fee: Decimal
    builder_fee: Decimal
    at_ms: int
    order: int
    cloid: str
    hash: str
    forced: str

    @property
    def share(self) -> Decimal:
        """Which part of the trade was closed; exactly 1 for all of it."""
        return Decimal(1) if self.qty == self.from_qty else self.qty / self.from_qty

    @property
    def leaves(self) -> Decimal:
        """The signed position after it."""
        left = self.from_qty - self.qty if self.did is Did.CLOSED else self.from_qty + self.qty
        return left if self.is_long else -left


def follow(held: Decimal, fills: Sequence[FillSeen]) -> tuple[list[FillSeen], str]:
    """Return the fills of one market that lead on from a signed position, oldest first, up to the first that does not; and why
    that one does not follow, "" where all do.
    """
    found: list[FillSeen] = []
    at = held
    for _, moment in groupby(fills, key=lambda one: one.at_ms):
        # Fills of one moment come in no order that could be relied on.
        together = list(moment)
        order = in_order([(one.start, one.signed_qty) for one in together], at)
        following = _as_far_as_they_lead(together, at) if order is None else [together[one] for one in order]
        found += following
        at += sum((one.signed_qty for one in following), ZERO)
        if order is None:
            first = next(one for one in together if one not in following)
            return (
                found,
                f"the fill {first.fill_id} starts from {first.start} {first.coin}, the books have {at}",
            )
    return found, ""


def _as_far_as_they_lead(fills: Sequence[FillSeen], at: Decimal) -> list[FillSeen]:
    found: list[FillSeen] = []
    left = list(fills)
    while (following := next((one for one in left if one.start == at), None)) is not None:
        found.append(following)
        left.remove(following)
        at += following.signed_qty
    return found


def changes_of(fills: Sequence[FillSeen]) -> list[Change]:
    """Return what fills that follow each other did. Rows of one order at one moment are one match, and one change of a kind."""
    found: list[Change] = []
    for fill in fills:
        for part in _parts(fill):
            if found and (both := _together(found[-1], part)) is not None:
                found[-1] = both
            else:
                found.append(part)
    return found


def _parts(fill: FillSeen) -> list[Change]:
    """A fill that goes through zero closes one trade and opens another; its fee is split by size."""
    qty = abs(fill.signed_qty)
    against = fill.start != 0 and (fill.start > 0) != (fill.signed_qty > 0)
    closing = min(qty, abs(fill.start)) if against else ZERO
    opening = qty - closing
    fee, builder = (_share(one, closing, qty) for one in (fill.fee, fill.builder_fee))
    parts = []
    if closing:
        parts.append(
            _change(fill, Did.CLOSED, fill.start > 0, closing, abs(fill.start), fill.closed_pnl, fee, builder)
        )
    if opening:
        did = Did.OPENED if closing or fill.start == 0 else Did.ADDED
        before = ZERO if did is Did.OPENED else abs(fill.start)
        gain = ZERO if closing else fill.closed_pnl
        rest = fill.fee - fee, fill.builder_fee - builder
        parts.append(_change(fill, did, fill.signed_qty > 0, opening, before, gain, *rest))
    return parts


def _share(amount: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    if part == whole:
        return amount
    return (amount * part / whole).quantize(UNIT, rounding=ROUND_HALF_EVEN) if part else ZERO


def _change(
    fill: FillSeen,
    did: Did,
    is_long: bool,
    qty: Decimal,
    from_qty: Decimal,
    closed_pnl: Decimal,
    fee: Decimal,
    builder_fee: Decimal,
) -> Change:
    return Change(
        did=did,
        order_id=f"{fill.fill_id}/{did}",
        coin=fill.coin,
        is_long=is_long,
        qty=qty,
        price=fill.price,
        from_qty=from_qty,
        closed_pnl=closed_pnl,
        fee=fee,
        builder_fee=builder_fee,
        at_ms=fill.at_ms,
        order=fill.order,
        cloid=fill.cloid,
        hash=fill.hash,
        forced=fill.forced,
    )


def _together(one: Change, other: Change) -> Change | None:
    """Both as one, where they are of one match and one kind; None where they are not."""
    same_match = (one.order, one.at_ms, one.coin, one.is_long, one.forced) == (
        other.order,
        other.at_ms,
        other.coin,
        other.is_long,
        other.forced,
    )
    same_kind = one.did is other.did or (one.did, other.did) == (Did.OPENED, Did.ADDED)
    if (
        not same_match
        or not same_kind
        or one.leaves != (other.from_qty if other.is_long else -other.from_qty)
    ):
        return None
    qty = one.qty + other.qty
    return one.model_copy(
        update={
            "qty": qty,
            "price": (one.price * one.qty + other.price * other.qty) / qty,
            "closed_pnl": one.closed_pnl + other.closed_pnl,
            "fee": one.fee + other.fee,
            "builder_fee": one.builder_fee + other.builder_fee,
        }
    )

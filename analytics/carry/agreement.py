"""Compares a position's legs and funding in our books with the venues' own ledgers, row by row."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal

from analytics.agreement import Difference, compare
from evenkeel.legs import FundingPayment, LegSide, LegView
from evenkeel.types import Frozen, VenueName

ROUNDING = Decimal("0.9999999")
"""A lender rounds what it shows of a deposit down by a few base units."""


class BookLeg(Frozen):
    """A leg as our rows explain it. `qty` is in base tokens, positive; `ref` is the venue's (position PDA,
    or coin)."""

    position_id: str
    venue: VenueName
    side: LegSide
    ref: str
    qty: Decimal


def compare_funding(books: Iterable[FundingPayment], venue: Iterable[FundingPayment]) -> list[Difference]:
    """Hour by hour, by (account, coin, hour). Amount, position size and rate must equal the venue's to the
    digit."""
    return compare(
        "funding",
        books,
        venue,
        key=lambda row: (row.account.lower(), row.coin, row.hour_ms),
        name=lambda row: f"{row.coin} {datetime.fromtimestamp(row.hour_ms / 1000, tz=UTC):%Y-%m-%d %H:%M}",
        describe=lambda row: f"{row.usdc:f} USD on {row.position_size:f} at {row.funding_rate_hourly:f}",
        usd=lambda row: row.usdc,
        same=lambda a, b: (
            (a.usdc, a.position_size, a.funding_rate_hourly)
            == (b.usdc, b.position_size, b.funding_rate_hourly)
        ),
    )


def compare_legs(
    books: Iterable[BookLeg], venue: Iterable[LegView], interest: Decimal = Decimal("0.01")
) -> list[Difference]:
    """Leg by leg, by (venue, ref). A leg missing in the books is unowned; one missing at the venue is gone.

    A short must match to the digit. A long leg grows by interest after its last transaction, so the venue may
    show up to `interest` (a fraction) more than the books, and nothing less than them.
    """

    def same(ours: BookLeg, theirs: BookLeg) -> bool:
        if ours.side != theirs.side:
            return False
        if ours.side is LegSide.SHORT:
            return ours.qty == theirs.qty
        return ours.qty * ROUNDING <= theirs.qty <= ours.qty * (1 + interest)

    shown = [
        BookLeg(position_id="", venue=leg.venue, side=leg.side, ref=leg.ref, qty=leg.qty)
        for leg in venue
        if leg.qty != 0
    ]
    return compare(
        "leg",
        [leg for leg in books if leg.qty != 0],
        shown,
        key=lambda row: (row.venue, row.ref),
        name=lambda row: f"{row.venue} {row.ref}",
        describe=lambda row: f"{row.side} {row.qty:f}",
        usd=lambda row: None,
        same=same,
    )

"""Compares our books with the venues' own ledgers, row by row, and names every difference."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from evenkeel.legs import FundingPayment, LegView
from evenkeel.types import Fill, Frozen, LegSide, VenueName

Row = TypeVar("Row")
Key = tuple[Hashable, ...]
ROUNDING = Decimal("0.9999999")
"""A lender rounds what it shows of a deposit down by a few base units."""


class DifferenceKind(StrEnum):
    MISSING_IN_BOOKS = "missing in books"
    MISSING_AT_VENUE = "missing at venue"
    DIFFERENT = "different"
    TWICE_IN_BOOKS = "twice in books"


class Difference(Frozen):
    """One row on which books and venue disagree. `books` and `venue` say what each holds, empty where it
    has none."""

    subject: str
    """`funding`, `fill` or `leg`."""

    kind: DifferenceKind
    key: str
    books: str = ""
    venue: str = ""
    amount_usd: Decimal | None = None
    """What the venue has beyond the books, in USD of income, where the row is money."""

    def __str__(self) -> str:
        if self.kind is DifferenceKind.MISSING_IN_BOOKS:
            return f"{self.subject} {self.key}: missing in the books, the venue has {self.venue}"
        if self.kind is DifferenceKind.MISSING_AT_VENUE:
            return f"{self.subject} {self.key}: the books have {self.books}, the venue does not know it"
        if self.kind is DifferenceKind.TWICE_IN_BOOKS:
            return f"{self.subject} {self.key}: in the books more than once"
        return f"{self.subject} {self.key}: the books have {self.books}, the venue {self.venue}"


class BookLeg(Frozen):
    """A leg as our rows explain it. `qty` is in base tokens, positive; `ref` is the venue's (position PDA,
    or coin)."""

    position_id: str
    venue: VenueName
    side: LegSide
    ref: str
    qty: Decimal


def _compare(
    subject: str,
    books: Iterable[Row],
    venue: Iterable[Row],
    key: Callable[[Row], Key],
    name: Callable[[Row], str],
    describe: Callable[[Row], str],
    usd: Callable[[Row], Decimal | None],
    same: Callable[[Row, Row], bool],
) -> list[Difference]:
    ours: dict[Key, Row] = {}
    found: list[Difference] = []
    for row in books:
        if key(row) in ours:
            found.append(Difference(subject=subject, kind=DifferenceKind.TWICE_IN_BOOKS, key=name(row)))
        ours.setdefault(key(row), row)
    theirs = {key(row): row for row in venue}
    for where, row in theirs.items():
        mine = ours.get(where)
        if mine is None:
            found.append(
                Difference(
                    subject=subject,
                    kind=DifferenceKind.MISSING_IN_BOOKS,
                    key=name(row),
                    venue=describe(row),
                    amount_usd=usd(row),
                )
            )
        elif not same(mine, row):
            before, after = usd(mine), usd(row)
            found.append(
                Difference(
                    subject=subject,
                    kind=DifferenceKind.DIFFERENT,
                    key=name(row),
                    books=describe(mine),
                    venue=describe(row),
                    amount_usd=None if before is None or after is None else after - before,
                )
            )
    for where, row in ours.items():
        if where not in theirs:
            lost = usd(row)
            found.append(
                Difference(
                    subject=subject,
                    kind=DifferenceKind.MISSING_AT_VENUE,
                    key=name(row),
                    books=describe(row),
                    amount_usd=None if lost is None else -lost,
                )
            )
    return found


def compare_funding(books: Iterable[FundingPayment], venue: Iterable[FundingPayment]) -> list[Difference]:
    """Return every difference of the payments, hour by hour, by (account, coin, hour). Amount, position size and rate
    must equal the venue's to the digit.
    """
    return _compare(
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


def compare_fills(books: Iterable[Fill], venue: Iterable[Fill]) -> list[Difference]:
    """Return every difference of the fills, by (venue, fill id). Asset, side, quantity, price and fee must equal the
    venue's to the digit.
    """
    return _compare(
        "fill",
        books,
        venue,
        key=lambda row: (row.venue, row.fill_id),
        name=lambda row: f"{row.venue} {row.fill_id}",
        describe=lambda row: (
            f"{row.side} {row.qty:f} {row.asset} at {row.price_usd:f}, fee {row.fee_usd:f} USD"
        ),
        usd=lambda row: row.qty * row.price_usd * (-1 if row.side == "buy" else 1) - row.fee_usd,
        same=lambda a, b: (
            (a.asset, a.side, a.qty, a.price_usd, a.fee_usd)
            == (b.asset, b.side, b.qty, b.price_usd, b.fee_usd)
        ),
    )


def compare_legs(
    books: Iterable[BookLeg], venue: Iterable[LegView], interest: Decimal = Decimal("0.01")
) -> list[Difference]:
    """Return every difference of the legs, by (venue, ref). A leg missing in the books is unowned; one missing at the
    venue is gone.

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
    return _compare(
        "leg",
        [leg for leg in books if leg.qty != 0],
        shown,
        key=lambda row: (row.venue, row.ref),
        name=lambda row: f"{row.venue} {row.ref}",
        describe=lambda row: f"{row.side} {row.qty:f}",
        usd=lambda row: None,
        same=same,
    )


def agreement_line(differences: Sequence[Difference], rows: int) -> str:
    """Return one line: how many rows were compared and how many differ."""
    if not differences:
        return f"{rows} rows compared with the venues' ledgers, all equal"
    kinds = [kind for kind in DifferenceKind if any(found.kind is kind for found in differences)]
    parts = [f"{sum(found.kind is kind for found in differences)} {kind}" for kind in kinds]
    return f"{rows} rows compared with the venues' ledgers: {', '.join(parts)}"

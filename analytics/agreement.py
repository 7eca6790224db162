"""Compares our books with the venues' own ledgers, row by row, and names every difference."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from evenkeel.types import Fill, Frozen

Row = TypeVar("Row")
Key = tuple[Hashable, ...]


class DifferenceKind(StrEnum):
    MISSING_IN_BOOKS = "missing in books"
    MISSING_AT_VENUE = "missing at venue"
    DIFFERENT = "different"
    TWICE_IN_BOOKS = "twice in books"


class Difference(Frozen):
    """One row on which books and venue disagree. `books` and `venue` say what each holds, empty where it
    has none."""

    subject: str
    """What kind of row it is, e.g. `fill`."""

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


def compare(
    subject: str,
    books: Iterable[Row],
    venue: Iterable[Row],
    key: Callable[[Row], Key],
    name: Callable[[Row], str],
    describe: Callable[[Row], str],
    usd: Callable[[Row], Decimal | None],
    same: Callable[[Row, Row], bool],
) -> list[Difference]:
    """Every row that only one side has, that differs, or that stands twice in the books.

    `key` says which rows belong together; `name`, `describe` and `usd` (income in USD, None where the row is no money) are for
    the person who reads the difference; `same` compares two rows of one key.
    """
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


def compare_fills(books: Iterable[Fill], venue: Iterable[Fill]) -> list[Difference]:
    """Fill by fill, by (venue, fill id). Asset, side, quantity, price and fee must equal the venue's to the
    digit. One whose number or fee the venue does not say now is left out, on both sides."""
    listed = list(venue)
    odd = {row.figures for row in listed if not row.whole}
    return compare(
        "fill",
        [row for row in books if row.figures not in odd],
        [row for row in listed if row.figures not in odd],
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


def agreement_line(differences: Sequence[Difference], rows: int) -> str:
    """Return one line: how many rows were compared and how many differ."""
    if not differences:
        return f"{rows} rows compared with the venues' ledgers, all equal"
    kinds = [kind for kind in DifferenceKind if any(found.kind is kind for found in differences)]
    parts = [f"{sum(found.kind is kind for found in differences)} {kind}" for kind in kinds]
    return f"{rows} rows compared with the venues' ledgers: {', '.join(parts)}"

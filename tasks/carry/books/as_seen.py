"""What a position has earned and cost by the ledger alone, as it was last seen: no venue is asked.

The items are those of the account (`tasks/carry/books/report.py`), by the same functions. What only a venue knows is not in
them: gas of transactions that failed, rent, and whether the balances agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from analytics.carry.attribution import Attribution, VenueChange, attribute
from analytics.carry.legs import LongMark
from evenkeel.types import Frozen
from state.carry.models import PositionSnapshot
from tasks.carry.books.report import long_events, long_marks, margin_seized_usd, short_fills
from tasks.carry.books.report_reading import Booked

NOT_ASKED = VenueChange(
    hyperliquid_before_usd=Decimal(0),
    hyperliquid_after_usd=Decimal(0),
    wallet_usdc_before=Decimal(0),
    wallet_usdc_after=Decimal(0),
    sol_lamports_spent=0,
    sol_price_after_usd=Decimal(1),
)
"""No balance of a venue: the residuals of an attribution that is made with it mean nothing."""


class SeenAccount(Frozen):
    """The account as of `at_ms`, the last look, or the end of a position that has ended. USD, income positive."""

    at_ms: int
    attribution: Attribution
    """Its items and their sums. Its residuals mean nothing."""
    carry_today_usd: Decimal | None
    """Carry since the day began; None where nothing was seen before that."""


@dataclass(frozen=True)
class _Moment:
    """A look that saw the long leg and all prices."""

    at_ms: int
    mark: LongMark
    short_mark_usd: Decimal


def seen_account(booked: Booked, day_began_ms: int) -> SeenAccount | None:
    """Return the account of a position as it was last seen; None where nobody has seen it yet."""
    ended_ms = booked.position.closed_ms
    last = _last_moment(booked, booked.now_ms)
    if ended_ms is None and last is None:
        return None
    at_ms = ended_ms if ended_ms is not None else last.at_ms if last is not None else booked.now_ms
    found = _attributed(booked, at_ms, None if ended_ms is not None else last)
    return SeenAccount(at_ms=at_ms, attribution=found, carry_today_usd=_today(booked, found, day_began_ms))


def _today(booked: Booked, now: Attribution, day_began_ms: int) -> Decimal | None:
    if booked.ended_ms <= day_began_ms:
        return Decimal(0)
    if booked.opened_ms >= day_began_ms:
        return now.carry_usd
    before = _last_moment(booked, day_began_ms)
    return None if before is None else now.carry_usd - _attributed(booked, day_began_ms, before).carry_usd


def _last_moment(booked: Booked, until_ms: int) -> _Moment | None:
    for one in reversed(booked.snapshots):
        if one.at_ms <= until_ms and (mark := _mark(one)) is not None and one.short_price_usd is not None:
            return _Moment(one.at_ms, mark, one.short_price_usd)
    return None


def _mark(one: PositionSnapshot) -> LongMark | None:
    if not {"tokens", "debt_usd", "redemption_rate", "token_price_usd"} <= one.detail.keys():
        return None
    return long_marks([one])[0] if one.short_price_usd is not None else None


def _attributed(booked: Booked, until_ms: int, last: _Moment | None) -> Attribution:
    """Return what had happened by then; a leg that is open is valued by the look `last`."""
    marks = long_marks([one for one in booked.snapshots if one.at_ms <= until_ms])
    if last is not None and all(one.at_ms != last.at_ms for one in marks):
        marks.append(last.mark)
    return attribute(
        long_events=[one for one in long_events(booked) if one.at_ms <= until_ms],
        short_fills=[one for one in short_fills(booked) if one.fill.time_ms <= until_ms],
        funding=[one for one in booked.funding if one.hour_ms <= until_ms],
        venue=NOT_ASKED,
        capital_usd=Decimal(booked.position.facts.get("capital_usd", 0)),
        opened_ms=booked.opened_ms,
        ended_ms=until_ms,
        long_marks=marks,
        short_mark_price_usd=None if last is None else last.short_mark_usd,
        margin_seized_usd=margin_seized_usd(booked),
    )

"""What a position saw of the prices, moment by moment: at the ticks of its monitor, and where its orders were done.

Series hold hours. Inside an hour the price at which an order is done, and the second from which it earns, are known of a
position alone: a back-test beside it goes along its moments.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import numpy as np

from analytics.carry.legs import LongEvent, ShortFill
from analytics.research.market import Column, Market
from evenkeel.units import HOUR_MS
from state.carry.models import PositionSnapshot
from tasks.carry.expected import LEAST_OF_HOUR_MS

TOGETHER_MS = 600_000
"""Orders that lie no further apart belong to one change of both legs."""

SEIZED = "liquidated"
"""The kind of a long's event that its lender made."""
SOON_MS = 60_000
"""Orders that follow a tick by no more are those that it decided."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Both prices of SOL at a time, USD."""

    at_ms: int
    oracle_usd: float
    mark_usd: float
    is_asked: bool = True
    """Whether the rules were asked then: not where orders were done that a tick just before had decided, nor where a lender
    took something by itself.
    """
    funding_hourly: float | None = None
    """The running hour's rate then; None where it was not read, and while it is too young to be asked."""
    shown_hourly: float | None = None
    """The same however young it is: what is asked once a growth's order is to be sent."""
    waits: bool = False
    """Whether orders that it decided follow: what is decided is done with them, at their moment."""
    carries_out: bool = False
    """Whether orders were done then that a tick just before had decided."""


@dataclass(slots=True)
class Orders:
    """What was done on both legs in one go, each in order of time. One of the two may be empty. What a lender seized is a
    change by itself.
    """

    longs: list[LongEvent] = field(default_factory=list)
    shorts: list[ShortFill] = field(default_factory=list)

    @property
    def first_ms(self) -> int:
        """When the first of it was done."""
        return min(self._times)

    @property
    def last_ms(self) -> int:
        """When the last of it was done."""
        return max(self._times)

    @property
    def is_ours(self) -> bool:
        """Whether it was done by orders of ours; a lender's seizure was not."""
        return not any(one.kind == SEIZED for one in self.longs)

    @property
    def _times(self) -> list[int]:
        return [one.at_ms for one in self.longs] + [one.fill.time_ms for one in self.shorts]

    @property
    def at_ms(self) -> int:
        """When the short began to change, by which an hour's funding is paid or not; else the long."""
        return self.shorts[0].fill.time_ms if self.shorts else self.longs[0].at_ms

    @property
    def oracle_usd(self) -> Decimal:
        """SOL's price at which the most of the long was traded, which makes its quantity; else the short's, by quantity."""
        if self.longs:
            return max(self.longs, key=_traded).sol_price_usd
        return _mean([(one, one.index_price_usd or one.reference_price_usd) for one in self.shorts])

    @property
    def premium(self) -> Decimal | None:
        """The perpetual over the oracle when the short's orders were sent: mean by quantity, a fraction. None where no order
        of the short has an index price.
        """
        indexed = [(one, one.index_price_usd) for one in self.shorts if one.index_price_usd is not None]
        if not indexed:
            return None
        return _mean([(one, one.reference_price_usd) for one, _ in indexed]) / _mean(indexed) - 1


def _traded(one: LongEvent) -> Decimal:
    return abs(one.change.tokens_after - one.change.tokens_before)


def _mean(prices: Sequence[tuple[ShortFill, Decimal]]) -> Decimal:
    qty = sum((one.fill.qty for one, _ in prices), Decimal(0))
    return sum((one.fill.qty * price for one, price in prices), Decimal(0)) / qty


def in_one_go(
    longs: Iterable[LongEvent], shorts: Iterable[ShortFill], ends_ms: Iterable[int] = ()
) -> list[Orders]:
    """Return what was done on both legs, in order of time, each change of them by itself. `ends_ms`: when changes were over,
    where that is known; while the price runs one follows the other at once.
    """
    ends = sorted(ends_ms)
    done: list[tuple[int, LongEvent | ShortFill]] = [(one.at_ms, one) for one in longs]
    done += [(one.fill.time_ms, one) for one in shorts]
    found: list[Orders] = []
    before_ms: int | None = None
    for at_ms, one in sorted(done, key=lambda pair: pair[0]):
        if isinstance(one, LongEvent) and one.kind == SEIZED:
            found.append(Orders([one]))
            before_ms = None
            continue
        if before_ms is None or at_ms - before_ms > TOGETHER_MS or _lies_in(ends, before_ms, at_ms):
            found.append(Orders())
        if isinstance(one, LongEvent):
            found[-1].longs.append(one)
        else:
            found[-1].shorts.append(one)
        before_ms = at_ms
    return found


def _lies_in(ends: Sequence[int], before_ms: int, at_ms: int) -> bool:
    """Whether one of these times lies between two others."""
    return bisect_left(ends, before_ms) < bisect_left(ends, at_ms)


def moments_of(orders: Sequence[Orders], snapshots: Sequence[PositionSnapshot]) -> list[Moment]:
    """Return the moments of a position from its first order to its last one, in order of time.

    A tick while orders were on their way is left out. One whose orders were done in the next hour counts at their second: until
    then the position earned as before. Orders that saw no premium stand at the one before.
    """
    if not orders:
        return []
    first_ms, last_ms = orders[0].at_ms, orders[-1].at_ms
    decided_by = _deciding(orders, [one.at_ms for one in snapshots])
    found: list[tuple[Moment, Decimal, Decimal | None]] = []
    for one in snapshots:
        oracle_usd, mark_usd = one.long_price_usd, one.short_price_usd
        if oracle_usd and mark_usd and first_ms < one.at_ms < last_ms:
            following = next(each for each in orders if each.last_ms >= one.at_ms)
            if following.first_ms > one.at_ms:
                shown = None if one.funding_rate_hourly is None else float(one.funding_rate_hourly)
                moment = Moment(
                    _acted_ms(one.at_ms, following),
                    0.0,
                    0.0,
                    funding_hourly=None if one.at_ms % HOUR_MS < LEAST_OF_HOUR_MS else shown,
                    shown_hourly=shown,
                    waits=one.at_ms in decided_by.values(),
                )
                found.append((moment, oracle_usd, mark_usd / oracle_usd - 1))
    for done in orders:
        decided = done.first_ms in decided_by
        moment = Moment(done.at_ms, 0.0, 0.0, is_asked=done.is_ours and not decided, carries_out=decided)
        found.append((moment, done.oracle_usd, done.premium))
    return _priced(sorted(found, key=lambda one: one[0].at_ms))


def _deciding(orders: Sequence[Orders], ticks_ms: Sequence[int]) -> dict[int, int]:
    """Return the tick that decided orders of ours, by when the first of them was done: the last one before, if it lies near
    and after the orders before. Those of an entry, a close by hand and thinned ticks have none.
    """
    found, before_ms = {}, orders[0].at_ms
    for done in (one for one in orders if one.is_ours):
        ticks = [at_ms for at_ms in ticks_ms if before_ms < at_ms <= done.first_ms <= at_ms + SOON_MS]
        if ticks:
            found[done.first_ms] = ticks[-1]
        before_ms = max(before_ms, done.last_ms)
    return found


def _priced(found: Iterable[tuple[Moment, Decimal, Decimal | None]]) -> list[Moment]:
    """With the oracle's price of each, and the perpetual's over it: where no premium was seen, by the one before."""
    moments, premium = [], Decimal(0)
    for one, oracle_usd, over in found:
        premium = premium if over is None else over
        mark_usd = oracle_usd * (1 + premium)
        moments.append(replace(one, oracle_usd=float(oracle_usd), mark_usd=float(mark_usd)))
    return moments


def _acted_ms(at_ms: int, following: Orders) -> int:
    """When a tick's decision was done: with the orders that follow it at once, where a full hour lies between."""
    is_soon = following.first_ms - at_ms <= SOON_MS
    is_later = following.at_ms // HOUR_MS > at_ms // HOUR_MS
    return following.at_ms if is_soon and is_later else at_ms


def done_ms(at_ms: int, orders: Sequence[Orders]) -> int:
    """Return when the orders were done that were the last ones to begin by this time; this time where there are none."""
    before = [one for one in orders if one.first_ms <= at_ms]
    return before[-1].at_ms if before else at_ms


def yields_seen(market: Market, snapshots: Iterable[PositionSnapshot], assumed_apr: float) -> Column:
    """Return the staking yield that a position was decided by once each hour of the market was over, as its ticks kept it:
    before the first of them that one's. Where none kept one it is `assumed_apr`.
    """
    kept = [(one.at_ms, one.detail.get("staking_apr")) for one in snapshots]
    seen = {market.hour_at(at_ms) - 1: float(apr) for at_ms, apr in kept if apr is not None}
    apr, found = next(iter(seen.values()), assumed_apr), np.empty(len(market))
    for hour in range(len(market)):
        apr = found[hour] = seen.get(hour, apr)
    return found


def by_hour(moments: Iterable[Moment], began_ms: int) -> Mapping[int, tuple[Moment, ...]]:
    """Return the moments by the start of their hour. Hours from the one in which an entry began up to that of its orders are
    there too, without a moment: what was decided in them was done later.
    """
    found: dict[int, tuple[Moment, ...]] = {}
    for one in moments:
        hour_ms = one.at_ms // HOUR_MS * HOUR_MS
        if not found:
            found.update((at, ()) for at in range(began_ms // HOUR_MS * HOUR_MS, hour_ms, HOUR_MS))
        found[hour_ms] = (*found.get(hour_ms, ()), one)
    return found

"""Prices of the moment at which something settled, whenever it comes to be booked, and where each was had from.

No venue says what its oracle or a pool's books were at a past time, so what is nearest to that is asked, in this order:

* SOL: read with the order within `RECENT_MS` of the settlement; the mid that an order of the perpetual was priced by then,
  less the premium of that time; now, where the settlement is as recent; a candle of the perpetual, less the premium;
  readings of the ledger before and after; the present one; the price of the fill itself.
* premium: now, where that is recent; a sample of the ledger within `SAMPLE_MS`; the mean that the hour was settled by; now.
* redemption rate, which changes once an epoch: read with the order; now, where that is recent; the nearest of the ledger; now.
* price of the token: SOL's times the redemption rate times its peg, which is the nearest that was read.

A booking waits for none of it longer than a bound, and never fails for it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from evenkeel.clock import Clock
from evenkeel.errors import Bug, Retryable
from evenkeel.legs import LegReceipt
from evenkeel.types import Frozen
from evenkeel.units import HOUR_MS, SECOND_MS
from state.carry.models import Position
from state.store import Store
from tasks.carry.books.sources import Now, Reading, Sources, nearest
from tasks.carry.mark import Mark
from venues.asgard.mints import TOKENS
from venues.asgard.venue import AsgardVenue
from venues.protocol import PerpVenue

RECENT_MS = 15_000
"""A price read so shortly before or after a settlement is that of its moment: SOL moves some 5 bp in it."""
RATE_MS = 600_000
"""A redemption rate that was read with an order says so long what it is: it changes once an epoch."""
BETWEEN_MS = 2 * HOUR_MS
"""Readings that lie no further apart are joined by a straight line."""


class Seen(Frozen):
    """What was read for an order before it was sent; None for what was not."""

    at_ms: int
    sol_price_usd: Decimal | None = None
    redemption_rate: Decimal | None = None
    mid_px: Decimal | None = None
    """Of the perpetual."""

    @classmethod
    def of(cls, receipt: LegReceipt) -> Seen | None:
        """Return what the receipt's order has kept of it."""
        detail = receipt.detail
        if "seen" in detail:
            return cls.model_validate(detail["seen"])
        if "sent_ms" not in detail:
            return None
        return cls(
            at_ms=detail["sent_ms"], sol_price_usd=detail.get("oracle_px"), mid_px=detail["reference_px"]
        )


class _Price(NamedTuple):
    """A figure and where it was had from, in words."""

    value: Decimal
    source: str


class Marks:
    """Says what the market was when something settled."""

    def __init__(self, store: Store, clock: Clock, long: AsgardVenue, short: PerpVenue) -> None:
        self._sources = Sources(store, clock, long, short)

    async def read(self, asset: str, underlying: str) -> Mark:
        """Oracle price of the underlying, price of the asset as the lender shows it, its redemption rate, now.

        Raises Retryable.
        """
        now = await self._sources.read_now(asset, underlying)
        if now.rate is None or now.peg is None:
            raise Retryable(f"no price or redemption rate of {asset} at this moment")
        sol = now.sol.value
        return Mark(
            at_ms=now.context.observed_ms,
            sol_price_usd=sol,
            token_price_usd=_rounded(sol * now.rate * now.peg),
            redemption_rate=now.rate,
            source="now",
        )

    async def of_long(
        self, position: Position, at_ms: int, seen: Seen | None = None, fill_px: Decimal | None = None
    ) -> Mark:
        """Return the mark of the position's asset at `at_ms`. `fill_px`: USD per token that it was swapped for then.

        Raises Bug where no price is to be had anywhere.
        """
        moment = _Moment(self._sources, position, position.asset, at_ms, seen)
        rate = await moment.rate()
        sol = await moment.sol(None if fill_px is None else fill_px / rate.value)
        peg = await moment.peg()
        words = [f"SOL {sol.source}", f"peg {peg.source}"]
        if TOKENS[position.asset].is_lst:
            words.insert(1, f"redemption rate {rate.source}")
        return Mark(
            at_ms=at_ms,
            sol_price_usd=_rounded(sol.value),
            token_price_usd=_rounded(sol.value * rate.value * peg.value),
            redemption_rate=rate.value,
            source="; ".join(words),
        )

    async def of_short(
        self, position: Position, at_ms: int, seen: Seen | None = None, fill_px: Decimal | None = None
    ) -> Mark:
        """Return the mark of the underlying at `at_ms`: the short has no token. `fill_px`: USD per SOL that it was traded
        for then. Raises Bug where no price is to be had anywhere.
        """
        sol = await _Moment(self._sources, position, None, at_ms, seen).sol(fill_px)
        return Mark(
            at_ms=at_ms,
            sol_price_usd=_rounded(sol.value),
            token_price_usd=_rounded(sol.value),
            redemption_rate=Decimal(1),
            source=f"SOL {sol.source}",
        )


class _Moment:
    """The figures of one moment, each by the first source of its order that has it. `asset`: None where only SOL is asked."""

    def __init__(
        self, sources: Sources, position: Position, asset: str | None, at_ms: int, seen: Seen | None
    ) -> None:
        self._sources = sources
        self._position = position
        self._underlying = position.underlying
        self._asset = asset
        self._at_ms = at_ms
        self._seen = seen
        self._now: Now | None = None
        self._asked_now = False

    async def sol(self, fill_px: Decimal | None) -> _Price:
        """USD per SOL."""
        of_order = None
        if self._seen is not None and self._seen.sol_price_usd is not None:
            of_order = Reading(self._seen.at_ms, self._seen.sol_price_usd)
            if self._is_recent(of_order.at_ms):
                return _Price(of_order.value, "read with the order")
        if (by_order := await self._by_the_orders_mid()) is not None:
            return by_order
        if (now := await self._recent()) is not None:
            return _Price(now.sol.value, "read now")
        readings = self._sources.stored("hyperliquid", self._underlying, "oracle", self._at_ms)
        readings += [of_order] if of_order is not None else []
        if (by_candle := await self._by_candle(nearest(readings, self._at_ms))) is not None:
            return by_candle
        return await self._joined(readings, fill_px)

    async def rate(self) -> _Price:
        """SOL per token."""
        assert self._asset is not None
        if not TOKENS[self._asset].is_lst:
            return _Price(Decimal(1), "")
        seen = self._seen
        lasts = seen is not None and abs(seen.at_ms - self._at_ms) <= RATE_MS
        if seen is not None and seen.redemption_rate is not None and lasts:
            return _Price(seen.redemption_rate, "read with the order")
        now = await self._recent()
        if now is not None and now.rate is not None:
            return _Price(now.rate, "read now")
        near = nearest(self._sources.stored("solana", self._asset, "redemption", self._at_ms), self._at_ms)
        if near is not None:
            return _Price(near.value, self._away(near))
        now = await self._late()
        if now is not None and now.rate is not None:
            return _Price(now.rate, "read now")
        return _Price(Decimal(1), "not known, taken for 1")

    async def peg(self) -> _Price:
        """The token's price over SOL's times the redemption rate."""
        assert self._asset is not None
        now = await self._recent()
        if now is not None and now.peg is not None:
            return _Price(now.peg, "read now")
        near = nearest(self._stored_pegs(), self._at_ms)
        if near is not None:
            return _Price(near.value, self._away(near))
        now = await self._late()
        if now is not None and now.peg is not None:
            return _Price(now.peg, "read now")
        return _Price(Decimal(1), "not known, taken for 1")

    # --- how ---

    def _is_recent(self, read_ms: int) -> bool:
        return abs(self._at_ms - read_ms) <= RECENT_MS

    def _away(self, one: Reading) -> str:
        seconds = (one.at_ms - self._at_ms) // SECOND_MS
        return f"stored {abs(seconds)} s {'after' if seconds > 0 else 'before'}"

    async def _recent(self) -> Now | None:
        """A present reading, where the moment has just been."""
        return await self._read(again=True) if self._is_recent(self._sources.clock.now_ms()) else None

    async def _late(self) -> Now | None:
        """A present reading, for want of anything nearer."""
        return await self._read(again=False)

    async def _read(self, *, again: bool) -> Now | None:
        if not self._asked_now:
            self._asked_now = True
            self._now = await self._sources.now(self._asset, self._underlying, again=again)
        return self._now

    async def _by_the_orders_mid(self) -> _Price | None:
        """From the mid that an order of the perpetual was priced by, just before it was filled."""
        if self._seen is None or self._seen.mid_px is None or not self._is_recent(self._seen.at_ms):
            return None
        premium = await self._premium()
        return _Price(self._seen.mid_px / premium.value, f"mid of the order less {premium.source}")

    async def _by_candle(self, near: Reading | None) -> _Price | None:
        """From the perpetual's candle, unless a reading lies nearer than the candle is long."""
        candle = await self._sources.candle(self._underlying, self._at_ms)
        if candle is None:
            return None
        long_ms = candle.close_ms - candle.open_ms + 1
        if near is not None and long_ms > 60 * SECOND_MS and abs(near.at_ms - self._at_ms) < long_ms // 2:
            return None
        premium = await self._premium()
        words = f"candle of {long_ms // SECOND_MS} s less {premium.source}"
        return _Price(candle.px_at(self._at_ms) / premium.value, words)

    async def _premium(self) -> _Price:
        """The perpetual's price over SOL's."""
        now = await self._recent()
        if now is not None and now.premium is not None:
            return _Price(now.premium, "the premium of now")
        sample = self._sources.sampled_premium(self._underlying, self._at_ms)
        if sample is not None:
            return _Price(1 + sample.value, f"a premium {self._away(sample)}")
        settled = await self._sources.settled_premium(self._underlying, self._at_ms)
        if settled is not None:
            return _Price(1 + settled, "the premium of its hour")
        now = await self._late()
        if now is not None and now.premium is not None:
            return _Price(now.premium, "the premium of now")
        return _Price(Decimal(1), "no premium, for none is known")

    async def _joined(self, readings: list[Reading], fill_px: Decimal | None) -> _Price:
        """From readings before and after, however far; from the fill and the entry's reference where there is none."""
        if not readings and (now := await self._late()) is not None:
            readings = [now.sol]
        before = max((one for one in readings if one.at_ms <= self._at_ms), default=None)
        after = min((one for one in readings if one.at_ms > self._at_ms), default=None)
        if before is not None and after is not None and after.at_ms - before.at_ms <= BETWEEN_MS:
            share = Decimal(self._at_ms - before.at_ms) / (after.at_ms - before.at_ms)
            words = f"between {self._away(before)} and {self._away(after)}"
            return _Price(before.value + (after.value - before.value) * share, words)
        if (near := nearest(readings, self._at_ms)) is not None:
            return _Price(near.value, self._away(near))
        if fill_px is not None:
            return _Price(fill_px, "of the fill itself")
        if (reference := self._position.ref_long_price_usd) is not None:
            return _Price(reference, "of the decision to enter")
        raise Bug(f"a booking needs a price of {self._underlying}, and none was ever stored")

    def _stored_pegs(self) -> list[Reading]:
        """By the moments at which token, oracle and redemption rate were all read."""
        assert self._asset is not None
        oracle = dict(self._sources.stored("hyperliquid", self._underlying, "oracle", self._at_ms))
        rates = dict(self._sources.stored("solana", self._asset, "redemption", self._at_ms))
        return [
            Reading(at_ms, price / (oracle[at_ms] * rates[at_ms]))
            for at_ms, price in self._sources.stored("asgard", self._asset, "token", self._at_ms)
            if at_ms in oracle and at_ms in rates
        ]


def _rounded(price: Decimal) -> Decimal:
    """The price to a billionth, without the digits that only a division has made."""
    digits = f"{price:.9f}".rstrip("0").rstrip(".")
    return Decimal(digits)

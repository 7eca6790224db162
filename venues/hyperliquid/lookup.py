"""What became of an order: proof from its record, its fills and the position that it did or cannot happen."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from evenkeel.clock import Clock
from evenkeel.errors import UNREAD, EvenkeelError
from evenkeel.types import Confirmed, Outcome, Receipt, Rejected, Unknown
from venues.hyperliquid import models as m
from venues.hyperliquid.client import HyperliquidClient
from venues.hyperliquid.orders import OrderKey, receipt_of

_FILL_ATTEMPTS = 5
_FILL_PAUSE_S = 0.2
_LOOKBACK_MS = 60_000
_ORDINARY = ("", "Open Long", "Close Long", "Open Short", "Close Short", "Long > Short", "Short > Long")
"""How a fill of an order reads; liquidation and auto-deleveraging name themselves otherwise."""


class OrderLookup:
    """Reads only. It answers Confirmed or Rejected only when the fills explain the position to the last lot.

    Answers may come from servers that lag behind each other, so a record alone proves nothing: the sum of
    all fills since the order was built must equal the change of the position, read later than the order's
    end.
    """

    def __init__(self, client: HyperliquidClient, clock: Clock, grace_ms: int) -> None:
        self._client = client
        self._clock = clock
        self._grace_ms = grace_ms

    async def await_fills(self, key: OrderKey, answer: m.OrderFilled) -> Outcome[Receipt]:
        """Return the receipt of an order that the venue answered as filled; fees come from the fills alone."""
        try:
            for attempt in range(_FILL_ATTEMPTS):
                rows = self._own(key, await self._fills(key), answer.oid)
                if sum(row.sz for row in rows) == answer.total_sz:
                    return Confirmed(receipt_of(key, rows))
                await self._clock.sleep(_FILL_PAUSE_S * 2**attempt)
        except UNREAD as error:
            return Unknown(
                f"filled {answer.total_sz} {key.coin} (oid {answer.oid}), but fills cannot be read: {error}"
            )
        return Unknown(
            f"filled {answer.total_sz} {key.coin} (oid {answer.oid}), but its fills are not listed yet"
        )

    async def find(self, key: OrderKey) -> Outcome[Receipt]:
        """Ask by cloid, then by fills and position; only after the payload's expiry can an unseen order be
        dead."""
        try:
            try:
                record = (await self._client.order_status(key.account, key.cloid)).order
            except UNREAD as fault:
                return await self._without_record(key, fault)
            if record is not None:
                return await self._settled(key, record)
            if not self._expired(key, await self._client.clearinghouse_state(key.account)):
                return Unknown(
                    f"order {key.cloid} is unknown to the venue, and may execute until {key.expires_after}"
                )
            # Only what is read from here on counts: before the expiry the order could still have arrived.
            record = (await self._client.order_status(key.account, key.cloid)).order
            if record is not None:
                return await self._settled(key, record)
            return await self._unseen(key)
        except UNREAD as error:
            return Unknown(f"order {key.cloid} cannot be looked up: {error}")

    async def _without_record(self, key: OrderKey, fault: EvenkeelError) -> Outcome[Receipt]:
        """The record cannot be had: fills that carry our cloid say what was done, and once the payload has expired fills that
        explain the position say that no more can be. It never rests, so that nothing is left for a record to say.
        """
        own = self._own(key, await self._fills(key), None)
        if own and sum(row.sz for row in own) == key.size:
            return Confirmed(receipt_of(key, own))
        if not self._expired(key, await self._client.clearinghouse_state(key.account)):
            return Unknown(f"order {key.cloid} may execute until {key.expires_after}: {fault}")
        return await self._unseen(key)

    async def _settled(self, key: OrderKey, record: m.WireOrderRecord) -> Outcome[Receipt]:
        """The venue has a record of the order; the fills decide what it did."""
        if record.is_alive or not (record.is_final or await self._is_over(key)):
            return Unknown(f"order {key.cloid} is {record.status}")
        # While it lived is enough where it was filled whole: what came after may be thousands of rows.
        own = self._own(key, await self._fills(key, key.expires_after + self._grace_ms), record.order.oid)
        if own and sum(row.sz for row in own) == key.size:
            return Confirmed(receipt_of(key, own))
        # `sz` below `origSz` proves no fill: a reduce-only order first shrinks to the position.
        readings: list[list[m.WireFill]] = []
        for attempt in range(_FILL_ATTEMPTS):
            fills = await self._fills(key)
            own = self._own(key, fills, record.order.oid)
            if own and sum(row.sz for row in own) == key.size:
                return Confirmed(receipt_of(key, own))
            state = await self._client.clearinghouse_state(key.account)
            recent = state.time is None or state.time >= record.status_timestamp
            assumed = record.status != "filled" and _stands_so(key, readings, fills)
            if recent and (assumed or self._explained(key, fills, state)):
                if own:
                    return Confirmed(receipt_of(key, own))
                if record.status != "filled":
                    return Rejected(
                        f"{record.status}: nothing was filled (oid {record.order.oid})", seen=True
                    )
            await self._clock.sleep(_FILL_PAUSE_S * 2**attempt)
        return Unknown(f"order {key.cloid} is {record.status}; its fills do not explain the position yet")

    async def _unseen(self, key: OrderKey) -> Outcome[Receipt]:
        """Expired and without a record. Records are evicted after some 2000 orders, fills live far longer."""
        readings: list[list[m.WireFill]] = []
        for attempt in range(_FILL_ATTEMPTS):
            fills = await self._fills(key)
            own = self._own(key, fills, None)
            doubtful = await self._doubtful(key, fills)
            if isinstance(doubtful, Unknown):
                return doubtful
            own = own + doubtful
            state = await self._client.clearinghouse_state(key.account)
            explained = _stands_so(key, readings, fills) or self._explained(key, fills, state)
            if self._expired(key, state) and explained:
                if own:
                    return Confirmed(receipt_of(key, own))
                return Rejected(
                    f"expired unseen at {key.expires_after}: no record seen, no fill, and the position of "
                    f"{state.szi(key.coin)} {key.coin} is explained without it"
                )
            await self._clock.sleep(_FILL_PAUSE_S * 2**attempt)
        return Unknown(f"order {key.cloid} expired unseen; the fills do not explain the position yet")

    async def _doubtful(self, key: OrderKey, fills: Sequence[m.WireFill]) -> list[m.WireFill] | Unknown:
        """Fills that carry no cloid but could be ours, sorted out by the record of their order."""
        anonymous = [row for row in fills if not row.cloid and self._possible(key, row)]
        own: list[m.WireFill] = []
        for oid in sorted({row.oid for row in anonymous}):
            record = (await self._client.order_status(key.account, oid)).order
            if record is None:
                return Unknown(f"order {key.cloid} may be oid {oid}, whose record is gone")
            if (record.order.cloid or "").lower() == key.cloid:
                own.extend(row for row in anonymous if row.oid == oid)
        return own

    def _possible(self, key: OrderKey, row: m.WireFill) -> bool:
        """The fill is ordinary trading on our side, within our limit, while our order could execute."""
        within = row.px <= key.limit_px if key.is_buy else row.px >= key.limit_px
        alive = key.position_time_ms < row.time <= key.expires_after + self._grace_ms
        ordinary = row.dir in _ORDINARY and row.liquidation is None
        return row.side == ("B" if key.is_buy else "A") and within and alive and ordinary

    async def _fills(self, key: OrderKey, until_ms: int | None = None) -> list[m.WireFill]:
        """The coin's fills from a minute before the order was built until `until_ms` or now, oldest first."""
        since_ms = key.position_time_ms - _LOOKBACK_MS
        rows = await self._client.user_fills_by_time(key.account, since_ms, until_ms)
        return [row for row in rows if row.coin == key.coin]

    @staticmethod
    def _own(key: OrderKey, fills: Sequence[m.WireFill], oid: int | None) -> list[m.WireFill]:
        return [
            row
            for row in fills
            if (row.cloid or "").lower() == key.cloid or (oid is not None and row.oid == oid)
        ]

    @staticmethod
    def _explained(key: OrderKey, fills: Sequence[m.WireFill], state: m.WireClearinghouseState) -> bool:
        """The list of fills is complete: it leads from a known position to the present one.

        The known position is the one read before the order, or, where that read lagged behind a fill of an
        earlier order, the start that the oldest fill of the lookback itself names.
        """
        now = state.szi(key.coin)
        later = sum((row.signed_sz for row in fills if row.time > key.position_time_ms), Decimal(0))
        if key.szi_read and key.szi_before + later == now:
            return True
        if not key.szi_read and not fills and now == 0:
            return True
        start = now - sum((row.signed_sz for row in fills), Decimal(0))
        return any(row.start_position == start for row in fills if row.time == fills[0].time)

    async def _is_over(self, key: OrderKey) -> bool:
        """Nothing of the order can happen any more, whatever the venue's word for its state means: it never rests."""
        return self._expired(key, await self._client.clearinghouse_state(key.account))

    def _expired(self, key: OrderKey, state: m.WireClearinghouseState) -> bool:
        """By the venue's clock, which is what the venue judges the expiry by."""
        venue_ms = self._clock.now_ms() if state.time is None else state.time
        return venue_ms > key.expires_after + self._grace_ms


def _stands_so(key: OrderKey, readings: list[list[m.WireFill]], fills: list[m.WireFill]) -> bool:
    """Whether nothing can explain the position, because the one before the order was only assumed, and the list of fills has
    stood as it is for all the readings that one question makes. `readings` gains this one.
    """
    readings.append(fills)
    return not key.szi_read and len(readings) == _FILL_ATTEMPTS and all(one == fills for one in readings)

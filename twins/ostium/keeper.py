"""The venue's keeper: it answers each order with a price a second or two later, and starts what a price has reached.

Faults, by `FaultPlan` with venue `ostium`: `silent_keeper` (calls `answer:KIND` and `trigger:KIND` are left out, once a block),
`keeper_price` (an answer's price is changed: `scale`, or `closed`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from twins.evm.twin import EvmTwin
from twins.faults import FaultPlan
from twins.ostium import arithmetic
from twins.ostium.book import ACTIONS, Book, Limit, Order, Trade
from twins.ostium.deployment import GAS, Deployment, interface
from twins.ostium.journal import Journal
from twins.ostium.markets import Markets, Quote

VENUE = "ostium"
ANSWERS = ("market_open", "market_close", "limit_open", "limit_close", "remove_collateral")
TP, SL, LIQ, OPEN, CLOSE_DAY_TRADE = range(5)
AGAIN_MS = 5_000
"""After which what was sent and has had no effect is sent again."""
BAND_BLOCKS = 300
NEAR = 10_000
"""One part in so many is added to a liquidation price: it moves with the rollover until it is reckoned again."""
FEE_WEI = 10**12


@dataclass
class Rollover:
    """A pair's accrual as last stored on the chain; by side, long first."""

    accrued: tuple[int, int]
    per_block: tuple[int, int]
    block: int

    def now(self, buy: bool, number: int) -> int:
        side = 0 if buy else 1
        return self.accrued[side] + self.per_block[side] * (number - self.block)


class Keeper:
    """Acts for the venue from an account of its own. `settle_ms`: the shortest and the longest time to an answer."""

    def __init__(
        self, chain: EvmTwin, venue: Deployment, markets: Markets, faults: FaultPlan, journal: Journal
    ) -> None:
        self._chain = chain
        self._venue = venue
        self._markets = markets
        self._faults = faults
        self._journal = journal
        self.book = Book(journal)
        self.settle_ms = (1_000, 2_000)
        self.refused: dict[int, str] = {}
        """Orders that no price settles, and the chain's words."""
        self._sent_ms: dict[Any, int] = {}
        self._hashes: dict[Any, str] = {}
        self._rollover: dict[int, Rollover] = {}
        self._bands: dict[int, tuple[float, float]] = {}
        self._bands_of = (-1, 0)

    async def before_block(self, at_ms: int, number: int) -> bool:
        """Send the answers and triggers that are due in this block; return whether there were any."""
        answered = [await self._answer(order, at_ms) for order in list(self.book.waiting.values())]
        return any(
            [*answered, *[await self._trigger(*one, at_ms) for one in await self._reached(at_ms, number)]]
        )

    async def after_block(self) -> None:
        await self._journal.read()
        self.book.catch_up()

    # --- answers ----------------------------------------------------------------------------------------------------

    def _due_ms(self, order: Order) -> int:
        first, last = self.settle_ms
        return order.initiated_s * 1000 + first + (order.id * 1000) % (last - first + 1000)

    async def _answer(self, order: Order, at_ms: int) -> bool:
        name = f"answer:{ANSWERS[order.price_kind]}"
        if at_ms < self._due_ms(order) or not await self._may_send(order.id, at_ms):
            return False
        if self._faults.take(VENUE, "silent_keeper", name):
            return False
        quote = self._markets.quote(order.pair, order.asked_s * 1000)
        prices = (quote.mid, quote.bid, quote.ask) if quote.is_open else (0, 0, 0)
        if fault := self._faults.take(VENUE, "keeper_price", name):
            scale = 0 if fault.args.get("closed") else float(fault.args.get("scale", 1))
            prices = (round(prices[0] * scale), round(prices[1] * scale), round(prices[2] * scale))
        return await self._send(order.id, at_ms, "answer", (order.id, *prices, quote.day_closed))

    async def _may_send(self, what: Any, at_ms: int) -> bool:
        """Return whether nothing was sent for it lately, and what was sent waits for no block any more."""
        if at_ms < self._sent_ms.get(what, -AGAIN_MS) + AGAIN_MS:
            return False
        if what not in self._hashes:
            return True
        known = await self._chain.own("eth_getTransactionByHash", self._hashes[what])
        return known is None or known["blockNumber"] is not None

    async def _send(self, what: Any, at_ms: int, function: str, *values: Any) -> bool:
        """Send what would not be refused now; return whether it was sent."""
        self._sent_ms[what] = at_ms
        call = {
            "from": self._venue.keeper,
            "to": self._venue.at["prices"],
            "data": interface("prices").call(function, *values),
            "gas": hex(GAS),
            "maxFeePerGas": hex(FEE_WEI),
            "maxPriorityFeePerGas": "0x0",
        }
        tried = await self._chain.ask("eth_call", call, "latest")
        if "error" in tried:
            self.refused[what] = str(tried["error"])
            return False
        self.refused.pop(what, None)
        self._hashes[what] = str(await self._chain.own("eth_sendTransaction", call))
        return True

    # --- triggers ---------------------------------------------------------------------------------------------------

    async def _trigger(self, kind: int, of: Trade | Limit, at_ms: int) -> bool:
        what = (kind, of.trader, of.pair, of.index)
        if not await self._may_send(what, at_ms):
            return False
        name = "limit" if kind == OPEN else ACTIONS[kind]
        if self._faults.take(VENUE, "silent_keeper", f"trigger:{name}"):
            return False
        return await self._send(what, at_ms, "trigger", kind, of.trader, of.pair, of.index, at_ms // 1000)

    async def _reached(self, at_ms: int, number: int) -> list[tuple[int, Trade | Limit]]:
        """Return what the prices of this block have reached. Only pairs whose price has left their band are gone through."""
        if self._bands_of[0] != self.book.version or number >= self._bands_of[1] + BAND_BLOCKS:
            await self._reckon_bands(number)
        found: list[tuple[int, Trade | Limit]] = []
        for pair, (low, high) in self._bands.items():
            quote = self._markets.quote(pair, at_ms // 1000 * 1000)
            days_end = quote.day_closed and any(one.is_day for one in self.book.open.values())
            if not quote.is_open or (low < quote.mid < high and not days_end):
                continue
            for trade in self.book.open.values():
                if trade.pair == pair and (kind := self._reached_by(trade, quote, number)) is not None:
                    found.append((kind, trade))
            found += [
                (OPEN, one)
                for one in self.book.limits.values()
                if one.is_active and one.pair == pair and _hit(one, quote)
            ]
        return found

    def _cap(self, trade: Trade) -> int:
        pair = self._markets.pairs[trade.pair]
        overnight = pair.overnight_leverage if not trade.is_day else 0
        return 100 * (overnight or pair.max_leverage)

    def _rollover_fee(self, trade: Trade, number: int) -> int:
        accrued = self._rollover[trade.pair].now(trade.buy, number) - trade.rollover
        return arithmetic.rollover_fee(accrued, trade.collateral, trade.leverage)

    def _reached_by(self, trade: Trade, quote: Quote, number: int) -> int | None:
        at_s = quote.at_ms // 1000
        if at_s < trade.opened_s:
            return None
        gain = arithmetic.profit_p(trade.open_price, quote.mid, trade.buy, trade.leverage, trade.highest)
        value = arithmetic.trade_value(trade.collateral, gain, self._rollover_fee(trade, number))
        if value < arithmetic.liquidation_margin(trade.collateral, trade.leverage, self._cap(trade)):
            return LIQ
        if (
            trade.sl
            and trade.sl_s <= at_s
            and (quote.mid <= trade.sl if trade.buy else quote.mid >= trade.sl)
        ):
            return SL
        filled = quote.bid if trade.buy else quote.ask
        if trade.tp and trade.tp_s <= at_s and (filled >= trade.tp if trade.buy else filled <= trade.tp):
            return TP
        return CLOSE_DAY_TRADE if trade.is_day and quote.day_closed else None

    async def _reckon_bands(self, number: int) -> None:
        """For each pair with something open, the prices between which nothing can be reached."""
        of_trades = list(self.book.open.values())
        of_limits = [one for one in self.book.limits.values() if one.is_active]
        held = {one.pair for one in of_trades} | {one.pair for one in of_limits}
        for pair in held & self.book.stale_rollover | held - self._rollover.keys():
            await self._read_rollover(pair)
        self.book.stale_rollover.clear()
        self._bands = {pair: (0.0, math.inf) for pair in held}
        for trade in of_trades:
            liquidation = arithmetic.liquidation_price(
                trade.open_price, trade.buy, trade.collateral, trade.leverage,
                self._rollover_fee(trade, number), self._cap(trade),
            )  # fmt: skip
            if trade.buy:
                self._narrow(trade.pair, max(trade.sl, liquidation * (1 + 1 / NEAR)), trade.tp or math.inf)
            else:
                stop = trade.sl or math.inf
                self._narrow(trade.pair, trade.tp, min(stop, liquidation * (1 - 1 / NEAR)))
        for limit in of_limits:
            falls = (limit.kind == 1) == limit.buy
            self._narrow(limit.pair, limit.price if falls else 0, math.inf if falls else limit.price)
        self._bands_of = (self.book.version, number)

    def _narrow(self, pair: int, low: float, high: float) -> None:
        self._bands[pair] = (max(self._bands[pair][0], low), min(self._bands[pair][1], high))

    async def _read_rollover(self, pair: int) -> None:
        call = {
            "to": self._venue.at["infos"],
            "data": interface("infos").call("pairRolloverFeesV2", pair),
        }
        read = interface("infos").answer(
            "pairRolloverFeesV2", await self._chain.own("eth_call", call, "latest")
        )
        per_block = [read["brokerPremium"] + sign * read["lastLongPure"] for sign in (1, -1)]
        if not read["isNegativeRolloverAllowed"]:
            per_block = [max(0, one) for one in per_block]
        self._rollover[pair] = Rollover(
            (read["accPerOiLong"], read["accPerOiShort"]),
            (per_block[0], per_block[1]),
            read["lastUpdateBlock"],
        )


def _hit(limit: Limit, quote: Quote) -> bool:
    """Return whether a limit order's price is reached by what it would get, or a stop order's by the middle."""
    if limit.updated_s > quote.at_ms // 1000:
        return False
    if limit.kind == 1:
        return quote.ask <= limit.price if limit.buy else quote.bid >= limit.price
    return quote.mid >= limit.price if limit.buy else quote.mid <= limit.price

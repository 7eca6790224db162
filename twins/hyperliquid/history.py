"""The reads of POST /info that answer from histories: orders, fills, funding, ledger, candles, portfolio."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from twins.hyperliquid.account import Account, Order
from twins.hyperliquid.engine import Engine
from twins.hyperliquid.errors import BadRequest
from twins.hyperliquid.funding import hourly_rate, settled_at_ms
from twins.hyperliquid.margin import cross_summary, whole_summary
from twins.hyperliquid.meta import BY_NAME
from twins.hyperliquid.numbers import ZERO, from_float, lower_address, num
from twins.world import HOUR_MS

VENUE = "hyperliquid"
Request = dict[str, Any]
Read = Callable[[Request, int], Any]
RANGE_ROWS = 500
FILL_ROWS = 2_000
FILLS_KEPT = 10_000
CANDLES = 5_000
MINUTE_MS = 60_000
DAY_MS = 86_400_000
INTERVAL_MS = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
    "1w": 7 * DAY_MS,
}


def range_of(request: Request, now_ms: int) -> tuple[int, int]:
    """Return the requested range, both ends inclusive; `endTime` may be absent or null."""
    start, end = request.get("startTime"), request.get("endTime")
    if type(start) is not int or start < 0 or (end is not None and type(end) is not int):
        raise BadRequest
    return start, now_ms if end is None else end


def within(rows: Iterable[dict[str, Any]], start: int, end: int, limit: int) -> list[dict[str, Any]]:
    return [row for row in rows if start <= row["time"] <= end][:limit]


def aggregate(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per (time, order): sizes, fees and gains added, the price averaged by size."""
    merged: dict[tuple[int, int], dict[str, Any]] = {}
    for row in rows:
        key = (row["time"], row["oid"])
        if key not in merged:
            merged[key] = dict(row)
            continue
        into = merged[key]
        before, more = Decimal(into["sz"]), Decimal(row["sz"])
        average = (before * Decimal(into["px"]) + more * Decimal(row["px"])) / (before + more)
        into["px"] = num(average.quantize(Decimal("0.0000000001")))
        into["sz"] = num(before + more)
        for name in ("fee", "closedPnl"):
            into[name] = num(Decimal(into[name]) + Decimal(row[name]))
    return list(merged.values())


def reads(engine: Engine) -> dict[str, Read]:
    found = Histories(engine)
    return {
        "orderStatus": found.order_status,
        "openOrders": found.open_orders,
        "frontendOpenOrders": found.frontend_open_orders,
        "historicalOrders": found.historical_orders,
        "userFills": found.user_fills,
        "userFillsByTime": found.user_fills_by_time,
        "userFunding": found.user_funding,
        "fundingHistory": found.funding_history,
        "userNonFundingLedgerUpdates": found.ledger,
        "recentTrades": found.recent_trades,
        "candleSnapshot": found.candles,
        "portfolio": found.portfolio,
    }


class Histories:
    """Each method answers one request type: (request, time) -> JSON body."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def _account(self, request: Request) -> Account:
        user = lower_address(request.get("user"))
        if user is None:
            raise BadRequest
        return self.engine.read(user)

    def _visible(self, orders: Iterable[Order]) -> list[Order]:
        return [order for order in orders if order.hidden_until_ms <= self.engine.now_ms]

    def order_status(self, request: Request, t_ms: int) -> Any:
        account, wanted = self._account(request), request.get("oid")
        if type(wanted) is not int and not isinstance(wanted, str):
            raise BadRequest
        if self.engine.faults.take(VENUE, "hidden_order", "info:orderStatus") is not None:
            return {"status": "unknownOid"}
        key = wanted.lower() if isinstance(wanted, str) else wanted
        for order in reversed(account.order_records):
            if key not in (order.oid, order.cloid) or order.hidden_until_ms > self.engine.now_ms:
                continue
            body = {"order": order.frontend(), "status": order.status, "statusTimestamp": order.status_ms}
            return {"status": "order", "order": body}
        return {"status": "unknownOid"}

    def open_orders(self, request: Request, t_ms: int) -> Any:
        return [order.basic() for order in self._visible(self._account(request).open_orders.values())]

    def frontend_open_orders(self, request: Request, t_ms: int) -> Any:
        return [order.frontend() for order in self._visible(self._account(request).open_orders.values())]

    def historical_orders(self, request: Request, t_ms: int) -> Any:
        """Return the orders, newest first."""
        return [
            {"order": order.frontend(), "status": order.status, "statusTimestamp": order.status_ms}
            for order in reversed(self._visible(self._account(request).order_records))
        ]

    def user_fills(self, request: Request, t_ms: int) -> Any:
        """Return the 2,000 most recent, newest first."""
        rows = self.engine.visible_fills(self._account(request))[-FILL_ROWS:]
        rows = aggregate(rows) if request.get("aggregateByTime") else rows
        return rows[::-1]

    def user_fills_by_time(self, request: Request, t_ms: int) -> Any:
        """Return fills, oldest first, 2,000 a page, of the 10,000 most recent."""
        start, end = range_of(request, self.engine.now_ms)
        rows = self.engine.visible_fills(self._account(request))[-FILLS_KEPT:]
        rows = within(rows, start, end, FILL_ROWS)
        return aggregate(rows) if request.get("aggregateByTime") else rows

    def user_funding(self, request: Request, t_ms: int) -> Any:
        start, end = range_of(request, self.engine.now_ms)
        return within(self._account(request).fundings, start, end, RANGE_ROWS)

    def ledger(self, request: Request, t_ms: int) -> Any:
        start, end = range_of(request, self.engine.now_ms)
        return within(self._account(request).ledger, start, end, RANGE_ROWS)

    def recent_trades(self, request: Request, t_ms: int) -> Any:
        coin = request.get("coin")
        return [row for row in reversed(self.engine.trades) if row["coin"] == coin][:10]

    def funding_history(self, request: Request, t_ms: int) -> Any:
        """Return hours settled here, and before the twin's start those of the world's own record, 500 a page."""
        coin, engine = request.get("coin"), self.engine
        if not isinstance(coin, str):
            raise BadRequest
        if coin not in BY_NAME:
            return []
        start, end = range_of(request, engine.now_ms)
        settled = [row for row in engine.settled[coin] if start <= row[0] <= end]
        earlier = self._before(coin, start, min(end, engine.first_hour_ms - 1))
        rows = (earlier + settled)[:RANGE_ROWS]
        return [
            {"coin": coin, "fundingRate": num(rate), "premium": num(premium), "time": stamp}
            for stamp, rate, premium in rows
        ]

    def _before(self, coin: str, start: int, end: int) -> list[tuple[int, Decimal, Decimal]]:
        if end < start:
            return []
        if coin == "SOL":
            recorded = self.engine.world.series.funding_history(start, end)
            return [
                (stamp, from_float(rate), from_float(premium))
                for stamp, rate, premium in recorded
                if start <= stamp <= end
            ]
        hour = max(-(-start // HOUR_MS), self.engine.world.series.start_ms // HOUR_MS + 1) * HOUR_MS
        found: list[tuple[int, Decimal, Decimal]] = []
        while settled_at_ms(hour) <= end and len(found) < RANGE_ROWS:
            found.append((settled_at_ms(hour), hourly_rate(ZERO), ZERO))
            hour += HOUR_MS
        return [row for row in found if row[0] >= start]

    def candles(self, request: Request, t_ms: int) -> Any:
        """Return the candles that touch the range, of the 5,000 newest: mids of the world's price path, sampled five times a
        candle; the world has no trades of others (volume 0).
        """
        inner = request.get("req")
        if not isinstance(inner, dict) or inner.get("interval") not in INTERVAL_MS:
            raise BadRequest
        coin, length = inner.get("coin"), INTERVAL_MS[inner["interval"]]
        start, end = range_of(inner, self.engine.now_ms)
        if coin not in BY_NAME or BY_NAME[coin].delisted:
            return []
        now = self.engine.now_ms
        end, newest = min(end, now), now // length * length
        begin = max(start, self.engine.world.series.start_ms) // length * length
        begin = max(begin, newest - (CANDLES - 1) * length)
        rows = []
        for open_ms in range(begin, end + 1, length):
            times = [min(open_ms + length * part // 4, open_ms + length - 1, end) for part in range(5)]
            mids = [self.engine.market.quote(coin, at).mid for at in times]
            prices = {"o": mids[0], "c": mids[-1], "h": max(mids), "l": min(mids)}
            row: dict[str, Any] = {"t": open_ms, "T": open_ms + length - 1, "s": coin, "i": inner["interval"]}
            rows.append({**row, **{key: num(px) for key, px in prices.items()}, "v": "0.0", "n": 0})
        return rows

    def portfolio(self, request: Request, t_ms: int) -> Any:
        """Return the equity and gain over the usual windows; gain is equity less what came in and went out."""
        account, now = self._account(request), self.engine.now_ms
        windows = {"day": DAY_MS, "week": 7 * DAY_MS, "month": 30 * DAY_MS, "allTime": now}
        bodies = []
        for prefix in ("", "perp"):
            for name, length in windows.items():
                start = max(now - length, account.snapshots[0].t_ms if account.snapshots else now)
                points = sorted({start + (now - start) * part // 12 for part in range(13)})
                values = [self._equity(account, at, with_spot=not prefix) for at in points]
                gains = [
                    value - values[0] - flow
                    for value, flow in zip(
                        values,
                        [self._flows(account, points[0], at, with_spot=not prefix) for at in points],
                        strict=True,
                    )
                ]
                body = {
                    "accountValueHistory": [[at, num(v)] for at, v in zip(points, values, strict=True)],
                    "pnlHistory": [[at, num(gain)] for at, gain in zip(points, gains, strict=True)],
                    "vlm": num(self._volume(account, now - length)),
                }
                bodies.append([prefix + (name[0].upper() + name[1:] if prefix else name), body])
        return bodies

    def _equity(self, account: Account, t_ms: int, with_spot: bool) -> Decimal:
        then, marks = account.snapshot_at(t_ms), self.engine.market.marks(t_ms)
        cross = cross_summary(then.raw_usd, then.positions, marks)
        value = whole_summary(cross, then.positions, marks).account_value
        return value + (then.spot_usdc if with_spot else ZERO)

    @staticmethod
    def _flows(account: Account, after_ms: int, until_ms: int, with_spot: bool) -> Decimal:
        """Net money in (after, until]."""
        total = ZERO
        for row in account.ledger:
            if after_ms < row["time"] <= until_ms:
                total += net_flow(row["delta"], account.address, with_spot)
        return total

    @staticmethod
    def _volume(account: Account, since_ms: int) -> Decimal:
        rows = [row for row in account.fills if row["time"] >= since_ms]
        return sum((Decimal(row["px"]) * Decimal(row["sz"]) for row in rows), ZERO)


def net_flow(delta: dict[str, Any], address: str, with_spot: bool) -> Decimal:
    """Return what a ledger row adds to the perp balance (with_spot: to perp and spot together), in USD."""
    kind = delta["type"]
    if kind == "deposit":
        return Decimal(delta["usdc"])
    if kind == "withdraw":
        return -Decimal(delta["usdc"]) - Decimal(delta["fee"])
    if kind == "liquidation":
        return -Decimal(delta["accountValue"])
    if kind == "accountClassTransfer":
        amount = Decimal(delta["usdc"])
        return ZERO if with_spot else amount if delta["toPerp"] else -amount
    amount = Decimal(delta["usdc"] if kind == "internalTransfer" else delta["amount"])
    if kind == "spotTransfer" and not with_spot:
        return ZERO
    return amount if delta["destination"] == address else -amount - Decimal(delta["fee"])

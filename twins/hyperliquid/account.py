"""One address at the venue: cash, positions, orders and its append-only histories, with exact fill
arithmetic.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from twins.hyperliquid.meta import BY_NAME
from twins.hyperliquid.numbers import ZERO, num, usd

ORDER_RECORDS = 2000
"""An order record lives for about the last 2000 orders of the account."""
SNAPSHOTS = 5000


@dataclass
class Leverage:
    is_cross: bool
    value: int


@dataclass
class Position:
    """A net position. `entry_ntl` is the absolute notional at entry; `raw_usd` is cash of an
    isolated position only.
    """

    coin: str
    szi: Decimal
    entry_ntl: Decimal
    leverage: Leverage
    raw_usd: Decimal | None = None
    funding_since_open: Decimal = ZERO
    funding_since_change: Decimal = ZERO

    @property
    def is_cross(self) -> bool:
        return self.raw_usd is None


@dataclass
class Order:
    """One order and what became of it. `hidden_until_ms` models a venue whose index lags behind its matching."""

    oid: int
    coin: str
    is_buy: bool
    limit_px: Decimal
    orig_sz: Decimal
    sz: Decimal
    tif: str | None
    reduce_only: bool
    cloid: str | None
    timestamp_ms: int
    status: str = "open"
    status_ms: int = 0
    hidden_until_ms: int = 0
    trigger_px: Decimal | None = None
    trigger_above: bool = False
    is_market_trigger: bool = False
    tpsl: str | None = None
    parent: Order | None = None
    """The order whose fill wakes this take-profit or stop-loss."""

    @property
    def sleeps(self) -> bool:
        """Whether it still waits for its parent's first fill."""
        return self.parent is not None and self.parent.sz == self.parent.orig_sz

    @property
    def side(self) -> str:
        return "B" if self.is_buy else "A"

    def frontend(self) -> dict[str, Any]:
        """Return the shape of `frontendOpenOrders`, `historicalOrders` and `orderStatus`."""
        condition, kind = "N/A", "Limit"
        if self.trigger_px is not None:
            condition = f"Price {'above' if self.trigger_above else 'below'} {num(self.trigger_px)}"
            name = "Take Profit" if self.tpsl == "tp" else "Stop"
            kind = f"{name} {'Market' if self.is_market_trigger else 'Limit'}"
        return {
            "coin": self.coin,
            "side": self.side,
            "limitPx": num(self.limit_px),
            "sz": num(self.sz),
            "oid": self.oid,
            "timestamp": self.timestamp_ms,
            "triggerCondition": condition,
            "isTrigger": self.trigger_px is not None,
            "triggerPx": num(self.trigger_px) if self.trigger_px is not None else "0.0",
            "children": [],
            "isPositionTpsl": False,
            "reduceOnly": self.reduce_only,
            "orderType": kind,
            "origSz": num(self.orig_sz),
            "tif": self.tif,
            "cloid": self.cloid,
        }

    def basic(self) -> dict[str, Any]:
        """Return the shape of `openOrders` and `orderUpdates`: a trigger order looks like a plain limit here."""
        row: dict[str, Any] = {
            "coin": self.coin,
            "side": self.side,
            "limitPx": num(self.limit_px),
            "sz": num(self.sz),
            "oid": self.oid,
            "timestamp": self.timestamp_ms,
            "origSz": num(self.orig_sz),
        }
        if self.reduce_only:
            row["reduceOnly"] = True
        if self.cloid is not None:
            row["cloid"] = self.cloid
        return row


@dataclass
class Agent:
    address: str
    name: str | None
    valid_until_ms: int


@dataclass(frozen=True)
class Snapshot:
    """Money and positions at one time, so that a stale read can answer with an older truth."""

    t_ms: int
    raw_usd: Decimal
    spot_usdc: Decimal
    positions: dict[str, Position]


@dataclass(frozen=True)
class FillEffect:
    start_position: Decimal
    direction: str
    closed_pnl: Decimal


def direction_of(start: Decimal, signed_size: Decimal) -> str:
    """Return the venue's `dir` of a fill that moves a position from `start` by `signed_size`."""
    end = start + signed_size
    if start == 0 or (start > 0) == (signed_size > 0):
        return "Open Long" if signed_size > 0 else "Open Short"
    if end == 0 or (end > 0) == (start > 0):
        return "Close Long" if start > 0 else "Close Short"
    return "Long > Short" if start > 0 else "Short > Long"


@dataclass
class Account:
    """`raw_usd` is the cash of the cross account: deposits, minus signed size x price of every
    fill, minus fees, plus funding.
    """

    address: str
    raw_usd: Decimal = ZERO
    spot_usdc: Decimal = ZERO
    abstraction: str = "default"
    dex_abstraction: bool | None = None
    mode_moves_usd: Decimal = ZERO
    """What switching the mode has moved from spot to perpetuals."""
    positions: dict[str, Position] = field(default_factory=dict)
    leverage: dict[str, Leverage] = field(default_factory=dict)
    open_orders: dict[int, Order] = field(default_factory=dict)
    order_records: deque[Order] = field(default_factory=lambda: deque(maxlen=ORDER_RECORDS))
    order_updates: list[dict[str, Any]] = field(default_factory=list)
    fills: list[dict[str, Any]] = field(default_factory=list)
    fundings: list[dict[str, Any]] = field(default_factory=list)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    agents: dict[str, Agent] = field(default_factory=dict)
    builder_fees: dict[str, str] = field(default_factory=dict)
    referrer_code: str | None = None
    cum_volume_usd: Decimal = ZERO
    requests_used: int = 0
    last_overdraft_ms: int = 0
    scheduled_cancel_ms: int | None = None
    cancel_triggers: deque[int] = field(default_factory=lambda: deque(maxlen=32))
    next_liquidation_ms: int = 0
    funding_all_time: dict[str, Decimal] = field(default_factory=dict)
    hidden_fills: dict[int, int] = field(default_factory=dict)
    """oid -> time from which its fills are visible."""
    snapshots: deque[Snapshot] = field(default_factory=lambda: deque(maxlen=SNAPSHOTS))

    def leverage_of(self, coin: str) -> Leverage:
        """Return the setting for the next opening; 20x cross (at most the coin's own maximum) until it is changed."""
        return self.leverage.get(coin) or Leverage(True, min(20, BY_NAME[coin].max_leverage))

    def szi(self, coin: str) -> Decimal:
        position = self.positions.get(coin)
        return position.szi if position else ZERO

    def apply_fill(
        self, coin: str, signed_size: Decimal, px: Decimal, fee: Decimal, mark: Decimal
    ) -> FillEffect:
        """Book one fill exactly.

        Cash moves by the whole notional, so account value = cash + szi x mark needs no rounding. A partial
        close takes
        its share of the entry notional to the micro-dollar and the last close takes the rest: over a
        position's life
        the sum of closedPnl is its realised gain to the last digit. closedPnl is gross of fees.
        """
        start = self.szi(coin)
        direction = direction_of(start, signed_size)
        closing = ZERO
        if start != 0 and (start > 0) != (signed_size > 0):
            closing = min(abs(start), abs(signed_size))
        opening = abs(signed_size) - closing
        position = self.positions.get(coin)
        closed_pnl = ZERO
        if position is not None and closing > 0:
            closed_pnl = self._reduce(position, closing, px)
        if opening > 0:
            self._increase(coin, opening if signed_size > 0 else -opening, px, mark)
        self._pay(coin, -fee)
        self.cum_volume_usd += abs(signed_size) * px
        return FillEffect(start, direction, closed_pnl)

    def _reduce(self, position: Position, size: Decimal, px: Decimal) -> Decimal:
        sign = 1 if position.szi > 0 else -1
        whole = size == abs(position.szi)
        entry = position.entry_ntl if whole else usd(position.entry_ntl * size / abs(position.szi))
        proceeds = sign * size * px
        if position.raw_usd is None:
            self.raw_usd += proceeds
        else:
            released = (
                position.raw_usd if whole else usd(self._collateral(position) * size / abs(position.szi))
            )
            if whole:
                self.raw_usd += released + proceeds
            else:
                gain = sign * (size * px) - sign * entry
                position.raw_usd += proceeds - released - gain
                self.raw_usd += released + gain
        position.entry_ntl -= entry
        position.szi -= sign * size
        position.funding_since_change = ZERO
        if position.szi == 0:
            del self.positions[position.coin]
        return sign * (size * px - entry)

    @staticmethod
    def _collateral(position: Position) -> Decimal:
        """Own margin of an isolated position without its unrealised gain."""
        sign = 1 if position.szi > 0 else -1
        return (position.raw_usd or ZERO) + sign * position.entry_ntl

    def _increase(self, coin: str, signed_size: Decimal, px: Decimal, mark: Decimal) -> None:
        setting = self.leverage_of(coin)
        position = self.positions.get(coin)
        if position is None:
            raw = None if setting.is_cross else ZERO
            position = self.positions[coin] = Position(coin, ZERO, ZERO, replace(setting), raw)
        position.leverage = replace(setting)
        cost = signed_size * px
        if position.raw_usd is None:
            self.raw_usd -= cost
        else:
            margin = usd(abs(signed_size) * mark / setting.value)
            position.raw_usd += margin - cost
            self.raw_usd -= margin
        position.szi += signed_size
        position.entry_ntl += abs(cost)
        position.funding_since_change = ZERO

    def _pay(self, coin: str, amount: Decimal) -> None:
        """Funding goes to an isolated position's own cash; a fee of a closed one, to the account."""
        position = self.positions.get(coin)
        if position is not None and position.raw_usd is not None:
            position.raw_usd += amount
        else:
            self.raw_usd += amount

    def receive_funding(self, coin: str, amount: Decimal) -> None:
        """Book a funding payment. `amount` > 0 is income; the position's counters run the other way (positive = paid)."""
        self._pay(coin, amount)
        position = self.positions[coin]
        position.funding_since_open -= amount
        position.funding_since_change -= amount
        self.funding_all_time[coin] = self.funding_all_time.get(coin, ZERO) - amount

    def record(self, t_ms: int) -> None:
        """Remember the money and positions as they are from `t_ms` on."""
        positions = {coin: replace(held) for coin, held in self.positions.items()}
        self.snapshots.append(Snapshot(t_ms, self.raw_usd, self.spot_usdc, positions))

    def snapshot_at(self, t_ms: int) -> Snapshot:
        """Return the state as of `t_ms`: the last remembered one that is not later (nothing held before the first)."""
        for snapshot in reversed(self.snapshots):
            if snapshot.t_ms <= t_ms:
                return snapshot
        return Snapshot(t_ms, ZERO, ZERO, {})

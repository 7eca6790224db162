"""The venue's state: accounts, fills, positions; moved by orders and, hour by hour and minute by
minute, by world time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from twins.faults import FaultPlan
from twins.hyperliquid import liquidation, triggers
from twins.hyperliquid.account import Account, Order
from twins.hyperliquid.book import Books, Level
from twins.hyperliquid.funding import hourly_rate, next_hour_ms, payment_usd, settled_at_ms
from twins.hyperliquid.margin import Marks
from twins.hyperliquid.market import Market
from twins.hyperliquid.meta import UNIVERSE
from twins.hyperliquid.numbers import ZERO, num, usd
from twins.world import HOUR_MS, World

TAKER_FEE = Decimal("0.00045")
MAKER_FEE = Decimal("0.00015")
SAMPLE_MS = 60_000
MAX_SAMPLES = 20_000
"""Price samples of one catch-up; a longer jump is sampled more coarsely than once a minute."""


class Engine:
    """All state is in memory. Call `catch_up` before reading or writing: it applies what time alone
    brought about.
    """

    def __init__(self, world: World, faults: FaultPlan) -> None:
        self.world = world
        self.faults = faults
        self.market = Market(world)
        self.books = Books(self.market)
        self.accounts: dict[str, Account] = {}
        self.masters: dict[str, str] = {}
        """agent address -> master address."""
        self.retired_agents: set[str] = set()
        self.trades: list[dict[str, Any]] = []
        self.settled: dict[str, list[tuple[int, Decimal, Decimal]]] = {one.name: [] for one in UNIVERSE}
        """coin -> (stamp, rate, premium) of every hour since the start."""
        self.post_only = False
        self.start_ms = world.now_ms()
        self.now_ms = self.start_ms
        self.first_hour_ms = next_hour_ms(self.start_ms)
        """End of the first hour that is settled here; the world's own record serves the hours before."""
        self._next_hour_ms = self.first_hour_ms
        self._counter = 0
        self._oid = 77_738_307

    # --- identity of things

    def next_oid(self) -> int:
        self._oid += 1
        return self._oid

    def hash(self, *parts: object) -> str:
        """Return a transaction hash: unique, and the same in every run of the same story."""
        self._counter += 1
        text = ":".join(str(part) for part in (self._counter, *parts))
        return "0x" + hashlib.sha256(text.encode()).hexdigest()

    def account(self, address: str) -> Account:
        """Return the account, created at its first deposit."""
        return self.accounts.setdefault(address, Account(address))

    def read(self, address: str) -> Account:
        """Return the account as a reader sees it: an unknown address (or an agent) is empty, and stays unknown."""
        return self.accounts.get(address) or Account(address)

    # --- time

    def catch_up(self) -> int:
        """Bring the venue to the world's present: funding, resting orders, triggers,
        liquidations. Returns the time.
        """
        now = max(self.world.now_ms(), self.now_ms)
        if now == self.now_ms:
            return now
        step = max(SAMPLE_MS, -(-(now - self.now_ms) // MAX_SAMPLES))
        sample = self.now_ms - self.now_ms % step + step
        while True:
            hour = settled_at_ms(self._next_hour_ms)
            due = min(hour, sample if self._exposed() else now, now)
            if due == hour and hour <= now:
                self._pass_to(hour)
                self._settle(self._next_hour_ms, hour)
                self._next_hour_ms += HOUR_MS
                continue
            self._pass_to(due)
            if due >= now:
                return now
            sample = due - due % step + step

    def _exposed(self) -> bool:
        """Whether anything depends on the path of the price, not only on its end."""
        return any(one.positions or one.open_orders for one in self.accounts.values())

    def _pass_to(self, t_ms: int) -> None:
        self.now_ms = max(self.now_ms, t_ms)
        busy = [one for one in self.accounts.values() if one.positions or one.open_orders]
        if not busy:
            return
        marks = self.market.marks(self.now_ms)
        for account in busy:
            triggers.run(self, account, marks)
            liquidation.check(self, account, marks)

    def _settle(self, hour_ms: int, stamp_ms: int) -> None:
        """Pay the hour that ended at `hour_ms` to whoever holds a position now."""
        for asset in UNIVERSE:
            if asset.delisted:
                continue
            premium = self.market.settled_premium(asset.name, hour_ms)
            rate = hourly_rate(premium)
            self.settled[asset.name].append((stamp_ms, rate, premium))
            oracle = self.market.oracle(asset.name, hour_ms)
            for account in self.accounts.values():
                position = account.positions.get(asset.name)
                if position is None:
                    continue
                amount = payment_usd(position.szi, oracle, rate)
                delta = {
                    "type": "funding",
                    "coin": asset.name,
                    "usdc": num(amount),
                    "szi": num(position.szi),
                    "fundingRate": num(rate),
                    "nSamples": None,
                }
                account.receive_funding(asset.name, amount)
                account.fundings.append({"time": stamp_ms, "hash": "0x" + "0" * 64, "delta": delta})
                account.record(stamp_ms)

    # --- fills

    def fill(
        self,
        account: Account,
        coin: str,
        is_buy: bool,
        parts: Iterable[Level],
        *,
        oid: int,
        crossed: bool,
        cloid: str | None = None,
        fee_rate: Decimal | None = None,
        direction: str | None = None,
        liquidation: dict[str, str] | None = None,
        hidden_until_ms: int = 0,
    ) -> list[dict[str, Any]]:
        """Book the parts of one match, one row per price level, and return the rows."""
        rate = fee_rate if fee_rate is not None else TAKER_FEE if crossed else MAKER_FEE
        digest = self.hash(account.address, oid)
        mark = self.market.mark(coin, self.now_ms)
        rows = []
        for part in parts:
            signed = part.sz if is_buy else -part.sz
            fee = usd(part.sz * part.px * rate)
            effect = account.apply_fill(coin, signed, part.px, fee, mark)
            tid = int.from_bytes(hashlib.sha256(self.hash("tid").encode()).digest()[:7], "big") >> 6
            row: dict[str, Any] = {
                "coin": coin,
                "px": num(part.px),
                "sz": num(part.sz),
                "side": "B" if is_buy else "A",
                "time": self.now_ms,
                "startPosition": num(effect.start_position),
                "dir": direction or effect.direction,
                "closedPnl": num(effect.closed_pnl),
                "hash": digest,
                "oid": oid,
                "crossed": crossed,
                "fee": num(fee),
                "tid": tid,
                "feeToken": "USDC",
                "twapId": None,
            }
            if cloid is not None:
                row["cloid"] = cloid
            if liquidation is not None:
                row["liquidation"] = liquidation
            rows.append(row)
            self.market.day_volume[coin] += part.sz
            trade = {key: row[key] for key in ("coin", "side", "px", "sz", "time", "hash", "tid")}
            other = "0x" + "0" * 40
            trade["users"] = [account.address, other] if is_buy else [other, account.address]
            self.trades.append(trade)
        if rows:
            account.fills.extend(rows)
            if hidden_until_ms:
                account.hidden_fills[oid] = hidden_until_ms
            self.market.open_interest[coin] = sum(
                (one.positions[coin].szi for one in self.accounts.values() if one.szi(coin) > 0), ZERO
            ) + sum((-one.szi(coin) for one in self.accounts.values() if one.szi(coin) < 0), ZERO)
            account.record(self.now_ms)
            self.shrink_reduce_only(account, coin)
        return rows

    # --- orders

    def set_status(self, account: Account, order: Order, status: str) -> None:
        """Move an order; anything but `open` ends it."""
        order.status, order.status_ms = status, self.now_ms
        if status not in ("open", "triggered"):
            account.open_orders.pop(order.oid, None)
        update = {"order": order.basic(), "status": status, "statusTimestamp": self.now_ms}
        account.order_updates.append(update)

    def remember(self, account: Account, order: Order) -> None:
        account.order_records.append(order)

    def cancel_all(self, account: Account, status: str) -> None:
        for order in list(account.open_orders.values()):
            self.set_status(account, order, status)

    def shrink_reduce_only(self, account: Account, coin: str) -> None:
        """Make resting reduce-only orders smaller: each follows the position down and dies with it."""
        held = account.szi(coin)
        for order in [one for one in account.open_orders.values() if _follows(one, coin)]:
            if held == 0 or (held > 0) == order.is_buy:
                self.set_status(account, order, "reduceOnlyCanceled")
            elif order.sz > abs(held):
                order.sz = abs(held)

    def visible_fills(self, account: Account) -> list[dict[str, Any]]:
        if not account.hidden_fills:
            return account.fills
        hidden = account.hidden_fills
        return [row for row in account.fills if hidden.get(row["oid"], 0) <= self.now_ms]

    def marks(self) -> Marks:
        return self.market.marks(self.now_ms)

    # --- books of the account

    def book_ledger(self, account: Account, delta: dict[str, Any]) -> None:
        """Append a row of `userNonFundingLedgerUpdates`; the money itself has been moved by the caller."""
        row = {"time": self.now_ms, "hash": self.hash(account.address, delta["type"]), "delta": delta}
        account.ledger.append(row)
        account.record(self.now_ms)

    def deposit(self, address: str, amount: Decimal) -> Account:
        account = self.account(address)
        account.raw_usd += amount
        self.book_ledger(account, {"type": "deposit", "usdc": num(amount)})
        return account


def _follows(order: Order, coin: str) -> bool:
    return order.coin == coin and order.reduce_only and not order.sleeps

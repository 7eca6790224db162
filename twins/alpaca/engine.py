"""The twin's books: orders become fills at bid or ask, in sessions, when the world's time has come.

Faults of the plan that change an order are asked for once, when it is placed, under the name `order:SYMBOL`:

| fault | args | what happens |
| --- | --- | --- |
| `partial` | `fraction`, `then` = cancel, rest, expire or stay, `after_s` | a part is filled first |
| `slow` | `seconds` | it is filled so much later |
| `reject`, `cancel_unfilled` | – | accepted, then rejected or cancelled with nothing filled |
| `overfill` | `factor` | more is filled than was asked for |
| `odd_status` | `status` | this word is shown for as long as it lives |
| `suspend` | `seconds` | suspended, then filled |
| `replace` | `fraction` | a part is filled, then another order takes its place and is filled |
| `hidden` | `seconds` | no look-up finds it for so long |
| `refuse` | `status`, `code`, `message`, `recorded` | refused in these words; `recorded`: and placed all the same |
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_DOWN, Decimal
from typing import Any

from twins.alpaca.market import Days, Prices, local
from twins.alpaca.placing import Asset, Refused, Wanted, check
from twins.alpaca.records import Account, Order, Step, name_of, number, stamp
from twins.faults import FaultPlan

VENUE = "alpaca"
NANO = Decimal("1E-9")
ONE = Decimal(1)


class Engine:
    """Accounts and their orders. `fill_delay_ms`: world time between an order and its fill in an open market."""

    def __init__(self, now_ms: Callable[[], int], faults: FaultPlan) -> None:
        self._now_ms = now_ms
        self.faults = faults
        self.days = Days()
        self.prices = Prices(mids={"USDCUSD": ONE})
        self.assets: dict[str, Asset] = {"USDCUSD": Asset("USDCUSD")}
        self.accounts: dict[str, Account] = {}
        self.fill_delay_ms = 0
        self.events: list[dict[str, Any]] = []
        """Every trade update of every account, in order."""
        self.later: list[tuple[int, Callable[[int], None]]] = []
        """What else will happen, and when."""
        self._open: list[Order] = []
        self._by_id: dict[str, Order] = {}
        self._numbers = 0

    @property
    def now_ms(self) -> int:
        return self._now_ms()

    def new_name(self, what: str) -> str:
        self._numbers += 1
        return name_of(f"{what}:{self._numbers}")

    def open_account(self, cash: Decimal, account_id: str | None = None) -> Account:
        """Return a new account with so many dollars."""
        found = account_id or self.new_name("account")
        account = Account(found, f"{684_486_106 + len(self.accounts)}", cash)
        self.accounts[found] = account
        account.flows.append({"kind": "opening", "usd": number(cash), "at_ms": self.now_ms})
        return account

    def list_asset(
        self, symbol: str, price: Decimal, *, fractionable: bool = True, tradable: bool = True
    ) -> None:
        self.assets[symbol] = Asset(symbol, tradable, fractionable)
        self.prices.mids[symbol] = price

    # --- orders --------------------------------------------------------------------------------------------------

    def place(self, account: Account, order: Wanted) -> Order:
        """Take an order. Raises Refused."""
        now_ms = self.catch_up()
        call = f"order:{order.symbol}"
        if order.client_order_id in account.by_client_id:
            raise Refused(422, 40010001, "client_order_id must be unique")
        said = self.faults.take(VENUE, "refuse", call)
        if said is not None and not said.args.get("recorded"):
            raise self._said(said.args)
        quote = self.prices.quote(order.symbol, now_ms) or (Decimal(0), Decimal(0))
        check(account, order, self.assets.get(order.symbol), *quote)
        placed = self._record(account, order, now_ms)
        self._plan(placed, call)
        if said is not None:
            raise self._said(said.args)
        return placed

    @staticmethod
    def _said(args: dict[str, Any]) -> Refused:
        code, message = int(args.get("code", 42210000)), str(args.get("message", "refused"))
        return Refused(int(args.get("status", 422)), code, message)

    def _record(self, account: Account, order: Wanted, now_ms: int, replaces: str | None = None) -> Order:
        found = Order(
            id=self.new_name("order"),
            account=account.id,
            client_order_id=order.client_order_id or self.new_name("client"),
            symbol=order.symbol,
            side=order.side,
            kind=order.kind,
            time_in_force=order.time_in_force,
            qty=order.qty,
            notional=order.notional,
            limit_price=order.limit_price,
            extended_hours=order.extended_hours,
            created_ms=now_ms,
            replaces=replaces,
        )
        account.add(found)
        self._by_id[found.id] = found
        self._open.append(found)
        return found

    def _plan(self, order: Order, call: str) -> None:
        """Decide what will happen to an order."""
        now_ms = order.created_ms
        running = None if order.is_crypto else self.days.running(now_ms)
        begins = now_ms if order.is_crypto or running else self.days.coming(now_ms).open_ms
        ends = None if order.is_crypto else (running or self.days.coming(now_ms)).close_ms
        order.status = "pending_new" if running or order.is_crypto else "accepted"
        at = begins + self.fill_delay_ms

        def fault(kind: str) -> dict[str, Any] | None:
            found = self.faults.take(VENUE, kind, call)
            return None if found is None else found.args

        if (slow := fault("slow")) is not None:
            at += int(1000 * float(slow.get("seconds", 60)))
        if (hidden := fault("hidden")) is not None:
            order.hidden_until_ms = now_ms + int(1000 * float(hidden.get("seconds", 5)))
        if (odd := fault("odd_status")) is not None:
            order.shown = str(odd.get("status", "odd"))
        if fault("reject") is not None:
            order.plan = [Step(at, "reject")]
        elif fault("cancel_unfilled") is not None:
            order.plan = [Step(at, "cancel")]
        elif (part := fault("partial")) is not None:
            share = Decimal(str(part.get("fraction", "0.4")))
            then, after = part.get("then", "cancel"), int(1000 * float(part.get("after_s", 5)))
            rest = {"cancel": [Step(at + after, "cancel")], "rest": [Step(at + after, "fill", ONE - share)]}
            order.plan = [Step(at, "fill", share), *rest.get(str(then), [])]
        elif (more := fault("overfill")) is not None:
            order.plan = [Step(at, "fill", Decimal(str(more.get("factor", "1.1"))))]
        elif (pause := fault("suspend")) is not None:
            until = at + int(1000 * float(pause.get("seconds", 60)))
            order.plan = [Step(at, "suspend"), Step(until, "fill", ONE)]
        elif (other := fault("replace")) is not None:
            share = Decimal(str(other.get("fraction", "0")))
            order.plan = [*([Step(at, "fill", share)] if share else []), Step(at, "replace")]
        else:
            order.plan = [Step(at, "fill", ONE)]
        if ends is not None and order.time_in_force == "day":
            order.plan.append(Step(max(ends, at + 1), "expire"))
        self.emit(order, "pending_new" if order.status == "pending_new" else "accepted", now_ms)

    def catch_up(self) -> int:
        """Let happen what the world's time has brought; return the time in ms."""
        now_ms = self.now_ms
        due = [
            (step.at_ms, order, step) for order in self._open for step in order.plan if step.at_ms <= now_ms
        ]
        for at_ms, order, step in sorted(due, key=lambda one: one[0]):
            order.plan.remove(step)
            if order.is_open:
                self._happen(order, step, at_ms)
        self._open = [one for one in self._open if one.is_open]
        ready = [one for one in self.later if one[0] <= now_ms]
        self.later = [one for one in self.later if one[0] > now_ms]
        for at_ms, act in sorted(ready, key=lambda one: one[0]):
            act(at_ms)
        return now_ms

    def _happen(self, order: Order, step: Step, at_ms: int) -> None:
        order.updated_ms = at_ms
        if step.kind == "fill":
            self._fill(order, step.share, at_ms)
        elif step.kind == "cancel":
            self.end(order, "canceled", at_ms)
        elif step.kind == "expire":
            self.end(order, "expired", at_ms)
        elif step.kind == "reject":
            self.end(order, "rejected", at_ms)
        elif step.kind == "suspend":
            order.status = "suspended"
        elif step.kind == "replace":
            self._replace(order, at_ms)

    def _fill(self, order: Order, share: Decimal, at_ms: int) -> None:
        quote = self.prices.quote(order.symbol, at_ms)
        if quote is None:
            order.plan.insert(0, Step(at_ms + 1000, "fill", share))
            return
        price = quote[1] if order.side == "buy" else quote[0]
        whole = order.qty
        if whole is None:
            whole = ((order.notional or Decimal(0)) / price).quantize(NANO, ROUND_DOWN)
        qty = (whole * share).quantize(NANO, ROUND_DOWN)
        account = self.accounts[order.account]
        signed = qty if order.side == "buy" else -qty
        order.filled_qty += qty
        order.cost += qty * price
        account.cash -= signed * price
        account.move(order.symbol, signed, price)
        is_whole = order.filled_qty >= whole
        order.status = "filled" if is_whole else "partially_filled"
        order.filled_ms = at_ms
        execution = self.new_name("execution")
        account.fills.append(
            {
                "order_id": order.id,
                "client_order_id": order.client_order_id,
                "symbol": order.symbol,
                "side": order.side,
                "qty": number(qty),
                "price": number(price),
                "at_ms": at_ms,
                "execution_id": execution,
            }
        )
        event = "fill" if is_whole else "partial_fill"
        position = number(account.held(order.symbol))
        more = {"price": number(price), "qty": number(qty), "position_qty": position}
        self.emit(order, event, at_ms, execution, more)

    def _replace(self, order: Order, at_ms: int) -> None:
        """Another order takes the place of this one, for what is left of it."""
        left = (order.qty or Decimal(0)) - order.filled_qty
        wanted = Wanted(
            order.symbol, order.side, order.kind, order.time_in_force, left, None, None, False, None
        )
        newer = self._record(self.accounts[order.account], wanted, at_ms, replaces=order.id)
        newer.plan = [Step(at_ms, "fill", ONE)]
        order.status, order.replaced_by, order.replaced_ms = "replaced", newer.id, at_ms
        self.emit(order, "replaced", at_ms)

    def end(self, order: Order, status: str, at_ms: int) -> None:
        """End an order with what it has filled."""
        order.status = status
        order.updated_ms = at_ms
        setattr(order, {"canceled": "canceled_ms", "expired": "expired_ms"}.get(status, "failed_ms"), at_ms)
        self.emit(order, status, at_ms)

    def order(self, account: Account, order_id: str) -> Order | None:
        found = self._by_id.get(order_id)
        is_there = found is not None and found.account == account.id
        return found if found is not None and is_there and found.hidden_until_ms <= self.now_ms else None

    def by_client_id(self, account: Account, client_order_id: str) -> Order | None:
        found = account.by_client_id.get(client_order_id)
        return found if found is not None and found.hidden_until_ms <= self.now_ms else None

    def emit(
        self,
        order: Order,
        event: str,
        at_ms: int,
        execution: str | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        """Note a trade update for who listens."""
        self.events.append(
            {
                "account_id": order.account,
                "at": stamp(at_ms),
                "event": event,
                "event_id": len(self.events) + 1,
                "execution_id": execution or self.new_name("execution"),
                "order": order.row(),
                "timestamp": stamp(at_ms),
                **(more or {}),
            }
        )

    # --- views ---------------------------------------------------------------------------------------------------

    def worth(self, account: Account) -> tuple[Decimal, Decimal]:
        """Dollars of what is held long, and of what is short (below zero)."""
        now_ms = self.now_ms
        values = [
            held.qty * (self.prices.mid(symbol, now_ms) or Decimal(0))
            for symbol, held in account.positions.items()
        ]
        return sum((one for one in values if one > 0), Decimal(0)), sum(
            (one for one in values if one < 0), Decimal(0)
        )

    def account_row(self, account: Account, *, is_broker: bool) -> dict[str, Any]:
        long, short = self.worth(account)
        close = local(self.now_ms - 86_400_000).replace(hour=16, minute=0, second=0, microsecond=0)
        return account.row(long, short, is_broker=is_broker, last_close=close.isoformat())

    def position_row(self, account: Account, symbol: str) -> dict[str, Any]:
        held = account.positions[symbol]
        price = self.prices.mid(symbol, self.now_ms) or Decimal(0)
        worth = held.qty * price
        gain = worth - held.cost
        figures = {
            "avg_entry_price": number((held.cost / held.qty).quantize(Decimal("1E-6"))),
            "market_value": number(worth.quantize(Decimal("1E-6"))),
            "cost_basis": number(held.cost.quantize(Decimal("1E-6"))),
            "unrealized_pl": number(gain.quantize(Decimal("1E-6"))),
            "unrealized_plpc": number((gain / abs(held.cost)).quantize(NANO)) if held.cost else "0",
            "unrealized_intraday_pl": "0",
            "unrealized_intraday_plpc": "0",
            "current_price": number(price),
            "lastday_price": number(price),
            "change_today": "0",
        }
        available = held.qty - account.reserved(symbol) if held.qty > 0 else held.qty
        return {
            "asset_id": name_of(f"asset:{symbol}"),
            "symbol": symbol,
            "exchange": "CRYPTO" if symbol == "USDCUSD" else "NASDAQ",
            "asset_class": "crypto" if symbol == "USDCUSD" else "us_equity",
            "asset_marginable": symbol != "USDCUSD",
            "qty": number(held.qty),
            "qty_available": number(available),
            "side": "long" if held.qty > 0 else "short",
            **figures,
        }

"""What an operator of the twin may do from outside: accounts, prices, days, streams, and read the whole ledger."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

from twins.alpaca.engine import Engine
from twins.alpaca.moves import Moves
from twins.alpaca.placing import Asset
from twins.alpaca.records import Account, name_of, number
from twins.alpaca.streams import Streams

Body = dict[str, Any]


class Control:
    """Operations by name. Raises ValueError with a readable line where the body does not make sense."""

    def __init__(self, engine: Engine, moves: Moves, streams: Streams) -> None:
        self.engine, self.moves, self.streams = engine, moves, streams
        self._ops: dict[str, Callable[[Body], Body]] = {
            "account": self._account,
            "asset": self._asset,
            "price": self._price,
            "day": self._day,
            "settings": self._settings,
            "give": self._give,
            "deposit": self._deposit,
            "redeem": self._redeem,
            "cancel": self._cancel,
            "disconnect": self._disconnect,
            "ledger": self._ledger,
        }

    def run(self, op: str, body: Body) -> Body:
        found = self._ops.get(op)
        if found is None:
            raise ValueError(f"unknown operation {op!r}; known: {', '.join(sorted(self._ops))}")
        self.engine.catch_up()
        return found(body)

    def _of(self, body: Body) -> Account:
        name = body.get("account") or next(iter(self.engine.accounts), "")
        if name not in self.engine.accounts:
            raise ValueError(f"no account {name!r}")
        return self.engine.accounts[name]

    def _account(self, body: Body) -> Body:
        """A new account (cash), or changes of one: multiplier, can_short, fractional."""
        if "account" in body and body["account"] in self.engine.accounts:
            account = self._of(body)
        else:
            account = self.engine.open_account(Decimal(str(body.get("cash", "0"))), body.get("account"))
        for name in ("multiplier", "can_short", "fractional"):
            if name in body:
                setattr(account, name, body[name])
        return {"account": account.id, "cash": number(account.cash)}

    def _asset(self, body: Body) -> Body:
        symbol = str(body["symbol"])
        known = self.engine.assets.get(symbol, Asset(symbol))
        tradable, parts = (
            bool(body.get("tradable", known.tradable)),
            bool(body.get("fractionable", known.fractionable)),
        )
        self.engine.assets[symbol] = Asset(symbol, tradable, parts)
        if "price" in body:
            self.engine.prices.mids[symbol] = Decimal(str(body["price"]))
        return self.asset_row(self.engine.assets[symbol])

    @staticmethod
    def asset_row(asset: Asset) -> Body:
        """An asset as Alpaca describes it."""
        is_crypto = asset.symbol == "USDCUSD"
        return {
            "id": name_of(f"asset:{asset.symbol}"),
            "class": "crypto" if is_crypto else "us_equity",
            "exchange": "CRYPTO" if is_crypto else "NASDAQ",
            "symbol": asset.symbol,
            "name": f"{asset.symbol} Common Stock",
            "status": "active",
            "tradable": asset.tradable,
            "marginable": True,
            "shortable": True,
            "easy_to_borrow": True,
            "fractionable": asset.fractionable,
            "attributes": [],
        }

    def _price(self, body: Body) -> Body:
        """`symbol` and `usd`, or `prices` of several; `spread_bps`."""
        given = dict(body.get("prices") or {}) | ({body["symbol"]: body["usd"]} if "symbol" in body else {})
        for symbol, usd in given.items():
            price = Decimal(str(usd))
            if not price.is_finite() or price <= 0:
                raise ValueError(f"the price of {symbol} must be above 0, got {usd}")
            self.engine.prices.mids[symbol] = price
            self.engine.assets.setdefault(symbol, Asset(symbol))
        if "spread_bps" in body:
            self.engine.prices.spread_bps = Decimal(str(body["spread_bps"]))
        return {"prices": {symbol: number(usd) for symbol, usd in self.engine.prices.mids.items()}}

    def _day(self, body: Body) -> Body:
        """`closed` or `early` dates, `traded` ones (neither any more); `always`: open around the clock."""
        days = self.engine.days
        for day in (date.fromisoformat(one) for one in body.get("traded", [])):
            days.holidays.discard(day)
            days.early.discard(day)
        days.holidays |= {date.fromisoformat(one) for one in body.get("closed", [])}
        days.early |= {date.fromisoformat(one) for one in body.get("early", [])}
        days.always = bool(body.get("always", days.always))
        return {"always": days.always, "is_open": days.running(self.engine.now_ms) is not None}

    def _settings(self, body: Body) -> Body:
        """`fill_delay_s` of orders, `move_delay_s` of transfers, `binary` frames."""
        if "fill_delay_s" in body:
            self.engine.fill_delay_ms = int(1000 * float(body["fill_delay_s"]))
        if "move_delay_s" in body:
            self.moves.delay_ms = int(1000 * float(body["move_delay_s"]))
        self.streams.is_binary = bool(body.get("binary", self.streams.is_binary))
        return {"fill_delay_ms": self.engine.fill_delay_ms, "move_delay_ms": self.moves.delay_ms}

    def _give(self, body: Body) -> Body:
        """Dollars (`usd`) or shares (`symbol`, `qty`) that no order brought."""
        account = self._of(body)
        if "usd" in body:
            account.cash += Decimal(str(body["usd"]))
            account.flows.append({"kind": "given", "usd": str(body["usd"]), "at_ms": self.engine.now_ms})
        if "symbol" in body:
            symbol, qty = str(body["symbol"]), Decimal(str(body["qty"]))
            account.move(symbol, qty, self.engine.prices.mid(symbol, self.engine.now_ms) or Decimal(0))
            account.flows.append(
                {"kind": "given", "symbol": symbol, "qty": number(qty), "at_ms": self.engine.now_ms}
            )
        return {"cash": number(account.cash)}

    def _deposit(self, body: Body) -> Body:
        return self.moves.arrived(self._of(body), Decimal(str(body["amount"])))

    def _redeem(self, body: Body) -> Body:
        qty = Decimal(str(body["qty"]))
        return self.moves.redeem(self._of(body), str(body["symbol"]), qty, str(body.get("tx_hash", "")))

    def _cancel(self, body: Body) -> Body:
        """End an open order, as a person in the broker's pages would."""
        account = self._of(body)
        found = self.engine.order(account, str(body["order"]))
        if found is None or not found.is_open:
            raise ValueError(f"no open order {body['order']}")
        self.engine.end(found, "canceled", self.engine.now_ms)
        return found.row()

    def _disconnect(self, body: Body) -> Body:
        self.streams.disconnect()
        return {"listening": self.streams.listening}

    def _ledger(self, body: Body) -> Body:
        """Everything per account: cash, positions, orders, fills, flows."""
        return {
            "time_ms": self.engine.now_ms,
            "accounts": {one.id: self._dump(one) for one in self.engine.accounts.values()},
            "journals": list(self.moves.journals),
            "prices": {symbol: number(usd) for symbol, usd in self.engine.prices.mids.items()},
        }

    def _dump(self, account: Account) -> Body:
        return {
            "cash": number(account.cash),
            "positions": {symbol: number(held.qty) for symbol, held in account.positions.items()},
            "orders": [one.row() for one in account.orders],
            "fills": list(account.fills),
            "flows": list(account.flows),
            "transfers": list(self.moves.transfers.get(account.id, [])),
            "requests": list(self.moves.requests.get(account.id, [])),
        }

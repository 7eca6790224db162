"""What an operator of the twin may do from outside: fund, liquidate, halt, and read the whole ledger."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from twins.hyperliquid import liquidation
from twins.hyperliquid.account import Account
from twins.hyperliquid.auth import register_agent
from twins.hyperliquid.engine import Engine
from twins.hyperliquid.history import net_flow
from twins.hyperliquid.margin import cross_summary, whole_summary
from twins.hyperliquid.modes import MODES, set_mode
from twins.hyperliquid.numbers import ZERO, lower_address, num

Body = dict[str, Any]


class Halt:
    """`mode` is "" (running), "502", or "timeout" (no answer until it runs again)."""

    mode = ""


class Control:
    """Operations by name. Raises ValueError with a readable line where the body does not make sense."""

    def __init__(self, engine: Engine, halt: Halt) -> None:
        self.engine = engine
        self.halt = halt
        self._ops: dict[str, Callable[[Body], dict[str, Any]]] = {
            "fund": self._fund,
            "approve_agent": self._approve_agent,
            "set_abstraction": self._set_abstraction,
            "liquidate": self._liquidate,
            "adl": self._adl,
            "halt": self._halt,
            "resume": self._resume,
            "post_only": self._post_only,
            "ledger": self._ledger,
        }

    def run(self, op: str, body: Body) -> dict[str, Any]:
        found = self._ops.get(op)
        if found is None:
            raise ValueError(f"unknown operation {op!r}; known: {', '.join(sorted(self._ops))}")
        self.engine.catch_up()
        return found(body)

    @staticmethod
    def _address(body: Body, key: str = "address") -> str:
        address = lower_address(body.get(key))
        if address is None:
            raise ValueError(f"{key} must be a 0x address of 20 bytes, got {body.get(key)!r}")
        return address

    def _account(self, body: Body, key: str = "address") -> Account:
        address = self._address(body, key)
        if address not in self.engine.accounts:
            raise ValueError(f"no account {address}; fund it first")
        return self.engine.accounts[address]

    def _position(self, body: Body) -> tuple[Account, str]:
        account, coin = self._account(body), str(body.get("coin", "SOL"))
        if coin not in account.positions:
            raise ValueError(f"account {account.address} holds no {coin}")
        return account, coin

    def _fund(self, body: Body) -> dict[str, Any]:
        amount = Decimal(str(body.get("usdc", "0")))
        if amount <= 0:
            raise ValueError(f"usdc must be above 0, got {amount}")
        account = self.engine.deposit(self._address(body), amount)
        return {"address": account.address, "raw_usd": num(account.raw_usd)}

    def _approve_agent(self, body: Body) -> dict[str, Any]:
        master, agent = self._account(body, "master"), self._address(body, "agent")
        register_agent(self.engine, master.address, agent, body.get("name"), body.get("valid_until_ms"))
        return {"master": master.address, "agent": agent}

    def _set_abstraction(self, body: Body) -> dict[str, Any]:
        account, mode = self._account(body), body.get("mode")
        if mode not in (*MODES, "default"):
            raise ValueError(f"mode must be one of default, {', '.join(MODES)}, got {mode!r}")
        set_mode(self.engine, account, str(mode))
        return {"address": account.address, "mode": mode}

    def _liquidate(self, body: Body) -> dict[str, Any]:
        account, coin = self._position(body)
        return {"fills": liquidation.force(self.engine, account, coin)}

    def _adl(self, body: Body) -> dict[str, Any]:
        account, coin = self._position(body)
        fraction = Decimal(str(body.get("fraction", "1")))
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must be in (0, 1], got {fraction}")
        return {"fills": liquidation.deleverage(self.engine, account, coin, fraction)}

    def _halt(self, body: Body) -> dict[str, Any]:
        mode = str(body.get("mode", "502"))
        if mode not in ("502", "timeout"):
            raise ValueError(f"mode must be 502 or timeout, got {mode!r}")
        self.halt.mode = mode
        return {"halted": mode}

    def _resume(self, body: Body) -> dict[str, Any]:
        self.halt.mode = ""
        return {"halted": ""}

    def _post_only(self, body: Body) -> dict[str, Any]:
        self.engine.post_only = bool(body.get("on", True))
        return {"post_only": self.engine.post_only}

    def _ledger(self, body: Body) -> dict[str, Any]:
        """Everything per address. `cash_usd` must equal the sum of its parts (`cash_parts_usd`)
        to the last digit.
        """
        return {
            "time_ms": self.engine.now_ms,
            "accounts": {address: self._dump(account) for address, account in self.engine.accounts.items()},
        }

    def _dump(self, account: Account) -> dict[str, Any]:
        marks = self.engine.marks()
        cross = cross_summary(account.raw_usd, account.positions, marks)
        whole = whole_summary(cross, account.positions, marks)
        flows = sum((net_flow(row["delta"], account.address, False) for row in account.ledger), ZERO)
        fees = sum((Decimal(row["fee"]) for row in account.fills), ZERO)
        funding = sum((Decimal(row["delta"]["usdc"]) for row in account.fundings), ZERO)
        gains = sum((Decimal(row["closedPnl"]) for row in account.fills), ZERO)
        bought = ZERO
        for row in account.fills:
            notional = Decimal(row["px"]) * Decimal(row["sz"])
            bought += notional if row["side"] == "B" else -notional
        return {
            "positions": [
                {
                    "coin": held.coin,
                    "szi": num(held.szi),
                    "entry_ntl": num(held.entry_ntl),
                    "leverage": held.leverage.value,
                    "isolated_raw_usd": num(held.raw_usd) if held.raw_usd is not None else None,
                }
                for held in account.positions.values()
            ],
            "orders": [
                {"order": order.frontend(), "status": order.status, "statusTimestamp": order.status_ms}
                for order in account.order_records
            ],
            "open_orders": [order.frontend() for order in account.open_orders.values()],
            "fills": list(account.fills),
            "fundings": list(account.fundings),
            "ledger": list(account.ledger),
            "agents": {one.address: one.valid_until_ms for one in account.agents.values()},
            "spot_usdc": num(account.spot_usdc),
            "account_value_usd": num(whole.account_value),
            "equity_usd": num(whole.account_value + account.spot_usdc),
            "cash_usd": num(whole.raw_usd),
            "cash_parts_usd": {
                "flows": num(flows + account.mode_moves_usd),
                "net_bought": num(-bought),
                "fees": num(-fees),
                "funding": num(funding),
            },
            "closed_pnl_usd": num(gains),
        }

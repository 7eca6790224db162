"""What the reading endpoints show: positions from the database, and the live view from the chain."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from typing import Any

from twins.asgard.book import Holding, LendingBook
from twins.asgard.emulation import Emulation
from twins.asgard.records import Database, Execution, PositionRow
from twins.asgard.venue import PROTOCOLS, USDC, Market
from twins.asgard.wire import RefreshBody, refuse
from twins.world import World


class Views:
    """Reads only. The database may lack a position that the chain has."""

    def __init__(self, world: World, book: LendingBook, emulation: Emulation, database: Database) -> None:
        self._world = world
        self._book = book
        self._emulation = emulation
        self._database = database

    def rows(self, wallet: str, which: str, delay_ms: int) -> list[dict[str, Any]]:
        """Return records of a wallet; `which` is "all" (with liquidation events), "open" or "closed"."""
        rows = [row for row in self._database.positions if row.owner == wallet]
        if which != "all":
            rows = [row for row in rows if (row.closed is not None) == (which == "closed")]
        records = [row.record(self._world.now_ms(), delay_ms) for row in rows]
        if which == "all":
            for record in records:
                record["liquidationEvents"] = self._events(record["positionPda"])
        return records

    def by_pda(self, pda: str, delay_ms: int) -> dict[str, Any]:
        row = self._database.by_pda(pda)
        if row is None:
            raise refuse("PositionNotFound", f"no record of position {pda}")
        return row.record(self._world.now_ms(), delay_ms)

    def all_events(self) -> list[dict[str, Any]]:
        return [event.public() for event in self._book.events]

    def _events(self, pda: str) -> list[dict[str, Any]]:
        return [event.public() for event in self._book.events if event.pda == pda]

    def refreshed(self, body: RefreshBody) -> dict[str, Any]:
        """Return the live view, straight from the lending protocols; what is not there is left out."""
        positions: dict[str, Any] = {}
        for item in body.positionPDAs:
            if item.protocol not in PROTOCOLS:
                raise refuse("ProtocolNotSupported", f"lending protocol {item.protocol} is unknown")
            known = self._emulation.initialised.get(item.positionPDA)
            if known is not None and known[1].protocol.id == item.protocol:
                positions[item.positionPDA] = self._live(item.positionPDA, *known)
        return {"positions": positions}

    def _live(self, pda: str, owner: str, market: Market) -> dict[str, Any]:
        now_ms = self._world.now_ms()
        holding = self._book.holdings.get(pda)
        balances: list[dict[str, Any]] = []
        health = Decimal(100)
        if holding is not None and holding.live:
            now = self._book.amounts(holding, now_ms)
            price = self._book.oracle_price(market, now_ms)
            health = self._book.health(market, now.tokens, now.debt_usd, now_ms)
            balances.append(_balance(market, "assets", now.tokens, now.tokens * price))
            if now.debt_usd > 0:
                balances.append(_balance(market, "liabs", now.debt_usd, now.debt_usd))
        return {
            "accountAddress": pda,
            "authority": owner,
            "summary": {"healthFactor": float(round(health, 4)), "booksAndBalances": {"balances": balances}},
            "liquidationEvents": self._events(pda),
        }

    def ledger(self, delay_ms: int) -> dict[str, Any]:
        """Return everything there is, for tests: chain truth, rows, events, and each landed transaction's accounting."""
        now_ms = self._world.now_ms()
        return {
            "now_ms": now_ms,
            "positions": [self._truth(holding, now_ms) for holding in self._book.holdings.values()],
            "rows": [row.record(now_ms, delay_ms) for row in self._database.positions],
            "updates": [self._update(row, delay_ms) for row in self._database.positions],
            "events": self.all_events(),
            "initialised": sorted(self._emulation.initialised),
        }

    def _update(self, row: PositionRow, delay_ms: int) -> dict[str, Any]:
        updates = [one for one in self._database.updates.values() if one.position_id == row.id]
        answers = [one.answer(row.market, self._world.now_ms(), delay_ms) for one in updates]
        return {"position_id": row.id, "updates": answers}

    def _truth(self, holding: Holding, now_ms: int) -> dict[str, Any]:
        exact = self._book.exact(holding, now_ms)
        now = self._book.amounts(holding, now_ms)
        row = self._database.by_pda(holding.pda)
        health = self._book.health(holding.market, now.tokens, now.debt_usd, now_ms)
        return {
            "pda": holding.pda,
            "owner": holding.owner,
            "protocol": holding.market.protocol.id,
            "symbol": holding.market.token_a.symbol,
            "live": holding.live,
            "tokens": str(now.tokens),
            "debt_usd": str(now.debt_usd),
            "tokens_exact": str(exact[0]),
            "debt_usd_exact": str(exact[1]),
            "token_interest": str(holding.token_interest + now.token_interest),
            "debt_interest_usd": str(holding.debt_interest_usd + now.debt_interest_usd),
            "health_pct": str(health),
            "row_id": row.id if row else None,
            "position_accounting": [_accounting(one) for one in holding.executions],
            "liquidations": [event.public() for event in holding.liquidations],
        }


def _accounting(execution: Execution) -> dict[str, Any]:
    return {
        key: str(value) if isinstance(value, Decimal) else value for key, value in asdict(execution).items()
    }


def _balance(market: Market, side: str, qty: Decimal, usd: Decimal) -> dict[str, Any]:
    token = market.token_a if side == "assets" else USDC
    entry = {"mint": str(token.mint), "assetsQt": 0.0, "liabsQt": 0.0, "assetsUsd": 0.0, "liabsUsd": 0.0}
    entry[f"{side}Qt"], entry[f"{side}Usd"] = float(qty), float(usd)
    return {str(market.protocol.bank(token)): entry}

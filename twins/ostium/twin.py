"""The venue beside its chain: a keeper that settles, the subgraph some seconds behind, and the price list.

Faults beside those of transport and of answers, with venue `ostium`: `lag` (the subgraph is `seconds` behind on one call),
and those of `twins/ostium/keeper.py`.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from twins.evm.twin import EvmTwin
from twins.faults import FaultPlan
from twins.ostium import rows
from twins.ostium.book import Book
from twins.ostium.deployment import Deployment
from twins.ostium.journal import Journal
from twins.ostium.keeper import VENUE, Keeper
from twins.ostium.markets import Markets
from twins.ostium.query import BadQuery, Field, page, parsed, selected
from twins.world import World

LISTS = {"pairs": "Pair", "trades": "Trade", "limits": "Limit", "orders": "Order", "metaDatas": "MetaData"}
SINGLE = {"pair": "pairs", "trade": "trades", "limit": "limits", "order": "orders"}
PRICES = "/PricePublish/latest-prices"


class OstiumTwin:
    """The venue on one chain. `behind_s`: the shortest and longest time by which the subgraph is behind."""

    def __init__(self, world: World, faults: FaultPlan, chain: EvmTwin, venue: Deployment) -> None:
        self._world = world
        self._faults = faults
        self._chain = chain
        self.venue = venue
        self.markets = Markets(world)
        self.behind_s = (12, 14)
        self._journal = Journal(chain, venue)
        self.keeper = Keeper(chain, venue, self.markets, faults, self._journal)
        self._indexed = Book(self._journal)
        chain.workers.append(self.keeper)
        self.app = Starlette(
            routes=[
                Route("/subgraph", self._subgraph, methods=["POST"]),
                Route(PRICES, self._prices, methods=["GET"]),
            ]
        )

    @property
    def book(self) -> Book:
        """What the chain says now."""
        return self.keeper.book

    def call_name(self, method: str, path: str, body: bytes) -> str:
        """Return `prices`, or `graph:` with the root fields of a query, each once, joined by "+"."""
        if path == PRICES:
            return "prices"
        try:
            asked = json.loads(body)
            fields = parsed(str(asked.get("query")), asked.get("variables"))
        except (ValueError, AttributeError, BadQuery):
            return f"{method} {path}"
        return "graph:" + "+".join(dict.fromkeys(one.name for one in fields))

    async def _prices(self, request: Request) -> JSONResponse:
        await self._chain.catch_up()
        return JSONResponse(self.markets.wire(self._world.now_ms()))

    async def _subgraph(self, request: Request) -> JSONResponse:
        await self._chain.catch_up()
        try:
            asked = json.loads(await request.body())
            fields = parsed(str(asked["query"]), asked.get("variables"))
            return JSONResponse({"data": self._answer(fields)})
        except (ValueError, KeyError, TypeError, BadQuery) as error:
            return JSONResponse({"errors": [{"message": str(error)}]})

    def _indexed_book(self, call: str) -> Book:
        if fault := self._faults.take(VENUE, "lag", call):
            behind = int(fault.args.get("seconds", 60))
            book = Book(self._journal)
            book.catch_up(self._world.now_ms() / 1000, (behind, behind))
            return book
        self._indexed.catch_up(self._world.now_ms() / 1000, self.behind_s)
        return self._indexed

    def _answer(self, fields: list[Field]) -> dict[str, Any]:
        book = self._indexed_book("graph:" + "+".join(one.name for one in fields))
        pairs = {
            index: rows.pair_row(pair, book, self.markets, book.block_s * 1000 or self._world.now_ms())
            for index, pair in self.markets.pairs.items()
        }
        found: dict[str, Any] = {}
        for one in fields:
            if one.name == "_meta":
                found[one.alias] = selected(
                    {"block": dict(zip(("number", "timestamp"), book.indexed, strict=True))},
                    one.fields,
                    "_Meta_",
                )
                continue
            listed = SINGLE.get(one.name, one.name)
            if listed not in LISTS:
                raise BadQuery(f"Type `Query` has no field `{one.name}`")
            every = self._rows(listed, book, pairs)
            if one.name in SINGLE:
                row = next((row for row in every if row["id"] == str(one.args.get("id"))), None)
                found[one.alias] = None if row is None else selected(row, one.fields, LISTS[listed])
            else:
                shown = page(every, one.args)
                found[one.alias] = [selected(row, one.fields, LISTS[listed]) for row in shown]
        return found

    def _rows(self, listed: str, book: Book, pairs: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
        if listed == "trades":
            return [rows.trade_row(one, pairs[one.pair]) for one in book.trades.values()]
        if listed == "limits":
            return [rows.limit_row(one, pairs[one.pair]) for one in book.limits.values()]
        if listed == "orders":
            return [rows.order_row(one, pairs[one.pair]) for one in book.orders.values()]
        if listed == "pairs":
            return list(pairs.values())
        return [{"id": "liq", "liqMarginThresholdP": "25"}]

    def control(self, op: str, body: dict[str, Any]) -> dict[str, Any]:
        """Do what only a test does to the venue. Raises ValueError for an unknown operation."""
        if op == "pin":
            self.markets.pin(int(body["pair"]), body.get("price_usd"))
        elif op == "hours":
            self.markets.force_open(int(body["pair"]), body.get("open"))
        elif op in ("pause", "done"):
            self.venue.send(str(body.get("contract", "trading")), op, mine=False)
        elif op == "drain":
            left = int(body.get("left_usdc", 0)) * 10**6
            held = self.venue.usdc_units(self.venue.at["vault"])
            self.venue.send("vault", "mmWithdraw", max(0, held - left), self.venue.owner, mine=False)
        elif op == "carry":
            self.venue.send(
                "infos", "updateRolloverFees", int(body["pair"]), int(body["per_block"]), mine=False
            )
        elif op == "subgraph":
            self.behind_s = (int(body["from_s"]), int(body["to_s"]))
        elif op != "ledger":
            raise ValueError("operations: pin, hours, pause, done, drain, carry, subgraph, ledger")
        return self.ledger()

    def ledger(self) -> dict[str, Any]:
        """Return the venue's own books: the truth of every test."""
        return {
            "open": {str(one.id): vars(one) for one in self.book.open.values()},
            "waiting": sorted(self.book.waiting),
            "refused": {str(what): said for what, said in self.keeper.refused.items()},
            "vault_usdc": self.venue.usdc_units(self.venue.at["vault"]) / 10**6,
        }

"""The Schwab twin as one ASGI app: login, accounts, orders, quotes and hours; and what an operator of it can do."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from twins.faults import FaultPlan
from twins.schwab.book import BadOrder, Book, Order
from twins.schwab.login import Login
from twins.schwab.market import PlainMarket, day_of, hours_body
from twins.world import World

Handler = Callable[[Request], Response]
ORDERS_PER_MINUTE = 120
LISTED_DAYS_MS = 60 * 24 * 3_600_000
CALLS = (
    (r"POST /trader/v1/accounts/\w+/orders", "order:place"),
    (r"GET /trader/v1/accounts/\w+/orders", "order:list"),
    (r"GET /trader/v1/accounts/\w+/orders/\d+", "order:read"),
    (r"DELETE /trader/v1/accounts/\w+/orders/\d+", "order:cancel"),
    (r"PUT /trader/v1/accounts/\w+/orders/\d+", "order:replace"),
    (r"GET /trader/v1/accounts/accountNumbers", "accountNumbers"),
    (r"GET /trader/v1/accounts/\w+", "account"),
    (r"GET /marketdata/v1/markets.*", "hours"),
    (r"GET /marketdata/v1/.*quotes", "quotes"),
    (r"GET /v1/oauth/authorize", "authorize"),
)


class SchwabTwin:
    """One login with one account, on the world's clock. `app` is served behind a `FaultMiddleware`.

    Faults of its own, beside those of transport: `no_location` and `wrong_location` of an answer that places an order,
    `reject`, `partial_cancel` (`fraction`), `hold` and `status` (`word`) of the order, `hide` of a list (`count` newest
    orders are not in it yet), `no_day` (the hours of `day` are refused), `invalid_grant` (`error`: another word) and `denied`
    (a page of whoever stands before it) of the token endpoint.
    """

    def __init__(
        self,
        world: World,
        faults: FaultPlan,
        market: PlainMarket | None = None,
        *,
        redirect_uri: str = "https://127.0.0.1",
    ) -> None:
        self.now_ms = world.now_ms
        self.faults = faults
        self.market = market or PlainMarket()
        self.book = Book(self.market, world.now_ms, faults)
        self.login = Login(world.now_ms, faults, redirect_uri=redirect_uri)
        self.orders_per_minute = ORDERS_PER_MINUTE
        self._writes: list[int] = []
        trader, data = "/trader/v1/accounts", "/marketdata/v1"
        orders = trader + "/{account}/orders"
        self.app = Starlette(
            routes=[
                Route("/v1/oauth/authorize", self.login.authorize),
                Route("/v1/oauth/token", self.login.token, methods=["POST"]),
                self._route(trader + "/accountNumbers", self._numbers),
                self._route(trader + "/{account}", self._account),
                Route(orders, self._place, methods=["POST"]),
                self._route(orders, self._list),
                self._route(orders + "/{order_id:int}", self._read),
                self._route(orders + "/{order_id:int}", self._cancel, "DELETE"),
                Route(orders + "/{order_id:int}", self._replace, methods=["PUT"]),
                self._route(data + "/markets", self._hours),
                self._route(data + "/markets/{market}", self._hours),
                self._route(data + "/quotes", self._quotes),
                self._route(data + "/{symbol}/quotes", self._quotes),
            ]
        )

    def catch_up(self) -> None:
        """Let happen what is due."""
        self.book.catch_up()

    @staticmethod
    def call_name(method: str, path: str, body: bytes) -> str:
        """Return the name of a call in plans and journals: "order:place", "token:refresh_token", …"""
        if path == "/v1/oauth/token":
            found = re.search(rb"grant_type=(\w+)", body)
            return f"token:{found.group(1).decode() if found else '?'}"
        call = f"{method} {path}"
        return next((name for pattern, name in CALLS if re.fullmatch(pattern, call)), call)

    # --- what an operator does --------------------------------------------------------------------------------

    def control(self, op: str, body: dict[str, Any]) -> dict[str, Any]:
        """Run an operator's call: `ledger`, `login` (state) as a person allows access, `price` (symbol, usd), `fund` (usd),
        `shares` (symbol, shares), `close` and `early` (day), `walk` (ms), `foreign` (symbol, instruction, quantity), `fill`
        (order, quantity), `cancel` (order), `replace` (order, quantity, named), `log_out`, `rehash` (number).

        Raises ValueError for an unknown operation, KeyError or ValueError for a body that makes no sense.
        """
        doing = getattr(self, f"_control_{op}", None)
        if doing is None:
            raise ValueError(f"Schwab has no operation {op!r}")
        answer: dict[str, Any] = doing(body)
        return answer

    def _control_ledger(self, body: dict[str, Any]) -> dict[str, Any]:
        self.book.catch_up()
        return {
            "cash": str(self.book.cash),
            "shares": {symbol: str(held) for symbol, held in self.book.shares.items()},
            "orders": [one.body(self.book.number) for one in self.book.orders.values()],
            "dead_tokens_used": self.login.refused,
        }

    def _control_login(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"redirect": self.login.allow(str(body.get("state", "")))}

    def _control_rehash(self, body: dict[str, Any]) -> dict[str, Any]:
        """The account is named anew; `number`: it is another account."""
        self.book.hash_value = secrets.token_hex(8).upper()
        self.book.number = str(body.get("number", self.book.number))
        return {"hash": self.book.hash_value}

    def _control_log_out(self, body: dict[str, Any]) -> dict[str, Any]:
        self.login.refresh.clear()
        self.login.access.clear()
        return {}

    def _control_price(self, body: dict[str, Any]) -> dict[str, Any]:
        self.book.catch_up()
        self.market.prices[str(body["symbol"])] = Decimal(str(body["usd"]))
        return {}

    def _control_fund(self, body: dict[str, Any]) -> dict[str, Any]:
        self.book.cash += Decimal(str(body["usd"]))
        return {"cash": str(self.book.cash)}

    def _control_shares(self, body: dict[str, Any]) -> dict[str, Any]:
        self.book.shares[str(body["symbol"])] = Decimal(str(body["shares"]))
        return {}

    def _control_close(self, body: dict[str, Any]) -> dict[str, Any]:
        self.market.closed.add(date.fromisoformat(body["day"]))
        return {}

    def _control_early(self, body: dict[str, Any]) -> dict[str, Any]:
        self.market.early.add(date.fromisoformat(body["day"]))
        return {}

    def _control_walk(self, body: dict[str, Any]) -> dict[str, Any]:
        self.book.walk_ms = int(body["ms"])
        return {}

    def _control_foreign(self, body: dict[str, Any]) -> dict[str, Any]:
        quantity = Decimal(str(body["quantity"]))
        return self._shown(self.book.foreign(str(body["symbol"]), str(body["instruction"]), quantity))

    def _control_fill(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._shown(self.book.fill(int(body["order"]), Decimal(str(body["quantity"]))))

    def _control_cancel(self, body: dict[str, Any]) -> dict[str, Any]:
        found = self.book.cancel(int(body["order"]))
        if found is None:
            raise ValueError(f"order {body['order']} is not open")
        return self._shown(found)

    def _control_replace(self, body: dict[str, Any]) -> dict[str, Any]:
        named = bool(body.get("named", True))
        return self._shown(self.book.replace(int(body["order"]), Decimal(str(body["quantity"])), named=named))

    def _shown(self, order: Order) -> dict[str, Any]:
        return order.body(self.book.number)

    # --- the interface ----------------------------------------------------------------------------------------

    def _route(self, path: str, handler: Handler, method: str = "GET") -> Route:
        async def handled(request: Request) -> Response:
            return self._refused(request) or handler(request)

        return Route(path, handled, methods=[method])

    def _refused(self, request: Request) -> Response | None:
        """Why a call is not served: no token that lives, another account, too many orders."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not self.login.lives(token):
            return _error(401, "Client not authorized", "The access token is invalid or has expired")
        account = request.path_params.get("account")
        if account is not None and account != self.book.hash_value:
            return _error(400, "Invalid account number")
        if request.method == "GET":
            return None
        now_ms = self.now_ms()
        self._writes = [at_ms for at_ms in self._writes if at_ms > now_ms - 60_000]
        if len(self._writes) >= self.orders_per_minute:
            return _error(429, "Too many requests")
        self._writes.append(now_ms)
        return None

    def _numbers(self, request: Request) -> Response:
        return JSONResponse([{"accountNumber": self.book.number, "hashValue": self.book.hash_value}])

    def _account(self, request: Request) -> Response:
        return JSONResponse(self.book.account_body(request.query_params.get("fields") == "positions"))

    async def _place(self, request: Request) -> Response:
        if (refused := self._refused(request)) is not None:
            return refused
        try:
            order = self.book.place(json.loads(await request.body()))
        except (BadOrder, ValueError) as error:
            return _error(400, "Bad Request", str(error))
        return self._placed(request, order)

    def _placed(self, request: Request, order: Order) -> Response:
        headers = {"schwab-client-correlid": secrets.token_hex(16)}
        shown = order.order_id
        if self.faults.take("schwab", "wrong_location"):
            shown -= 1
        if not self.faults.take("schwab", "no_location"):
            host = request.headers.get("host", "")
            scheme = "http" if host.startswith("127.") else "https"
            headers["location"] = (
                f"{scheme}://{host}/trader/v1/accounts/{self.book.hash_value}/orders/{shown}"
            )
        return Response(None, 201, headers)

    async def _replace(self, request: Request) -> Response:
        if (refused := self._refused(request)) is not None:
            return refused
        try:
            body = json.loads(await request.body())
            quantity = Decimal(str(body["orderLegCollection"][0]["quantity"]))
            order = self.book.replace(int(request.path_params["order_id"]), quantity)
        except (KeyError, ValueError, IndexError, TypeError, ArithmeticError):
            return _error(400, "Bad Request", "the order cannot be replaced")
        return self._placed(request, order)

    def _cancel(self, request: Request) -> Response:
        found = self.book.cancel(request.path_params["order_id"])
        return _error(400, "Bad Request", "the order is not open") if found is None else Response(None, 200)

    def _read(self, request: Request) -> Response:
        self.book.catch_up()
        order = self.book.orders.get(request.path_params["order_id"])
        return _error(404, "Order not found") if order is None else JSONResponse(self._shown(order))

    def _list(self, request: Request) -> Response:
        asked = request.query_params
        try:
            first_ms, last_ms = (_ms(asked[name]) for name in ("fromEnteredTime", "toEnteredTime"))
        except (KeyError, ValueError):
            return _error(400, "Bad Request", "fromEnteredTime and toEnteredTime are required")
        if first_ms < self.now_ms() - LISTED_DAYS_MS:
            return _error(400, "Bad Request", "fromEnteredTime must be within 60 days")
        self.book.catch_up()
        rows = list(self.book.orders.values())
        if fault := self.faults.take("schwab", "hide", "order:list"):
            rows = rows[: len(rows) - int(fault.args.get("count", 1))]
        status = asked.get("status")
        found = [
            self._shown(one)
            for one in rows
            if first_ms <= one.entered_ms // 1000 * 1000 <= last_ms and status in (None, one.status)
        ]
        return JSONResponse(found[::-1][: int(asked.get("maxResults", 3000))])

    def _hours(self, request: Request) -> Response:
        markets = request.path_params.get("market") or request.query_params.get("markets", "")
        if markets != "equity":
            return _error(400, "Bad Request", f"market {markets} is not served here")
        given = request.query_params.get("date")
        try:
            day = date.fromisoformat(given) if given else day_of(self.now_ms())
        except ValueError:
            return _error(400, "Bad Request", "date must be YYYY-MM-DD")
        if any(one.kind == "no_day" and one.args["day"] == day.isoformat() for one in self.faults.faults):
            return _error(400, "Bad Request", "Input date is not acceptable.")
        return JSONResponse(hours_body(self.market, day))

    def _quotes(self, request: Request) -> Response:
        named = request.path_params.get("symbol") or request.query_params.get("symbols", "")
        found: dict[str, Any] = {}
        unknown = []
        for symbol in filter(None, named.split(",")):
            quote = self.market.quote(symbol, self.now_ms())
            if quote is None:
                unknown.append(symbol)
                continue
            bid, ask = quote
            figures = {
                "bidPrice": float(bid),
                "askPrice": float(ask),
                "lastPrice": float((bid + ask) / 2),
                "securityStatus": "Normal",
                "quoteTime": self.now_ms(),
            }
            found[symbol] = {
                "assetMainType": "EQUITY",
                "symbol": symbol,
                "realtime": True,
                "quote": figures,
            }
        if unknown:
            found["errors"] = {"invalidSymbols": unknown}
        return JSONResponse(found)


def _ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no zone")
    return int(moment.timestamp() * 1000)


def _error(status: int, message: str, *errors: str) -> Response:
    return JSONResponse({"message": message, "errors": list(errors)}, status)

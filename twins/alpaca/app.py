"""Alpaca as one ASGI app: the Trading interface under /v2, the Broker's under /v1, market data, and both streams."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from twins.alpaca.control import Control
from twins.alpaca.engine import VENUE, Engine
from twins.alpaca.market import local
from twins.alpaca.moves import Moves
from twins.alpaca.placing import Refused, wanted
from twins.alpaca.records import Account, number, stamp
from twins.alpaca.streams import Streams
from twins.faults import FaultPlan
from twins.world import World

_ACCOUNT = re.compile(r"/v1/(?:trading/)?accounts/[^/]+")
_NAMES: tuple[tuple[str, str, str], ...] = (
    ("POST", r"/oauth2/token", "token"),
    ("POST", r"/orders", "orders:place"),
    ("GET", r"/orders", "orders:list"),
    ("GET", r"/orders:by_client_order_id", "orders:by_client_id"),
    ("GET", r"/orders/[^/]+", "orders:one"),
    ("DELETE", r"/orders/[^/]+", "orders:cancel"),
    ("GET", r"/account", "account"),
    ("GET", r"/positions", "positions"),
    ("GET", r"/positions/[^/]+", "position"),
    ("GET", r"/clock", "clock"),
    ("GET", r"/calendar", "calendar"),
    ("GET", r"/assets/[^/]+", "asset"),
    ("GET", r"/stocks/.*trades/latest", "trade"),
    ("GET", r"/stocks/.*quotes/latest", "quote"),
    ("GET", r"/events/trades", "events"),
    ("POST", r"/journals", "journals:create"),
    ("GET", r"/journals", "journals:list"),
    ("GET", r"/wallets", "wallets"),
    ("GET", r"/wallets/transfers", "transfers:list"),
    ("POST", r"/wallets/transfers", "transfers:create"),
    ("GET", r"/wallets/whitelists", "whitelists:list"),
    ("POST", r"/wallets/whitelists", "whitelists:create"),
    ("POST", r"/tokenization/mint", "tokens:mint"),
    ("GET", r"/tokenization/requests", "tokens:list"),
    ("GET", r"/tokenization/requests:by_client_request_id", "tokens:by_client_id"),
)
Answering = Callable[[Request, Account], Any]


class AlpacaTwin:
    """One broker with its accounts. `app` is the ASGI app; `engine` has the books, `moves` what goes between accounts.

    `per_minute` calls of a key are taken (None: any number); one more is answered by 429.
    """

    def __init__(self, world: World, faults: FaultPlan) -> None:
        self.world, self.faults = world, faults
        self.engine = Engine(world.now_ms, faults)
        self.moves = Moves(self.engine)
        self.streams = Streams(self.engine)
        self.per_minute: int | None = None
        self.trading_keys: dict[str, tuple[str, str]] = {}
        """Secret and account by key id."""
        self.broker_keys: dict[str, str] = {}
        self.clients: dict[str, str] = {}
        """Secrets of Broker clients that are exchanged for tokens, by id."""
        self.token_life_s = 899
        self.tokens: dict[str, tuple[str, float]] = {}
        """Of each token whose it is, and its end in ms."""
        self._used: dict[str, deque[int]] = {}
        self._control = Control(self.engine, self.moves, self.streams)
        a = "/v1/trading/accounts/{account}"
        routes: list[Route | WebSocketRoute] = [
            WebSocketRoute("/stream", self._socket),
            Route("/v1/oauth2/token", self._token, methods=["POST"]),
        ]
        for path, methods, answer in (
            ("/orders", ["POST"], self._place),
            ("/orders", ["GET"], self._orders),
            ("/orders:by_client_order_id", ["GET"], self._by_client_id),
            ("/orders/{order}", ["GET"], self._one_order),
            ("/orders/{order}", ["DELETE"], self._cancel),
            ("/account", ["GET"], self._account),
            ("/positions", ["GET"], self._positions),
            ("/positions/{symbol}", ["GET"], self._position),
        ):
            routes += [Route(base + path, self._of_account(answer), methods=methods) for base in ("/v2", a)]
        for path, open_to_all in (
            ("/clock", self._clock),
            ("/calendar", self._calendar),
            ("/assets/{symbol}", self._asset),
        ):
            routes += [Route(base + path, self._of_all(open_to_all)) for base in ("/v2", "/v1")]
        for path, methods, answer in (
            ("/wallets", ["GET"], self._wallet),
            ("/wallets/transfers", ["GET"], lambda _, of: self.moves.transfers.get(of.id, [])),
            ("/wallets/transfers", ["POST"], self._transfer),
            ("/wallets/whitelists", ["GET"], lambda _, of: self.moves.whitelist.get(of.id, [])),
            ("/wallets/whitelists", ["POST"], self._allow),
            ("/tokenization/mint", ["POST"], self._mint),
            ("/tokenization/requests", ["GET"], lambda _, of: self.moves.requests.get(of.id, [])),
            ("/tokenization/requests:by_client_request_id", ["GET"], self._minted),
        ):
            routes.append(Route("/v1/accounts/{account}" + path, self._of_account(answer), methods=methods))
        routes += [
            Route("/v1/journals", self._of_all(self._journal), methods=["POST"]),
            Route("/v1/journals", self._of_all(lambda _: self.moves.journals), methods=["GET"]),
            Route("/v1/events/trades", self._of_all(self.streams.events), methods=["GET"]),
            Route("/v2/stocks/{symbol}/trades/latest", self._of_all(self._trade), methods=["GET"]),
            Route("/v2/stocks/trades/latest", self._of_all(self._trades), methods=["GET"]),
            Route("/v2/stocks/{symbol}/quotes/latest", self._of_all(self._quote), methods=["GET"]),
        ]
        self.app = Starlette(routes=routes)

    def catch_up(self) -> int:
        """Let happen what the world's time has brought; return the time in ms."""
        return self.engine.catch_up()

    def control(self, op: str, body: dict[str, Any]) -> dict[str, Any]:
        """Run an operator's call (`twins/alpaca/control.py`). Raises ValueError."""
        return self._control.run(op, body)

    @staticmethod
    def call_name(method: str, path: str, body: bytes) -> str:
        """Return the name of a call in plans and journals, the same for both interfaces: "orders:place", "positions"."""
        inner = _ACCOUNT.sub("", path) if _ACCOUNT.match(path) else re.sub(r"^/v[12](beta\d)?", "", path)
        for verb, pattern, name in _NAMES:
            if verb == method and re.fullmatch(pattern, inner):
                return name
        return f"{method} {inner}"

    # --- who asks ------------------------------------------------------------------------------------------------

    def _key(self, request: Request) -> tuple[str, str | None]:
        """The key, and its account where it is a Trading key. Raises Refused."""
        key = request.headers.get("apca-api-key-id")
        if key is not None:
            found = self.trading_keys.get(key)
            if found is not None and found[0] == request.headers.get("apca-api-secret-key"):
                return key, found[1]
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind == "Bearer":
            client, until_ms = self.tokens.get(given, ("", 0))
            if client and self.world.now_ms() < until_ms:
                return client, None
        if kind == "Basic":
            try:
                key, _, secret = base64.b64decode(given).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                key, secret = "", ""
            if key in self.broker_keys and self.broker_keys[key] == secret:
                return key, None
        raise Refused(401, 40110000, "request is not authorized")

    async def _token(self, request: Request) -> Response:
        """Exchange client credentials; the secret stands in the body, nowhere else."""
        form = parse_qs((await request.body()).decode(errors="replace"))
        given = {name: values[0] for name, values in form.items()}
        if given.get("grant_type") != "client_credentials":
            return JSONResponse({"error": "unsupported_grant_type"}, 400)
        client = given.get("client_id", "")
        if self.clients.get(client, "") != given.get("client_secret", "") or client not in self.clients:
            return JSONResponse({"error": "invalid_client"}, 401)
        token = secrets.token_urlsafe(32)
        self.tokens[token] = (client, self.world.now_ms() + self.token_life_s * 1000)
        return JSONResponse({"access_token": token, "expires_in": self.token_life_s, "token_type": "Bearer"})

    def _limits(self, key: str) -> dict[str, str]:
        """What every answer says of the limit. Raises Refused with it where it is passed."""
        now_ms, most = self.world.now_ms(), self.per_minute
        used = self._used.setdefault(key, deque(maxlen=10_000))
        while used and used[0] <= now_ms - 60_000:
            used.popleft()
        used.append(now_ms)
        reset = str((used[0] + 60_000) // 1000 + 1)
        limit = most if most is not None else 200
        headers = {
            "x-ratelimit-limit": str(limit),
            "x-ratelimit-remaining": str(max(0, limit - len(used))),
            "x-ratelimit-reset": reset,
        }
        if most is not None and len(used) > most:
            raise Refused(429, 42910000, "too many requests.", {"headers": headers})
        return headers

    def _planned(self, call: str) -> None:
        """Raise Refused where a fault says so: a limit with its headers, a key that is not let in now."""
        if (limited := self.faults.take(VENUE, "rate_limited", call)) is not None:
            headers = dict(limited.args.get("headers", {}))
            raise Refused(429, 42910000, "too many requests.", {"headers": headers})
        if self.faults.take(VENUE, "unauthorized", call) is not None:
            raise Refused(401, 40110000, "request is not authorized")

    def _answered(self, request: Request, act: Callable[[str | None], Any]) -> Response:
        """The answer of `act`, given the account of a Trading key, with the headers of the limit."""
        headers: dict[str, str] = {}
        try:
            key, own = self._key(request)
            self._planned(self.call_name(request.method, request.url.path, b""))
            headers = self._limits(key)
            self.engine.catch_up()
            found = act(own)
        except Refused as refused:
            body = refused.body
            headers |= body.pop("headers", {})
            return JSONResponse(body, refused.status, headers)
        if isinstance(found, Response):
            found.headers.update(headers)
            return found
        return JSONResponse(found, headers=headers)

    def _of_all(self, answer: Callable[[Request], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            await request.body()
            return self._answered(request, lambda own: answer(request))

        return endpoint

    def _of_account(self, answer: Answering) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            await request.body()

            def act(own: str | None) -> Any:
                asked = request.path_params.get("account")
                name = own if asked is None else asked
                if (
                    name is None
                    or (asked is not None and own is not None)
                    or name not in self.engine.accounts
                ):
                    raise Refused(401, 40110000, "request is not authorized")
                return answer(request, self.engine.accounts[name])

            return self._answered(request, act)

        return endpoint

    @staticmethod
    def _body(request: Request) -> dict[str, Any]:
        try:
            found = json.loads(request._body)
        except ValueError:
            raise Refused(400, 40010000, "request body format is invalid") from None
        if not isinstance(found, dict):
            raise Refused(400, 40010000, "request body format is invalid")
        return found

    # --- orders --------------------------------------------------------------------------------------------------

    def _place(self, request: Request, account: Account) -> Any:
        return self.engine.place(account, wanted(self._body(request))).row()

    def _orders(self, request: Request, account: Account) -> Any:
        asked = request.query_params.get("status", "open")
        rows = [one for one in account.orders if asked == "all" or one.is_open == (asked == "open")]
        rows = [one for one in rows if one.hidden_until_ms <= self.engine.now_ms]
        if after := request.query_params.get("after"):
            try:
                after_ms = datetime.fromisoformat(after).timestamp() * 1000
            except ValueError:
                raise Refused(422, 42210000, f'"{after}" is no time') from None
            rows = [one for one in rows if one.created_ms > after_ms]
        rows = rows if request.query_params.get("direction") == "asc" else rows[::-1]
        limit = request.query_params.get("limit", "50")
        return [one.row() for one in rows[: min(int(limit) if limit.isdigit() else 50, 500)]]

    def _by_client_id(self, request: Request, account: Account) -> Any:
        found = self.engine.by_client_id(account, request.query_params.get("client_order_id", ""))
        if found is None:
            raise Refused(404, 40410000, "order not found")
        return found.row()

    def _one_order(self, request: Request, account: Account) -> Any:
        found = self.engine.order(account, request.path_params["order"])
        if found is None:
            raise Refused(404, 40410000, "order not found for " + request.path_params["order"])
        return found.row()

    def _cancel(self, request: Request, account: Account) -> Any:
        found = self.engine.order(account, request.path_params["order"])
        if found is None:
            raise Refused(404, 40410000, "order not found")
        if not found.is_open:
            raise Refused(422, 42210000, f'order is already in "{found.status}" state')
        self.engine.end(found, "canceled", self.engine.now_ms)
        return Response(status_code=204)

    # --- the account and the market ------------------------------------------------------------------------------

    def _account(self, request: Request, account: Account) -> Any:
        return self.engine.account_row(account, is_broker="account" in request.path_params)

    def _positions(self, request: Request, account: Account) -> Any:
        return [self.engine.position_row(account, symbol) for symbol in account.positions]

    def _position(self, request: Request, account: Account) -> Any:
        symbol = request.path_params["symbol"]
        if symbol not in account.positions:
            raise Refused(404, 40410000, "position does not exist")
        return self.engine.position_row(account, symbol)

    def _clock(self, request: Request) -> Any:
        now_ms = self.engine.now_ms
        running, coming = self.engine.days.running(now_ms), self.engine.days.coming(now_ms)
        whole = local(now_ms).isoformat(timespec="seconds")
        return {
            "timestamp": f"{whole[:19]}.{now_ms % 1000:03d}420928{whole[19:]}",
            "is_open": running is not None,
            "next_open": local(coming.open_ms).isoformat(),
            "next_close": local((running or coming).close_ms).isoformat(),
        }

    def _calendar(self, request: Request) -> Any:
        today = local(self.engine.now_ms).date()
        try:
            first, last = (date.fromisoformat(request.query_params.get(name, "")[:10] or str(today + timedelta(days=off)))
                           for name, off in (("start", 0), ("end", 30)))  # fmt: skip
        except ValueError:
            raise Refused(422, 40010001, "invalid date") from None
        return [one.row() for one in self.engine.days.between(first, last)]

    def _asset(self, request: Request) -> Any:
        found = self.engine.assets.get(request.path_params["symbol"])
        if found is None:
            raise Refused(404, 40410000, f"asset not found for {request.path_params['symbol']}")
        return self._control.asset_row(found)

    def _last(self, symbol: str) -> dict[str, Any] | None:
        now_ms = self.engine.now_ms
        mid = self.engine.prices.mid(symbol, now_ms)
        if mid is None:
            return None
        return {"t": stamp(now_ms), "x": "V", "p": float(mid), "s": 100, "c": ["@"], "i": 1, "z": "C"}

    def _trade(self, request: Request) -> Any:
        symbol = request.path_params["symbol"]
        found = self._last(symbol)
        if found is None:
            raise Refused(404, 40410000, f"no trade found for {symbol}")
        return {"symbol": symbol, "trade": found}

    def _trades(self, request: Request) -> Any:
        rows = {one: self._last(one) for one in request.query_params.get("symbols", "").split(",")}
        return {"trades": {symbol: row for symbol, row in rows.items() if row is not None}}

    def _quote(self, request: Request) -> Any:
        symbol, now_ms = request.path_params["symbol"], self.engine.now_ms
        found = self.engine.prices.quote(symbol, now_ms)
        if found is None:
            raise Refused(404, 40410000, f"no quote found for {symbol}")
        bid, ask = (float(number(one)) for one in found)
        sides = {"ax": "V", "ap": ask, "as": 100, "bx": "V", "bp": bid, "bs": 100}
        return {"symbol": symbol, "quote": {"t": stamp(now_ms), **sides, "c": ["R"], "z": "C"}}

    # --- what moves ----------------------------------------------------------------------------------------------

    def _journal(self, request: Request) -> Any:
        return self.moves.journal(self._body(request))

    def _wallet(self, request: Request, account: Account) -> Any:
        return self.moves.wallet(account, request.query_params.get("network", "ethereum"))

    def _transfer(self, request: Request, account: Account) -> Any:
        return self.moves.transfer(account, self._body(request))

    def _allow(self, request: Request, account: Account) -> Any:
        return self.moves.allow(account, self._body(request))

    def _mint(self, request: Request, account: Account) -> Any:
        return self.moves.mint(account, self._body(request))

    def _minted(self, request: Request, account: Account) -> Any:
        found = self.moves.minted(account, request.query_params.get("client_request_id", ""))
        if found is None:
            raise Refused(404, 40410000, "tokenization request not found")
        return found

    async def _socket(self, socket: WebSocket) -> None:
        await self.streams.socket(socket, self.trading_keys)

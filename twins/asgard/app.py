"""The Asgard twin: the documented REST interface over a lending book whose positions live on the Solana
twin's chain.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from twins.asgard.book import LendingBook
from twins.asgard.builder import Builder, Leftover, Settings
from twins.asgard.describe import Build
from twins.asgard.emulation import Emulation, vault_balance
from twins.asgard.limits import RateLimit
from twins.asgard.markets import Listings
from twins.asgard.operator import Operator
from twins.asgard.records import Database
from twins.asgard.reserves import Reserves
from twins.asgard.submission import VENUE, Submissions
from twins.asgard.views import Views
from twins.asgard.wire import (
    AddCollateralBody,
    ApiError,
    Body,
    CloseBody,
    LeverageBody,
    PartialCloseBody,
    RefreshBody,
    RepayBody,
    TradeBody,
    WalletBody,
    parse,
)
from twins.faults import Fault, FaultPlan
from twins.solana.chain import SolanaChain
from twins.world import World

BASE_PATH = "/margin-trading"
Answer = Callable[[Request, Any], Any]
AsyncAnswer = Callable[[Request, Any], Awaitable[Any]]


class AsgardTwin:
    """Serve `app`; clients are given `<host>/margin-trading` as base URL.

    `api_keys` None accepts any key. Without a key a client address gets one request per second of world time,
    with one `keyed_per_s`. Builds are effective only by landing on `chain`, whoever broadcasts them.
    """

    def __init__(
        self,
        world: World,
        chain: SolanaChain,
        faults: FaultPlan,
        *,
        api_keys: set[str] | None,
        keyed_per_s: float = 20.0,
    ) -> None:
        self._world = world
        self._chain = chain
        self._faults = faults
        self.reserves = Reserves(lambda protocol, token: vault_balance(chain, protocol, token))
        self.book = LendingBook(world, self.reserves)
        self._emulation = Emulation(chain, self.book)
        self._database = Database()
        self._listings = Listings(world)
        self._builder = Builder(world, chain, self.book, self._emulation, self._listings)
        self._submissions = Submissions(world, chain, self.book, self._emulation, self._database, faults)
        self._views = Views(world, self.book, self._emulation, self._database)
        self._limits = RateLimit(world, api_keys, keyed_per_s)
        self._settings = Settings()
        self._operator = Operator(
            self.book,
            self._listings,
            self._limits,
            self._settings,
            self._submissions,
            self._views,
            world,
            chain,
        )
        self.app = self._app()

    def call_name(self, method: str, path: str, body: bytes) -> str:
        """Return the name of a call in fault plans, e.g. "POST /create-position"."""
        return f"{method} {path.removeprefix(BASE_PATH) or '/'}"

    def catch_up(self) -> None:
        """Bring chain, interest, liquidations and late rows up to world time.

        To be called before the world's overrides change, so that what has passed is judged by the old ones.
        """
        self._chain.catch_up()
        self.book.catch_up(self._world.now_ms())
        self._submissions.catch_up()

    def control(self, op: str, body: dict[str, Any]) -> dict[str, Any]:
        """Run an operator's command, see `operator.Operator`. ValueError for an unknown one."""
        self.catch_up()
        return self._operator.run(op, body)

    # Routes

    def _app(self) -> Starlette:
        delay = self._submissions.mode
        reads: dict[str, Answer] = {
            "GET /markets": lambda request, body: self._listings.markets(),
            "GET /token-metadata": lambda request, body: self._listings.tokens(),
            "GET /token-metadata/{mint}": lambda request, body: self._listings.token(
                request.path_params["mint"]
            ),
            "POST /positions/by-pda": lambda request, body: self._views.by_pda(
                request.query_params.get("pda", ""), delay.metadata_delay_ms
            ),
            "POST /refresh-positions": lambda request, body: self._views.refreshed(parse(RefreshBody, body)),
            "POST /all-liquidation-events": lambda request, body: self._views.all_events(),
            "POST /create-position": self._build(TradeBody, self._builder.create),
            "POST /close-position": self._build(CloseBody, self._builder.close),
            "POST /create-position-simulate": self._simulate(TradeBody, self._builder.create),
            "POST /close-position-simulate": self._simulate(CloseBody, self._builder.close),
            "POST /position/partial-close": self._build(PartialCloseBody, self._builder.partial_close),
            "POST /position/deleverage": self._build(LeverageBody, self._builder.deleverage),
            "POST /position/increase-leverage": self._build(LeverageBody, self._builder.increase_leverage),
            "POST /position/add-collateral": self._build(AddCollateralBody, self._builder.add_collateral),
            "POST /position/repay-debt": self._build(RepayBody, self._builder.repay_debt),
        }
        for path, which in (("", "all"), ("/open", "open"), ("/closed", "closed")):
            reads[f"POST /positions{path}"] = self._listing(which)
        submissions = self._submissions
        submits: dict[str, AsyncAnswer] = {
            "POST /submit-create-position-tx": lambda request, body: submissions.create_or_close(
                "open", self._name(request), body
            ),
            "POST /submit-close-position-tx": lambda request, body: submissions.create_or_close(
                "close", self._name(request), body
            ),
            "POST /submit-position-update-tx": lambda request, body: submissions.update(
                self._name(request), body
            ),
        }
        routes = [self._route(name, _as_async(answer)) for name, answer in reads.items()]
        routes += [self._route(name, answer) for name, answer in submits.items()]
        return Starlette(
            routes=[Mount(BASE_PATH, routes=routes)], exception_handlers={HTTPException: _not_found}
        )

    def _route(self, name: str, answer: AsyncAnswer) -> Route:
        method, path = name.split(" ")

        async def endpoint(request: Request) -> Response:
            try:
                self._limits.check(request)
                rejected = self._faults.take(VENUE, "reject", self._name(request))
                if rejected is not None:
                    args = rejected.args
                    name, message = str(args.get("name", "Rejected")), str(args.get("message", "not now"))
                    raise ApiError(
                        int(args.get("status", 422)), name, message, args.get("details"), args.get("code")
                    )
                self.catch_up()
                return JSONResponse(await answer(request, await _body(request)))
            except ApiError as error:
                shown: Any = error.body["message"] if self._operator.plain_errors else error.body
                return JSONResponse({"error": shown}, status_code=error.status)

        return Route(path, endpoint, methods=[method])

    def _name(self, request: Request) -> str:
        return self.call_name(request.method, request.url.path, b"")

    def _listing(self, which: str) -> Answer:
        def listed(request: Request, body: Any) -> Any:
            delay_ms = self._submissions.mode.metadata_delay_ms
            return self._views.rows(parse(WalletBody, body).walletPubkey, which, delay_ms)

        return listed

    def _build(self, model: type[Body], make: Callable[[Any, Settings], Build]) -> Answer:
        def built(request: Request, body: Any) -> Any:
            return self._made(request, parse(model, body), make).response

        return built

    def _simulate(self, model: type[Body], make: Callable[[Any, Settings], Build]) -> Answer:
        """The vendor's answer is undocumented; ours is the build with what the chain says of its first
        transaction.
        """

        def simulated(request: Request, body: Any) -> Any:
            build = self._made(request, parse(model, body), make)
            found = self._chain.simulate(bytes(build.assembled.transactions[0]))
            build.response["simulation"] = {
                "err": found.err,
                "logs": list(found.logs),
                "unitsConsumed": found.units_consumed,
            }
            if build.plan.opens:
                return {key: value for key, value in build.response.items() if key != "signedTxs"}
            return build.response

        return simulated

    def _made(self, request: Request, body: Body, make: Callable[[Any, Settings], Build]) -> Build:
        call = self._name(request)
        settings = replace(
            self._settings,
            stale_blockhash=self._faults.take(VENUE, "stale_blockhash", call) is not None,
            empty=self._faults.take(VENUE, "empty_txs", call) is not None,
            leftover=_leftover(self._faults.take(VENUE, "leftover", call)),
            hollow=self._faults.take(VENUE, "hollow", call) is not None,
        )
        build = make(body, settings)
        self._submissions.remember(build)
        return build


def _leftover(fault: Fault | None) -> Leftover | None:
    if fault is None:
        return None
    return Leftover(Decimal(str(fault.args.get("fraction", "0.1"))), fault.args.get("where") == "wallet")


def _as_async(answer: Answer) -> AsyncAnswer:
    async def answered(request: Request, body: Any) -> Any:
        return answer(request, body)

    return answered


async def _body(request: Request) -> Any:
    raw = await request.body()
    if not raw:
        return {}
    try:
        return json.loads(raw)
    except ValueError as error:
        raise ApiError(422, "ValidationError", "body: not JSON") from error


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = f"{request.method} {request.url.path} does not exist here"
    return JSONResponse({"error": ApiError(status, "NotFound", message).body}, status_code=status)

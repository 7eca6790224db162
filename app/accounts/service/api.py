"""The interface for programs: health, balance, positions, opening, closing, and the transfer of one charge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.accounts.service import charges, orders
from app.accounts.service.answers import Answer, Body, body_of, refuse_secret_names
from app.accounts.service.service import Caller, Service, Work, caller, once, service_of
from app.accounts.service.tokens import COLLECT, READ, TRADE

B = TypeVar("B", bound=Body)
router = APIRouter(default_response_class=JSONResponse)


class AddressBody(Body):
    """Whose account is asked about; empty: the token's own."""

    address: orders.Address | None = None


class Healthy(BaseModel):
    """The service answers, and so does its ledger."""

    status: str
    service: str


class Refusal(BaseModel):
    """Why nothing was done."""

    success: bool
    error: str


class Balance(BaseModel):
    """USDC: in the wallet, of that what the venue can take, and paid for trades that are not over."""

    success: bool
    address: str
    balance: float
    available: float
    inTrades: float


class Position(BaseModel):
    """A trade that is not over. `size` is in units of the asset, everything else in USD or USDC. `orderType` and `waitsFor`: of
    an order that waits for its price.
    """

    trade: str
    tradeId: str | None
    market: str
    side: str
    state: str
    size: float
    entryPrice: float | None
    markPrice: float | None
    unrealizedPnl: float | None
    realizedPnl: float
    collateral: float
    leverage: float
    stopLoss: float | None
    openedBy: str
    orderType: str | None
    waitsFor: float | None


class Positions(BaseModel):
    """The trades of an account."""

    success: bool
    positions: list[Position]


class Done(BaseModel):
    """What was done: a position, or the charge that was pulled. `closePnl`: of a close, after all fees, USDC."""

    success: bool
    pending: bool = False
    message: str | None = None
    closePnl: float | None = None
    result: dict[str, Any] | None = None


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "No JSON, a secret key in the body, or no idempotency key"},
    401: {"model": Refusal, "description": "No token that is good"},
    403: {"model": Refusal, "description": "The token is not for this"},
    404: {"model": Refusal, "description": "No such account, trade or charge of yours"},
    409: {"model": Refusal, "description": "Not as things stand now"},
    422: {"model": Refusal, "description": "A field, the venue or the limits of the deployment refuse it"},
    503: {"model": Refusal, "description": "The chain or the ledger cannot be asked now"},
}
PENDING: dict[int | str, dict[str, Any]] = {
    202: {"model": Done, "description": "Under way: the same request again says what became of it"}
}
KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "The same key again is the same act: it is done once, whatever is lost on the way.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
}


def _says(model: type[Body], *, acts: bool = True) -> dict[str, Any]:
    content = {"application/json": {"schema": model.model_json_schema()}}
    found: dict[str, Any] = {"requestBody": {"required": True, "content": content}}
    return found | ({"parameters": [KEY]} if acts else {})


def json_of(answer: Answer) -> JSONResponse:
    """Return it as HTTP."""
    return JSONResponse(answer.body, status_code=answer.status)


@router.get("/health", response_model=Healthy, responses={503: REFUSALS[503]})
async def health(request: Request) -> JSONResponse:
    """Whether the service and its ledger answer. Needs no token."""
    service_of(request).store.accounts.agents()
    return JSONResponse({"status": "ok", "service": "ostium"})


Whose = Query(default=None, pattern="^0x[0-9a-fA-F]{40}$", description="Empty: the token's own account.")


@router.get("/balance", response_model=Balance, responses=REFUSALS)
async def balance(request: Request, address: str | None = Whose) -> JSONResponse:
    """The USDC of an account."""
    refuse_secret_names(request.query_params.keys())
    return json_of(await orders.balance(service_of(request), caller(request, READ), address))


@router.post(
    "/balance", response_model=Balance, responses=REFUSALS, openapi_extra=_says(AddressBody, acts=False)
)
async def balance_by_body(request: Request) -> JSONResponse:
    """The same, asked for in a body."""
    body, _ = await body_of(request, AddressBody)
    return json_of(await orders.balance(service_of(request), caller(request, READ), body.address))


@router.get("/positions", response_model=Positions, responses=REFUSALS)
async def positions(request: Request, address: str | None = Whose) -> JSONResponse:
    """The trades of an account that are not over."""
    refuse_secret_names(request.query_params.keys())
    return json_of(await orders.positions(service_of(request), caller(request, READ), address))


@router.post(
    "/positions", response_model=Positions, responses=REFUSALS, openapi_extra=_says(AddressBody, acts=False)
)
async def positions_by_body(request: Request) -> JSONResponse:
    """The same, asked for in a body."""
    body, _ = await body_of(request, AddressBody)
    return json_of(await orders.positions(service_of(request), caller(request, READ), body.address))


async def _acted(
    request: Request,
    shape: type[B],
    scope: str,
    prepare: Callable[[Service, Caller, B, str], Awaitable[Work | Answer]],
    do: Callable[[Service, Work], Awaitable[Answer]],
) -> JSONResponse:
    """Do what a body asks for, once under the request's idempotency key."""
    body, digest = await body_of(request, shape)
    service, who = service_of(request), caller(request, scope)
    answer = await once(
        service, who, request, digest, lambda key: prepare(service, who, body, key), partial(do, service)
    )
    return json_of(answer)


@router.post(
    "/open-position",
    response_model=Done,
    responses=REFUSALS | PENDING,
    openapi_extra=_says(orders.OpenBody),
)
async def open_position(request: Request) -> JSONResponse:
    """Open a trade at the market, or by an order that waits for its price, within the limits of a deployment."""
    return await _acted(request, orders.OpenBody, TRADE, orders.prepare_open, orders.do_open)


@router.post(
    "/close-position",
    response_model=Done,
    responses=REFUSALS | PENDING,
    openapi_extra=_says(orders.CloseBody),
)
async def close_position(request: Request) -> JSONResponse:
    """Close a trade or a part of it at the market."""
    return await _acted(request, orders.CloseBody, TRADE, orders.prepare_close, orders.do_close)


@router.post(
    "/cancel-order",
    response_model=Done,
    responses=REFUSALS | PENDING,
    openapi_extra=_says(orders.CancelBody),
)
async def cancel_order(request: Request) -> JSONResponse:
    """Cancel an order that waits for its price. What comes back comes back to the account, less the venue's fee."""
    return await _acted(request, orders.CancelBody, TRADE, orders.prepare_cancel, orders.do_cancel)


@router.post(
    "/transfer",
    response_model=Done,
    responses=REFUSALS | PENDING,
    openapi_extra=_says(charges.TransferBody),
)
async def transfer(request: Request) -> JSONResponse:
    """Pull one charge that is due to the platform's wallet."""
    return await _acted(request, charges.TransferBody, COLLECT, charges.prepare_transfer, charges.do_transfer)

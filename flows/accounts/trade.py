"""The forms by which a person opens, closes or cancels a trade in a user's name from Prefect's pages."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from prefect import flow
from pydantic import Field

from flows.forms import Form, NumberField
from flows.running import settings_for_run
from tasks.accounts.asked import (
    Opening,
    Traded,
    close_for_user,
    open_for_user,
    withdraw_for_user,
)
from tasks.accounts.desk import open_accounts_desk


class OpenRequest(Form):
    """One trade in a user's name, within the limits of his deployment."""

    deployment: str = Field(description="whose, as `evenkeel accounts list` shows it")
    market: str = Field(default="SOL/USD", description="as in [ostium.markets]")
    side: Literal["long", "short"] = Field(default="long", description="long gains when the price rises")
    entry: Literal["market", "limit", "stop"] = Field(
        default="market",
        description="market: now; limit: at your price or better, once it comes; stop: once the price has gone through yours",
    )
    price: NumberField | None = Field(
        default=None, description="USD; of a limit or a stop, empty at the market"
    )
    collateral_usdc: NumberField = Field(description="USDC that leave the user's wallet for it")
    leverage: NumberField = Field(
        default=Decimal(1), description="notional over collateral", json_schema_extra={"default": 1}
    )
    slippage_bps: int = Field(default=50, description="basis points; at the market alone")
    take_profit: NumberField | None = Field(
        default=None, description="USD; it stands at the venue; empty: none"
    )
    name: str = Field(default="", description="of the trade: the same name twice is one trade")


class CloseRequest(Form):
    """A trade to close, or a part of it."""

    trade: str = Field(description="its name, as `evenkeel accounts list` shows it")
    share: NumberField = Field(
        default=Decimal(1), description="of the trade, 1 for all", json_schema_extra={"default": 1}
    )
    slippage_bps: int = Field(default=50, description="basis points")


class WithdrawRequest(Form):
    """An order that waits for its price, and is not wanted any more."""

    trade: str = Field(description="its name, as `evenkeel accounts list` shows it")


@flow(name="open-trade", flow_run_name="open-{request.market}-{request.side}")
async def open_trade(request: OpenRequest) -> Traded:
    """Open one trade in a user's name. A run that begins late does nothing: it was asked for in the market of its moment."""
    with settings_for_run(in_time=True) as settings:
        async with open_accounts_desk(settings) as desk:
            return await open_for_user(desk, Opening.model_validate(request.model_dump()))


@flow(name="close-trade", flow_run_name="close-{request.trade}")
async def close_trade(request: CloseRequest) -> Traded:
    """Close one trade, or a part of it."""
    with settings_for_run(in_time=True) as settings:
        async with open_accounts_desk(settings) as desk:
            return await close_for_user(desk, request.trade, request.share, request.slippage_bps)


@flow(name="cancel-order", flow_run_name="cancel-{request.trade}")
async def cancel_order(request: WithdrawRequest) -> Traded:
    """Cancel an order that waits for its price."""
    with settings_for_run() as settings:
        async with open_accounts_desk(settings) as desk:
            return await withdraw_for_user(desk, request.trade)

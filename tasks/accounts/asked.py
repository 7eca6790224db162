"""Trades in users' names, as a person asks for them: opened at the market or at a price, closed, cancelled while they wait."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any

from evenkeel.errors import OperatorError, Retryable
from evenkeel.types import Frozen
from state.accounts.models import AccountTrade
from state.accounts.store import ACCOUNTS
from tasks.accounts import trading, waiting
from tasks.accounts.desk import AccountsDesk
from venues.ostium.orders import OrderType
from venues.ostium.prices import Quote

SETTLES_WITHIN_S = 10
"""A keeper settles within one to two seconds; what takes longer is followed by the watch."""


class Entry(StrEnum):
    """When an opening is to happen."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"


class Side(StrEnum):
    """On which side."""

    LONG = "long"
    SHORT = "short"


class Opening(Frozen):
    """A trade that is asked for. `price`: what a limit or stop waits for, USD; None at the market, where alone it slips."""

    deployment: str
    market: str
    side: Side
    entry: Entry = Entry.MARKET
    price: Decimal | None = None
    collateral_usdc: Decimal
    leverage: Decimal
    slippage_bps: int
    take_profit: Decimal | None = None
    name: str = ""


class Traded(Frozen):
    """How a trade stands, and why it is not as it was asked for."""

    trade: str
    state: str
    trade_id: str | None
    open_price: Decimal | None
    paid_usdc: Decimal
    result_usdc: Decimal
    why: str


async def open_for_user(desk: AccountsDesk, asked: Opening) -> Traded:
    """Ask for a trade, and return how it stands some seconds later. Raises OperatorError for what cannot be meant, VenueRefused
    for what would not be taken or signed, of which nothing is stored, Retryable where there is no price.
    """
    core = desk.desk
    if asked.deployment not in {one.deployment_id for one in core.store.accounts.deployments()}:
        raise OperatorError(
            f"there is no deployment {asked.deployment!r}: `evenkeel accounts list` shows them"
        )
    markets = core.settings.ostium.markets
    pair = next((number for number, one in markets.items() if one == asked.market), None)
    if pair is None:
        raise OperatorError(f"market {asked.market!r} is not among {', '.join(markets.values())}")
    is_long = asked.side is Side.LONG
    await desk.second.refresh()
    price = asked.price
    if asked.entry is Entry.MARKET:
        if price is not None:
            raise OperatorError("an opening at the market takes no price: leave it out, or say limit or stop")
        quote = await quote_of(desk, pair)
        price = quote.ask if is_long else quote.bid
    if price is None:
        raise OperatorError(f"a {asked.entry} needs the price that it waits for")
    order = opening_order(
        pair,
        is_long,
        asked.collateral_usdc,
        asked.leverage,
        price,
        asked.slippage_bps,
        entry=asked.entry,
        take_profit=asked.take_profit,
    )
    if not (asked.name and core.store.intents_of(ACCOUNTS, asked.name)):
        deployment = trading.may_open(core, asked.deployment)
        await trading.try_order(core, asked.name, "open", {**order, "trader": deployment.account})
    return await followed(desk, await trading.open_trade(core, asked.deployment, order, name=asked.name))


def opening_order(
    pair: int,
    is_long: bool,
    collateral: Decimal,
    leverage: Decimal,
    price: Decimal,
    slippage_bps: int,
    *,
    entry: Entry = Entry.MARKET,
    take_profit: Decimal | None = None,
    stop: Decimal | None = None,
) -> dict[str, Any]:
    """Return an opening as an intent keeps it. `price`: the market's, or the one that it waits for; only the first slips."""
    order: dict[str, Any] = {
        "pair": pair,
        "is_long": is_long,
        "collateral_usdc": str(collateral),
        "leverage": str(leverage),
        "type": int(OrderType[entry.name]),
        "price": str(price),
        "slippage_bps": slippage_bps if entry is Entry.MARKET else 0,
    }
    order |= {} if take_profit is None else {"take_profit": str(take_profit)}
    return order | ({} if stop is None else {"stop": str(stop)})


async def close_for_user(desk: AccountsDesk, trade: str, share: Decimal, slippage_bps: int) -> Traded:
    """Ask for the close of a trade or a part of it at the market's price, and return how it stands some seconds later. Raises
    as `open_for_user` does.
    """
    core = desk.desk
    row = known_trade(desk, trade)
    quote = await quote_of(desk, row.pair)
    await desk.second.refresh()
    price = quote.bid if row.is_long else quote.ask
    if not core.store.unfinished_intents(ACCOUNTS, trade):
        order = trading.close_order(row, price, slippage_bps, share)
        if share != 1 or not await trading.lacks_fee(core, row):
            await trading.try_order(core, trade, "close", order)
    await trading.close_trade(core, trade, price, slippage_bps, share=share)
    return await followed(desk, trade)


async def withdraw_for_user(desk: AccountsDesk, trade: str) -> Traded:
    """Cancel an order that waits for its price. Raises OperatorError where none waits."""
    known_trade(desk, trade)
    await waiting.withdraw(desk.desk, trade)
    return await followed(desk, trade)


def known_trade(desk: AccountsDesk, name: str) -> AccountTrade:
    """Return a trade by its name. Raises OperatorError where there is none."""
    found = next((one for one in desk.desk.store.accounts.trades() if one.name == name), None)
    if found is None:
        raise OperatorError(f"there is no trade {name!r}: `evenkeel accounts list` shows them")
    return found


async def followed(desk: AccountsDesk, name: str) -> Traded:
    """Return how a trade stands once nothing of it is under way, or as it is after a little while."""
    core = desk.desk
    for _ in range(SETTLES_WITHIN_S):
        await desk.tick()
        [*intents] = core.store.unfinished_intents(ACCOUNTS, name)
        if not intents:
            break
        await core.clock.sleep(1.0)
    asked = [one for one in core.store.intents_of(ACCOUNTS, name) if one.kind in ("open", "close", "cancel")]
    row = core.store.accounts.trade(name)
    why = asked[-1].failure or ("the keeper has not settled it yet: `accounts watch`" if intents else "")
    if not why and waiting.is_waiting(row):
        why = "it waits for its price"
    return Traded(
        trade=name,
        state=row.state.value,
        trade_id=row.trade_id,
        open_price=row.open_price,
        paid_usdc=row.paid_usdc,
        result_usdc=row.result_usdc,
        why=why,
    )


async def quote_of(desk: AccountsDesk, pair: int) -> Quote:
    """Return the venue's price of a market. Raises Retryable where its list has none, UNREAD."""
    quote = (await desk.prices.now()).get(pair)
    if quote is None:
        name = desk.desk.settings.ostium.markets.get(pair, str(pair))
        raise Retryable(f"the venue's list has no price of {name} now")
    return quote

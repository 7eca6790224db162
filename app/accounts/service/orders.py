"""What the service does: a trade opened, closed or cancelled, a balance and positions shown."""

from __future__ import annotations

import hashlib
from decimal import ROUND_DOWN, Decimal
from typing import Annotated, Any, Literal

from pydantic import Field

from app.accounts.service.answers import Answer, Body, Refused, number
from app.accounts.service.service import Service, Work, account_for
from app.accounts.service.tokens import Caller
from evenkeel.errors import UNREAD, LostRace, Retryable
from evenkeel.types import IntentState
from state.accounts.models import AccountTrade, Deployment, DeploymentState, SettlementRow, TradeState
from state.accounts.store import ACCOUNTS, ENDED
from tasks.accounts import trading
from tasks.accounts.asked import Entry, opening_order
from tasks.accounts.waiting import cancel_order, is_waiting
from tasks.intents import Done, Ending, NotDone, StillUnknown, carry_out
from venues.ostium.prices import Quote

Address = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
Amount = Annotated[Decimal, Field(gt=0, lt=10**9)]
UNIT = Decimal("0.000001")
AGAIN_S = 0.5
LIVE = (TradeState.PENDING, TradeState.OPEN, TradeState.CLOSING, TradeState.STALE)


class OpenBody(Body):
    """An opening at the market, or (`orderType` limit or stop) one that waits at the venue for its `price`, USD. `size` is in
    units of the asset; `collateral`, in USDC, may be given in its place.
    """

    address: Address | None = None
    deployment: str | None = Field(default=None, max_length=100)
    market: str = Field(max_length=20)
    side: Literal["long", "short"]
    size: Amount | None = None
    collateral: Amount | None = None
    leverage: Annotated[Decimal, Field(ge=1, le=1000, decimal_places=2)] = Decimal(1)
    order_type: Entry = Entry.MARKET
    price: Amount | None = None
    slippage_bps: Annotated[int, Field(ge=1, le=1_000)] = 50
    take_profit: Amount | None = None
    stop_loss: Amount | None = None


class CloseBody(Body):
    """A close of one trade, named by `trade` (its name), `tradeId` (its number on the chain) or, where there is one only, its
    market.
    """

    address: Address | None = None
    market: str | None = Field(default=None, max_length=20)
    trade: str | None = Field(default=None, max_length=200)
    trade_id: Annotated[str, Field(pattern=r"^[0-9]{1,78}$")] | None = None
    share: Annotated[Decimal, Field(gt=0, le=1, decimal_places=4)] = Decimal(1)
    slippage_bps: Annotated[int, Field(ge=1, le=1_000)] = 50


class CancelBody(Body):
    """An order that waits for its price, named by its trade."""

    trade: str = Field(max_length=200)


# --- reading ---


async def balance(service: Service, who: Caller, address: str | None) -> Answer:
    """The USDC of a wallet, of these what the venue can take, and what is in trades."""
    account = account_for(service, who, address)
    held, free = await service.venue.usdc_of(account), await service.venue.free_usdc(account)
    paid = sum((one.paid_usdc for one in service.trades_of(who, account) if one.state in LIVE), Decimal(0))
    body = {
        "success": True,
        "address": account,
        "balance": number(held),
        "available": number(free),
        "inTrades": number(paid),
    }
    return Answer(200, body)


async def positions(service: Service, who: Caller, address: str | None) -> Answer:
    """The trades of an account that are not over."""
    account = account_for(service, who, address)
    rows = [one for one in service.trades_of(who, account) if one.state in LIVE]
    quotes: dict[int, Quote] = {}
    if rows:
        try:
            quotes = await service.accounts_desk.prices.now()
        except UNREAD:
            quotes = {}  # what is open is shown without a price
    return Answer(
        200, {"success": True, "positions": [position(service, one, quotes.get(one.pair)) for one in rows]}
    )


def position(service: Service, row: AccountTrade, quote: Quote | None) -> dict[str, Any]:
    """A trade as programs read it. The profit is what closing now would give over what was paid, before what holding and
    closing cost.
    """
    mark = None if quote is None else (quote.bid if row.is_long else quote.ask)
    profit = None
    if mark is not None and row.open_price:
        move = (mark / row.open_price - 1) * (1 if row.is_long else -1)
        profit = row.collateral_usdc * (1 + row.leverage * move) - row.paid_usdc
    placed = _placing_of(service, row)
    return {
        "trade": row.name,
        "tradeId": row.trade_id,
        "market": service.market(row.pair).replace("/", "-"),
        "side": "long" if row.is_long else "short",
        "state": row.state.value,
        "size": number(row.asset_qty),
        "entryPrice": number(row.open_price),
        "markPrice": number(mark),
        "unrealizedPnl": number(None if profit is None else profit.quantize(UNIT)),
        "realizedPnl": number(row.result_usdc),
        "collateral": number(row.paid_usdc),
        "leverage": number(row.leverage),
        "stopLoss": number(row.stop),
        "openedBy": row.origin.value,
        "orderType": None if placed is None else placed.why,
        "waitsFor": None if placed is None else number(placed.price),
    }


def _placing_of(service: Service, row: AccountTrade) -> SettlementRow | None:
    """How an order was placed that waits for its price; None for a trade that does not."""
    if not is_waiting(row):
        return None
    booked = service.store.accounts.settlements(trade=row.name)
    return next((one for one in booked if one.is_live and one.kind == "placed"), None)


async def quote_of(service: Service, pair: int) -> Quote:
    """The price of a market now. Raises Refused where it is closed, Retryable where the list has none."""
    await service.accounts_desk.second.refresh()
    found = (await service.accounts_desk.prices.now()).get(pair)
    if found is None:
        raise Retryable(f"the venue's list has no price of {service.market(pair)} now")
    if not found.is_open:
        raise Refused(409, f"market {service.market(pair)} is closed now")
    return found


# --- opening ---


async def prepare_open(service: Service, who: Caller, body: OpenBody, key: str) -> Work:
    """What opens the trade, judged by the venue, the chain and the key's own validator; nothing is stored or signed."""
    account = account_for(service, who, body.address)
    pair = service.pair(body.market)
    deployment = _deployment_for(service, account, body.deployment)
    trading.may_open(service.desk, deployment.deployment_id)
    price = body.price
    if body.order_type is Entry.MARKET:
        if price is not None:
            raise Refused(422, "price: an opening at the market takes none; say orderType limit or stop")
        quote = await quote_of(service, pair)
        price = quote.ask if body.side == "long" else quote.bid
    elif price is None:
        raise Refused(422, f"price: a {body.order_type} needs the price that it waits for")
    else:  # it waits through hours in which the market is closed
        await service.accounts_desk.second.refresh()
    order = opening_order(
        pair,
        body.side == "long",
        _collateral(body, price),
        body.leverage,
        price,
        body.slippage_bps,
        entry=body.order_type,
        take_profit=body.take_profit,
        stop=body.stop_loss,
    )
    mark = hashlib.sha256(f"{who.token_id}/{key}".encode()).hexdigest()[:16]
    name = f"{deployment.deployment_id}-{mark}"
    await trading.try_order(service.desk, name, "open", {**order, "trader": account})
    return {"trade": name, "deployment": deployment.deployment_id, "order": order}


async def do_open(service: Service, work: Work) -> Answer:
    """Open it, or go on with it."""
    name, desk = str(work["trade"]), service.desk
    if not desk.store.intents_of(ACCOUNTS, name):
        trading.may_open(desk, work["deployment"])
    intent = trading.plan_open(desk, work["deployment"], work["order"], name)
    end = await _ended(service, intent)
    trading.give_up(desk, name)
    row = position(service, desk.store.accounts.trade(name), None)
    if isinstance(end, Done):
        return Answer(200, {"success": True, "result": row})
    return not_yet(end, row)


def _deployment_for(service: Service, account: str, name: str | None) -> Deployment:
    mine = service.store.accounts.deployments(account=account)
    if name is not None:
        mine = [one for one in mine if one.deployment_id == name]
        if not mine:
            raise Refused(404, f"{account} has no deployment of that name")
    active = [one for one in mine if one.state is DeploymentState.ACTIVE]
    if len(active) > 1:
        raise Refused(
            422, f"deployment: name one of {', '.join(one.deployment_id for one in active)}, all are active"
        )
    return active[0] if active else mine[0]


def _collateral(body: OpenBody, price: Decimal) -> Decimal:
    if (body.size is None) == (body.collateral is None):
        raise Refused(422, "size: give size, in units of the asset, or collateral, in USDC, and not both")
    wanted = body.collateral if body.size is None else body.size * price / body.leverage
    assert wanted is not None
    found = wanted.quantize(UNIT, rounding=ROUND_DOWN)
    if not found:
        raise Refused(422, f"{'collateral' if body.size is None else 'size'}: less than one unit of USDC")
    return found


# --- closing ---


async def prepare_close(service: Service, who: Caller, body: CloseBody, key: str) -> Work | Answer:
    """What closes the trade; the answer where no trade is open in that market."""
    row = _trade_for(service, who, body)
    if row is None:
        return Answer(200, {"success": True, "message": "No open position", "closePnl": 0})
    if row.state in ENDED:
        raise Refused(409, f"trade {row.name} is {row.state} already")
    if service.store.unfinished_intents(ACCOUNTS, row.name):
        raise Refused(409, f"an order of trade {row.name} is under way: ask again when it has ended")
    quote = await quote_of(service, row.pair)
    price = quote.bid if row.is_long else quote.ask
    order = trading.close_order(row, price, body.slippage_bps, body.share)
    if body.share == 1 and await trading.lacks_fee(service.desk, row):
        return {"trade": row.name, "stop_at": str(price)}
    await trading.try_order(service.desk, row.name, "close", order)
    return {
        "trade": row.name,
        "step": trading.next_step(service.desk, row.name, "close"),
        "order": order,
    }


async def _left_by_stop(service: Service, name: str, price: Decimal) -> Answer:
    """Close by the stop what the wallet cannot pay an order for, or go on with it."""
    desk, store = service.desk, service.store
    under_way = [one for one in store.unfinished_intents(ACCOUNTS, name) if one.kind == "stop"]
    if under_way:
        end = await _ended(service, under_way[0].intent_id)
    else:
        end = await trading.leave_by_stop(desk, store.accounts.trade(name), price)
    row = store.accounts.trade(name)
    stops = [one for one in store.intents_of(ACCOUNTS, name) if one.kind == "stop"]
    if row.state is not TradeState.CLOSING or not stops or stops[-1].state is not IntentState.CONFIRMED:
        return not_yet(end, position(service, row, None))
    text = "the wallet cannot pay for a close: its stop stands at the market, and a keeper closes it"
    shown = position(service, row, None)
    return Answer(202, {"success": True, "pending": True, "message": text, "result": shown})


async def do_close(service: Service, work: Work) -> Answer:
    """Close it, or go on with it."""
    name, desk = str(work["trade"]), service.desk
    if "stop_at" in work:
        return await _left_by_stop(service, name, Decimal(work["stop_at"]))
    end = await _ended(service, trading.plan_close(desk, name, work["step"], work["order"]))
    row = position(service, desk.store.accounts.trade(name), None)
    if not isinstance(end, Done):
        return not_yet(end, row)
    settled = next(
        (
            one
            for one in desk.store.accounts.settlements(trade=name)
            if one.order_id == end.receipt.ref and one.is_live
        ),
        None,
    )
    if settled is None:
        return not_yet(
            StillUnknown("the chain took the close back: what stands in its place is booked anew"), row
        )
    row |= {
        "exitPrice": number(settled.price),
        "share": number(settled.share),
        "paid": number(settled.paid_usdc),
        "realizedPnl": number(settled.profit_usdc),
        "transaction": settled.transaction,
        "why": settled.why,
    }
    return Answer(200, {"success": True, "result": row, "closePnl": number(settled.profit_usdc)})


def _trade_for(service: Service, who: Caller, body: CloseBody) -> AccountTrade | None:
    """The trade that is meant. Somebody else's is as unknown as one that there is not."""
    account = account_for(service, who, body.address) if body.address or who.account else None
    named = sum(one is not None for one in (body.trade, body.trade_id, body.market))
    if named != 1:
        raise Refused(422, "trade: name one by trade, tradeId or market")
    rows = service.trades_of(who, account)
    if body.market is None:
        found = [
            one for one in rows if body.trade == one.name or (body.trade_id and body.trade_id == one.trade_id)
        ]
        if not found:
            raise Refused(404, "there is no such trade of yours")
        return found[0]
    if account is None:
        raise Refused(422, "address: say whose account is meant, 0x and 40 hex digits")
    pair = service.pair(body.market)
    found = [one for one in rows if one.pair == pair and one.state in LIVE and not is_waiting(one)]
    if len(found) > 1:
        raise Refused(409, f"{len(found)} trades are open in {service.market(pair)}: name one by tradeId")
    return found[0] if found else None


# --- cancelling what waits ---


async def prepare_cancel(service: Service, who: Caller, body: CancelBody, key: str) -> Work:
    """What cancels the order, judged by the venue, the chain and the key's own validator."""
    row = next((one for one in service.trades_of(who, None) if one.name == body.trade), None)
    if row is None:
        raise Refused(404, "there is no such trade of yours")
    if service.store.unfinished_intents(ACCOUNTS, row.name):
        raise Refused(409, f"an order of trade {row.name} is under way: ask again when it has ended")
    order = cancel_order(row)
    await trading.try_order(service.desk, row.name, "cancel", order)
    return {
        "trade": row.name,
        "step": trading.next_step(service.desk, row.name, "cancel"),
        "order": order,
    }


async def do_cancel(service: Service, work: Work) -> Answer:
    """Cancel it, or go on with it."""
    name, desk = str(work["trade"]), service.desk
    end = await _ended(service, trading.plan(desk, name, "cancel", work["step"], work["order"]))
    row = position(service, desk.store.accounts.trade(name), None)
    return Answer(200, {"success": True, "result": row}) if isinstance(end, Done) else not_yet(end, row)


# --- waiting ---


async def _ended(service: Service, intent: str) -> Ending:
    """What became of an order, or that it is under way still when the wait is over. Whoever else drives it is waited for."""
    desk, until_ms = service.desk, service.desk.clock.now_ms() + int(service.settings.service.wait_s * 1000)
    while True:
        try:
            end = await carry_out(desk, intent, None, wait_s=service.settings.service.wait_s)
            if isinstance(end, Done | NotDone):
                return end
        except LostRace as other:
            end = StillUnknown(str(other))
        if desk.clock.now_ms() >= until_ms:
            return end
        await desk.clock.sleep(AGAIN_S)


def not_yet(end: Ending, row: dict[str, Any]) -> Answer:
    """Return why it was not done, or that it is under way still."""
    if isinstance(end, NotDone):
        return Answer(422, {"success": False, "error": " ".join(end.reason.split()), "result": row})
    assert not isinstance(end, Done)
    return Answer(202, {"success": True, "pending": True, "message": end.reason, "result": row})

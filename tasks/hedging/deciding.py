"""What is to be ordered now: every symbol's exposure against its threshold, then against cash, holdings and the calendar."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal

from state.hedging.models import Exposure
from state.watch_models import Pause
from strategy.hedging.decision import HedgeRules, Hold, Order, usd_of, wanted, within_means
from strategy.hedging.sessions import Market, new_york_day
from tasks.admin import ALL
from tasks.hedging.desk import NO_ANSWER, HedgingDesk


@dataclass
class Decisions:
    """What is ordered, and by symbol why what is over its threshold is not; `paused` is what keeps all of it from leaving."""

    orders: dict[str, Order] = field(default_factory=dict)
    holds: dict[str, str] = field(default_factory=dict)
    paused: Pause | None = None


@dataclass
class _Want:
    exposure: Exposure
    rules: HedgeRules
    order: Order
    price: Decimal | None


def paused_by(at: HedgingDesk) -> Pause | None:
    """Return what keeps new hedges from leaving: a pause of all, or of this broker. Open orders are asked about all the same,
    and fills are read.
    """
    found = (one for one in at.desk.store.active_pauses() if one.scope in (ALL, at.broker.name))
    return next(found, None)


async def decide(at: HedgingDesk, market: Market) -> Decisions:
    """Decide each symbol of the settings that has no open order. Raises nothing for what the broker answers: what cannot be
    read is a reason to wait.
    """
    found = Decisions(paused=paused_by(at))
    hedging = at.desk.store.hedging
    now, blocked, paused = at.desk.clock.now_ms(), hedging.blocked(), found.paused
    busy = {one.subject for one in hedging.open_orders()}
    wants: list[_Want] = []
    for exposure in hedging.exposures():
        symbol = exposure.symbol
        if not exposure.open_shares or symbol in busy or symbol not in at.settings.symbols:
            continue
        rules = at.rules(symbol)
        answer = wanted(exposure.open_shares, exposure.price_usd, rules, flatten=market is Market.CLOSING)
        if isinstance(answer, Hold):
            if answer.is_short_of:
                found.holds[symbol] = answer.why
        elif paused is not None:
            found.holds[symbol] = f"paused ({paused.scope}): {paused.reason}"
        elif not market.takes_orders:
            found.holds[symbol] = (
                f"the market is {market}" if market is Market.CLOSED else "no calendar is known"
            )
        elif symbol in blocked and blocked[symbol].until_ms > now:
            found.holds[symbol] = f"blocked: {blocked[symbol].why}"
        else:
            wants.append(_Want(exposure, rules, answer, exposure.price_usd))
    if wants:
        await _within_means(at, wants, market, found)
    return found


async def _within_means(at: HedgingDesk, wants: list[_Want], market: Market, found: Decisions) -> None:
    await asyncio.gather(*(_by_asset(at, one, market) for one in wants))
    buys = [one for one in wants if one.order.side == "buy"]

    async def priced(one: _Want) -> None:
        one.price = await _price(at, one.exposure)

    means = asyncio.gather(
        _cash(at) if buys else _nothing(), _held(at) if len(buys) < len(wants) else _nothing()
    )
    (left, held), _ = await asyncio.gather(means, asyncio.gather(*(priced(one) for one in buys)))
    for one in sorted(wants, key=lambda one: -usd_of(one.order.qty, one.price or Decimal(0))):
        symbol = one.exposure.symbol
        shares = None if held is None else held.get(symbol, Decimal(0))
        if one.order.qty <= 0:
            continue  # a part of a share of what is traded in whole ones only
        answer = within_means(one.order, one.price, one.rules, cash_usd=left, held=shares)
        if isinstance(answer, Hold):
            if answer.is_short_of:
                found.holds[symbol] = answer.why
            continue
        found.orders[symbol] = answer
        if answer.qty < one.order.qty:
            found.holds[symbol] = (
                f"only {answer.qty} of {one.order.qty} shares can be ordered with what there is"
            )
        if answer.side == "buy" and left is not None and one.price is not None:
            left -= answer.qty * one.price


async def _by_asset(at: HedgingDesk, one: _Want, market: Market) -> None:
    """Cut an order to whole shares where the broker says that of the symbol; it is asked once a day."""
    symbol, today = one.exposure.symbol, new_york_day(at.desk.clock.now_ms())
    day, asset = at.assets.get(symbol, (None, None))
    if day != today:
        try:
            asset = await at.broker.asset(symbol)
        except NO_ANSWER:
            return  # the broker judges the order itself
        at.assets[symbol] = (today, asset)
    if asset is not None and not asset.fractionable and one.rules.decimals:
        one.rules = at.rules(symbol, fractionable=False)
        answer = wanted(one.exposure.open_shares, one.price, one.rules, flatten=market is Market.CLOSING)
        one.order = answer if isinstance(answer, Order) else Order(side=one.order.side, qty=Decimal(0))


async def _cash(at: HedgingDesk) -> Decimal | None:
    """Return the broker's cash less what open buys may still cost; None where it cannot be read."""
    try:
        cash = await at.broker.cash()
    except NO_ANSWER:
        return None
    hedging = at.desk.store.hedging
    for intent in hedging.open_orders():
        if intent.order["side"] != "buy":
            continue
        price = hedging.exposure(intent.subject).price_usd
        done = Decimal(intent.so_far["done_qty"]) if intent.so_far else Decimal(0)
        rest = max(Decimal(intent.order["qty"]) - done, Decimal(0))
        if price is None:
            return None
        cash -= rest * price * (1 + at.settings.most_slippage)
    return cash


async def _held(at: HedgingDesk) -> dict[str, Decimal] | None:
    """Return the shares that may be sold by symbol; None where they cannot be read."""
    try:
        return {symbol: one.sellable for symbol, one in (await at.broker.holdings()).items()}
    except NO_ANSWER:
        return None


async def _price(at: HedgingDesk, exposure: Exposure) -> Decimal | None:
    """Return what a share may cost at most: the broker's last price, else the chain's, and the slippage of the settings."""
    price: Decimal | None = None
    with suppress(*NO_ANSWER):
        price = await at.broker.price(exposure.symbol)
    price = price or exposure.price_usd
    return None if price is None else price * (1 + at.settings.most_slippage)


async def _nothing() -> None:
    """Nothing is asked."""

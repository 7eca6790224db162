"""An order that a person asks for, by the same way as a hedge: one intent, judged, booked, and counted into the exposure."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.errors import OperatorError
from state.models import Fence, Intent
from strategy.hedging.decision import Order, Side, cut, within_means
from tasks.hedging.desk import HedgingDesk
from tasks.hedging.orders import plan, sweep
from tasks.hedging.running.sole import say_taken
from tasks.intents import carry_out

FOLLOWED_S = 20
"""So many seconds an order is followed; one that is open still is taken up by the next pass."""


async def order_by_hand(
    at: HedgingDesk, symbol: str, side: Side, qty: Decimal, fence: Fence | None
) -> Intent:
    """Send one market order, follow it for a while, and return its intent as it stands then.

    Raises OperatorError for what is refused before it leaves, LostRace where the symbol has an open order, UNREAD where the
    broker cannot say what it holds.
    """
    if symbol not in at.settings.symbols:
        raise OperatorError(f"{symbol} is not among {', '.join(sorted(at.settings.symbols))}")
    asset = await at.broker.asset(symbol)
    rules = at.rules(symbol, fractionable=asset.fractionable)
    if qty <= 0 or qty != cut(qty, rules.decimals):
        raise OperatorError(f"{qty} shares: give more than 0, with at most {rules.decimals} decimals")
    if qty > rules.most_shares:
        raise OperatorError(
            f"{qty} shares are more than {rules.most_shares}, the most of one order of {symbol}"
        )
    price = await at.broker.price(symbol) or at.desk.store.hedging.exposure(symbol).price_usd
    most = None if price is None else price * (1 + at.settings.most_slippage)
    cash = await at.broker.cash() if side == "buy" else None
    holding = (await at.broker.holdings()).get(symbol) if side == "sell" else None
    held = holding.sellable if holding is not None else Decimal(0)
    order = Order(side=side, qty=qty)
    answer = within_means(order, most, rules, cash_usd=cash, held=held)
    if answer != order:
        why = (
            answer.why
            if not isinstance(answer, Order)
            else f"only {answer.qty} shares can be ordered with what there is"
        )
        raise OperatorError(f"{side} {qty} {symbol} is not sent: {why}")
    intent = plan(at, symbol, order, fence)
    await carry_out(at.desk, intent.intent_id, fence, wait_s=at.settings.order_wait_s)
    say_taken(at)
    for _ in range(FOLLOWED_S):
        if at.desk.store.hedging.open_order(symbol) is None:
            break
        await at.desk.clock.sleep(1.0)
        await sweep(at, fence)
    return at.desk.store.intent(intent.intent_id)

"""A difference between broker and ledger that a person settles: it is booked as a row of the books, and the exposure moves.

Two kinds. An order that was booked and of which the broker now shows less (a fill that was busted, a price that was corrected):
nothing confirms it, so its symbol stands still; it is closed with what is booked of it, and what the broker shows instead is
booked beside. And shares that are there or missing with no order at all (sold by hand at the broker's own page, moved away).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from evenkeel.errors import OperatorError
from evenkeel.types import Confirmed, Frozen, Receipt, Rejected, Signed
from state.hedging.amounts import ZERO, minus, plus, times
from state.hedging.moving import BUY, SELL
from state.hedging.settling import SettledShares
from state.models import Fence, Intent
from tasks.admin import user_here
from tasks.hedging.choosing import refuse_no_reason
from tasks.hedging.desk import HedgingDesk
from tasks.hedging.orders import BLOCKED, UNCLEAR, sweep
from tasks.hedging.reconciling import (
    HedgingDifference,
    base_of,
    broker_figures,
    reconcile_hedging,
    without_rounding,
)

OTHER = {BUY: SELL, SELL: BUY}


class Settled(Frozen):
    """What was booked under which name, what is open of the symbol since, and what still differs."""

    name: str
    symbol: str
    rows: tuple[dict[str, str], ...]
    open_shares: Decimal
    differences: tuple[HedgingDifference, ...]


async def settle(
    at: HedgingDesk, symbol: str, reason: str, usd: Decimal | None, fence: Fence | None, *, yes: bool
) -> Settled:
    """Book what the broker has more or less of a symbol than the ledger says. `usd` is what the shares cost or brought, where
    no order says it; None takes it from the broker's cash.

    Raises OperatorError, with nothing booked, for what is not clear, without `yes`, and UNREAD.
    """
    store, name = at.desk.store, at.broker.name
    known = {*at.settings.symbols, *(one.symbol for one in store.hedging.exposures())}
    if symbol not in known:
        raise OperatorError(f"symbol {symbol!r} is not among {', '.join(sorted(known)) or 'any'}")
    refuse_no_reason(reason)
    at.heard.add("")
    await sweep(at, fence)
    order = store.hedging.open_order(symbol)
    rows = await _of_order(at, order) if order is not None else await _of_shares(at, symbol, usd)
    words = " and ".join(f"{one.side} {one.qty:f} {symbol} for {one.usd:f} USD" for one in rows)
    after = store.hedging.exposure(symbol).open_shares
    for one in rows:
        after = plus(after, one.qty) if one.side == BUY else minus(after, one.qty)
    if not yes:
        closes = f"close {order.intent_id} with what is booked of it, and " if order is not None else ""
        raise OperatorError(
            f"nothing is booked without --yes: it would {closes}book {words or 'nothing'} at {name}, with {after:f} "
            "shares open then, which the next pass hedges"
        )
    why = f"{user_here()} settled it ({words or 'nothing differs'}): {reason.strip()}"
    with store.one_transaction():
        if order is not None:
            store.confirm(
                order.intent_id, Receipt.model_validate(order.so_far), evidence=why[:500], fence=fence
            )
        booked = store.hedging.settle(symbol, name, rows, why, fence) if rows else ""
        store.hedging.unblock_symbol(symbol, why[:500], fence)
    for kind in (BLOCKED, UNCLEAR):
        store.ack_alert(kind, symbol)
    found = await reconcile_hedging(at)
    return Settled(
        name=booked or (order.intent_id if order is not None else ""),
        symbol=symbol,
        rows=tuple({"side": one.side, "shares": f"{one.qty:f}", "usd": f"{one.usd:f}"} for one in rows),
        open_shares=store.hedging.exposure(symbol).open_shares,
        differences=found.differences,
    )


async def _of_order(at: HedgingDesk, order: Intent) -> Sequence[SettledShares]:
    """What corrects an open order that is over at the broker with less than is booked of it. Raises OperatorError where it is
    not.
    """
    store, name = at.desk.store, order.intent_id
    attempt = store.live_attempt(name)
    booked = store.hedging.hedges(intent_id=name)
    if attempt is None or order.so_far is None or not booked:
        raise OperatorError(
            f"{name} is open and nothing of it is booked: the next pass takes it up by itself"
        )
    had, had_usd, ref = booked[-1].cumulative, booked[-1].cumulative_usd, booked[-1].order_ref
    outcome = await at.broker.find(order.spec, Signed(key=attempt.key, wire=None))
    done = usd = ZERO
    if isinstance(outcome, Confirmed):
        done, price = outcome.value.done_qty, outcome.value.avg_price_usd
        if done > 0 and (price is None or price <= 0):
            raise OperatorError(
                f"{at.broker.name} shows {done:f} shares of {name} at no price: nothing is guessed"
            )
        usd = times(price or ZERO, done)
    elif not (isinstance(outcome, Rejected) and outcome.seen):
        raise OperatorError(
            f"{name} is not over at {at.broker.name} ({outcome.reason}): what is filled of it may still change"
        )
    side = str(order.order["side"])
    if done == had and usd == had_usd:
        return []
    if done < had and usd <= had_usd:
        return [SettledShares(OTHER[side], minus(had, done), minus(had_usd, usd), ref)]
    undone = SettledShares(OTHER[side], had, had_usd, ref)
    return [undone, SettledShares(side, done, usd, ref)] if done > 0 else [undone]


async def _of_shares(at: HedgingDesk, symbol: str, usd: Decimal | None) -> Sequence[SettledShares]:
    """What the broker's shares are apart from ledger and base, with what they cost or brought. Raises OperatorError where
    nothing is, or the amount cannot be known.
    """
    name = at.broker.name
    shown, booked, left_out = await broker_figures(at)
    base, what, cash = base_of(at), f"{symbol} at {name}", f"cash at {name}"
    if why := left_out.get(name) or left_out.get(what):
        raise OperatorError(f"{what} cannot be compared now: {why}")
    if what not in base:
        raise OperatorError(
            f"{what} was never compared, so nobody knows what it differed by before: `compare-broker-and-vaults` takes "
            "what is there as the base"
        )
    apart = {
        one: without_rounding(one, minus(minus(figure, booked[one]), base[one]))
        for one, figure in shown.items()
        if one in base
    }
    shares, of_cash = apart[what], apart.get(cash, ZERO)
    if not shares:
        raise OperatorError(f"{what} is what the ledger says: there is nothing to settle")
    others = [one for one, figure in apart.items() if figure and one not in (what, cash)]
    if usd is None and (others or not of_cash or (of_cash > 0) == (shares > 0)):
        also = f", and {', '.join(others)} differs too" if others else ""
        raise OperatorError(
            f"{what} differs by {shares:f} shares and the cash by {of_cash:f} USD{also}: say with --usd what the shares cost "
            "or brought (0 where nothing was paid)"
        )
    amount = abs(of_cash) if usd is None else usd
    if amount < 0:
        raise OperatorError(f"{amount} USD: give 0 or more")
    return [SettledShares(BUY if shares > 0 else SELL, abs(shares), amount)]

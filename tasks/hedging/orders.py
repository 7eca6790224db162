"""Hedges by intents of the one machine: one sweep over all that are open, and a new one where a symbol has none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from uuid import uuid4

from evenkeel.errors import EvenkeelError, LedgerUnavailable, LostRace
from evenkeel.types import IntentSpec
from state.hedging.models import BlockedSymbol
from state.hedging.store import HEDGE, HEDGING
from state.models import Fence, Intent
from state.watch_models import Severity
from strategy.hedging.decision import Order
from tasks.hedging.desk import HedgingDesk
from tasks.hedging.running.sole import say_taken
from tasks.intents import Done, Ending, NotDone, StillUnknown, carry_out
from venues.broker import HedgeOrder
from venues.broker_rules import text_of

BLOCKED = "symbol blocked"
"""The alert of a symbol that gets no order for now, and why; the others go on."""
UNCLEAR = "hedge unclear"
"""The alert of an order of which the broker cannot say what became of it: nothing is sent in its place."""
FIRST_WAIT_MS, MOST_WAIT_MS = 10_000, 900_000
UNCLEAR_AFTER_MS = 120_000
AT_ONCE = 8
"""Orders that are asked about or sent at a time."""


async def sweep(at: HedgingDesk, fence: Fence | None) -> dict[str, Ending | str]:
    """Ask about every open order that is due, or of which the broker has pushed something, all side by side. Return by symbol
    how it stands, or why that was not found out.

    One of which nothing has left is given up: what is open is decided anew, by the figures of now.
    """
    found: dict[str, Ending | str] = {}
    heard, at.heard = at.heard, set()

    async def one(intent: Intent) -> None:
        if not intent.state.may_be_on_the_wire:
            at.desk.store.fail_unsent(
                intent.intent_id, "given up before it was sent: decided anew", fence=fence
            )
            return
        is_heard = _is_heard(at, intent, heard)
        found[intent.subject] = await _ended(
            at, intent.subject, fence, lambda: _carry(at, intent, fence, ask_now=is_heard)
        )

    await _side_by_side([_bound(one, intent) for intent in at.desk.store.hedging.open_orders()])
    return found


async def place(at: HedgingDesk, wanted: dict[str, Order], fence: Fence | None) -> dict[str, Ending | str]:
    """Plan and send one order for each of these symbols. What stops one stops no other. Return how each stands."""
    found: dict[str, Ending | str] = {}

    async def one(symbol: str) -> None:
        found[symbol] = await _ended(at, symbol, fence, lambda: _new(at, symbol, wanted[symbol], fence))

    await _side_by_side([_bound(one, symbol) for symbol in wanted])
    say_taken(at)
    return found


def plan(at: HedgingDesk, symbol: str, order: Order, fence: Fence | None) -> Intent:
    """Write the intent of a symbol's next hedge. Raises LostRace where it has an open one."""
    hedging = at.desk.store.hedging
    step, anchor = hedging.next_step(symbol), anchor_of(at, symbol)
    wire = HedgeOrder(
        symbol=symbol,
        side=order.side,
        qty=order.qty,
        marked_ms=at.desk.clock.now_ms(),
        anchor=anchor,
        tries=hedging.tries(symbol, anchor),
    )
    spec = IntentSpec(
        intent_id=f"hedge-{symbol}-{step}-{uuid4().hex[:8]}",
        business=HEDGING,
        subject=symbol,
        venue=at.broker.name,
        kind=HEDGE,
        step=step,
        order=wire.model_dump(mode="json"),
    )
    return at.desk.store.plan_intent(spec, fence=fence)


def anchor_of(at: HedgingDesk, symbol: str) -> str:
    """Return what every process has in common that would send this symbol's next hedge, whatever its ledger and however far it
    has read: the account, from where on which fills are counted, and what was hedged of them so far.
    """
    chain, one = at.settings.chain, at.settings.symbols[symbol]
    so_far = at.desk.store.hedging.exposure(symbol)
    said = (
        *(at.account, chain.chain_id, chain.orderbook, chain.owner, chain.start_block),
        *(one.token, one.broker_symbol or symbol, text_of(so_far.hedge_bought), text_of(so_far.hedge_sold)),
    )
    return sha256("|".join(map(str, said)).lower().encode()).hexdigest()[:32]


async def _new(at: HedgingDesk, symbol: str, order: Order, fence: Fence | None) -> Ending:
    return await _carry(at, plan(at, symbol, order, fence), fence)


def _is_heard(at: HedgingDesk, intent: Intent, heard: set[str]) -> bool:
    """Whether the broker has pushed something of this order, or may have while nobody listened."""
    if not heard:
        return False
    attempt = at.desk.store.live_attempt(intent.intent_id)
    return "" in heard or (attempt is not None and attempt.key.get("client_order_id") in heard)


async def _carry(at: HedgingDesk, intent: Intent, fence: Fence | None, *, ask_now: bool = False) -> Ending:
    wait_s = at.settings.order_wait_s
    return await carry_out(at.desk, intent.intent_id, fence, wait_s=wait_s, ask_now=ask_now)


async def _ended(
    at: HedgingDesk, symbol: str, fence: Fence | None, act: Callable[[], Awaitable[Ending]]
) -> Ending | str:
    """Do it, and note by name what stands in the symbol's way. Raises LostRace where another process hedges, and
    LedgerUnavailable: both end the pass.
    """
    try:
        ending = await act()
    except (LostRace, LedgerUnavailable):
        raise
    except EvenkeelError as error:
        _block(at, symbol, str(error), fence, is_refused=True)
        return str(error)
    if isinstance(ending, NotDone):
        _block(at, symbol, ending.reason, fence, is_refused=ending.refused)
    elif isinstance(ending, StillUnknown):
        _say_unclear(at, symbol, ending.reason)
    else:
        _clear(at, symbol, fence, is_done=isinstance(ending, Done))
    return ending


def _block(at: HedgingDesk, symbol: str, why: str, fence: Fence | None, *, is_refused: bool) -> None:
    """Let the symbol wait, longer each time. A limit or an outage of the broker is nobody's refusal: it waits briefly, and is
    reported once it lasts.
    """
    hedging, now = at.desk.store.hedging, at.desk.clock.now_ms()
    times = hedging.blocked()[symbol].times if symbol in hedging.blocked() else 0
    wait_ms = min(FIRST_WAIT_MS * 2 ** min(times, 10), MOST_WAIT_MS if is_refused else 6 * FIRST_WAIT_MS)
    row = hedging.block_symbol(symbol, why, now + wait_ms, fence)
    if is_refused or row.times >= 3:
        say_blocked(at, row)


def say_blocked(at: HedgingDesk, row: BlockedSymbol) -> None:
    """Alert a person of a symbol that gets no order for now."""
    exposure = at.desk.store.hedging.exposure(row.symbol)
    at.desk.store.alert(
        BLOCKED,
        Severity.WARNING if row.times < 3 else Severity.CRITICAL,
        f"{row.symbol} has no hedge ({row.times} in a row): {row.why}; {exposure.open_shares:f} shares are open, the next try "
        "comes by itself",
        subject=row.symbol,
    )


def _say_unclear(at: HedgingDesk, symbol: str, why: str) -> None:
    order = at.desk.store.hedging.open_order(symbol)
    if order is None or at.desk.clock.now_ms() - order.created_ms < UNCLEAR_AFTER_MS:
        return
    at.desk.store.alert(
        UNCLEAR,
        Severity.CRITICAL,
        f"what became of {order.intent_id} ({order.order['side']} {order.order['qty']} {symbol}) is not known: {why}; nothing "
        "is sent in its place, find it in the broker's own list of orders; of several, `evenkeel hedging choose` takes one",
        subject=symbol,
    )


def _clear(at: HedgingDesk, symbol: str, fence: Fence | None, *, is_done: bool) -> None:
    store = at.desk.store
    if is_done and symbol in store.hedging.blocked():
        store.hedging.unblock_symbol(symbol, "hedged", fence)
    for alert in store.open_alerts_of(symbol):
        if alert.kind == UNCLEAR or (is_done and alert.kind == BLOCKED):
            store.ack_alert(alert.kind, symbol)


def _bound(act: Callable[..., Awaitable[None]], what: object) -> Callable[[], Awaitable[None]]:
    return lambda: act(what)


async def _side_by_side(acts: list[Callable[[], Awaitable[None]]]) -> None:
    """Do all, some at a time; each to its end, then raise what the first of them raised."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(act: Callable[[], Awaitable[None]]) -> None:
        async with turns:
            await act()

    for result in await asyncio.gather(*(one(act) for act in acts), return_exceptions=True):
        if isinstance(result, BaseException):
            raise result

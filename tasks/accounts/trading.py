"""A trade in a user's name, opened, closed or guarded by intents of the one machine; and a charge, pulled once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar
from uuid import uuid4

from evenkeel.errors import Bug, EvenkeelError, LostRace, OperatorError, words_of
from evenkeel.types import IntentSpec, IntentState
from state.accounts.many import OSTIUM
from state.accounts.models import AccountTrade, ChargeRow, Deployment, DeploymentState, Origin, TradeState
from state.accounts.store import ACCOUNTS
from state.columns import plain_json
from state.models import Fence
from state.watch_models import Severity
from strategy.accounts.conditions import UNPAYABLE
from strategy.accounts.share import ChargeState
from strategy.accounts.stops import TradeSeen, beyond, way_out_stop
from tasks.admin import ALL, ENTRIES
from tasks.desk import Desk
from tasks.intents import Done, Ending, NotDone, carry_out
from venues.ostium.venue import OstiumVenue

log = logging.getLogger("evenkeel.accounts")
T = TypeVar("T")
CHARGES = "charges"
"""Names of a desk's venues: where trades are, and what pulls charges."""
UNITS = 6
AT_ONCE = 16
"""Trades or charges that one process works on at a moment."""


async def open_trade(
    desk: Desk, deployment_id: str, order: dict[str, Any], *, name: str = "", wait_s: float = 30.0
) -> str:
    """Store the trade, ask for it, and return its name; what became of it is in the ledger. `name` makes it once: the
    same again is the same trade. Raises OperatorError where the deployment is not active, or
    openings are paused.
    """
    may_open(desk, deployment_id)
    trade = name or f"{deployment_id}-{uuid4().hex[:12]}"
    intent = plan_open(desk, deployment_id, order, trade)
    await carry_out(desk, intent, None, wait_s=wait_s)
    give_up(desk, trade)
    return trade


def plan_open(desk: Desk, deployment_id: str, order: dict[str, Any], name: str) -> str:
    """Store a trade and its opening, or find them stored; return the intent. `may_open` is the caller's to ask."""
    deployment = desk.store.accounts.deployment(deployment_id)
    now = desk.clock.now_ms()
    desk.store.accounts.add_trade(
        AccountTrade(
            name=name,
            chain=chain_of(desk),
            venue=OSTIUM,
            account=deployment.account,
            deployment_id=deployment_id,
            origin=Origin.DESK,
            state=TradeState.PENDING,
            pair=int(order["pair"]),
            is_long=bool(order["is_long"]),
            leverage=Decimal(str(order["leverage"])),
            created_ms=now,
            updated_ms=now,
        )
    )
    return plan(desk, name, "open", 0, {**order, "trader": deployment.account})


def may_open(desk: Desk, deployment_id: str) -> Deployment:
    """Return the deployment. Raises OperatorError where it is not active, or openings are paused here."""
    deployment = desk.store.accounts.deployment(deployment_id)
    if deployment.state is not DeploymentState.ACTIVE:
        raise OperatorError(f"deployment {deployment_id} is {deployment.state}: nothing is opened for it")
    if (found := openings_paused(desk)) is not None:
        raise OperatorError(f"openings are paused: {found} (`evenkeel resume`)")
    return deployment


def openings_paused(desk: Desk) -> str | None:
    """Return what pauses openings here and why, None where nothing does."""
    found = [one for one in desk.store.active_pauses() if one.scope in (ENTRIES, ALL, OSTIUM)]
    return f"{found[0].scope}, {found[0].reason}" if found else None


async def try_order(desk: Desk, subject: str, kind: str, order: dict[str, Any]) -> None:
    """Have the venue and the chain judge an order that nobody has stored: nothing is signed, and nothing changes. Raises
    VenueRefused in one line, UNREAD.
    """
    venue = desk.venue(OSTIUM)
    if not isinstance(venue, OstiumVenue):
        raise Bug("the desk's venue of trades is another one")
    await venue.try_order(_spec(subject, kind, 0, order, OSTIUM))


def give_up(desk: Desk, name: str) -> None:
    """Note that a trade never was, where its opening has failed. What a cancelled one cost is booked by the chain's word."""
    trade = desk.store.accounts.trade(name)
    opening = [one for one in desk.store.intents_of(ACCOUNTS, name) if one.kind == "open"]
    if trade.state is TradeState.PENDING and opening and opening[0].state is IntentState.FAILED:
        desk.store.accounts.change_trade(name, opening[0].failure or "not opened", state=TradeState.FAILED)


async def close_trade(
    desk: Desk,
    name: str,
    price: Decimal,
    slippage_bps: int,
    *,
    share: Decimal = Decimal(1),
    fence: Fence | None = None,
) -> Ending:
    """Ask for the close of a trade or a part of it, or go on with what was asked for. Where the wallet cannot pay what an order
    takes first, the whole is closed by its stop, which is set at the market and costs nothing. Raises LostRace for one that has
    ended, OperatorError for one that is not open, UNREAD where the chain cannot say what the wallet has.
    """
    trade = desk.store.accounts.trade(name)
    going_on = [one for one in desk.store.unfinished_intents(ACCOUNTS, name) if one.kind == "close"]
    if going_on:
        return await carry_out(desk, going_on[0].intent_id, fence)
    order = close_order(trade, price, slippage_bps, share)
    if share == 1 and await lacks_fee(desk, trade):
        return await leave_by_stop(desk, trade, price, fence)
    intent = plan(desk, name, "close", next_step(desk, name, "close"), order, fence)
    return await carry_out(desk, intent, fence)


def close_order(trade: AccountTrade, price: Decimal, slippage_bps: int, share: Decimal) -> dict[str, Any]:
    """Return the order that closes a share of a trade. Raises OperatorError for one that is not open."""
    if trade.trade_id is None or trade.place is None:
        raise OperatorError(f"trade {trade.name} is {trade.state}: there is nothing to close yet")
    return {
        "trader": trade.account,
        "trade_id": int(trade.trade_id),
        "pair": trade.pair,
        "index": trade.place,
        "share": str(share),
        "asset_qty": str(trade.asset_qty),
        "is_long": trade.is_long,
        "price": str(price),
        "slippage_bps": slippage_bps,
    }


def plan_close(desk: Desk, name: str, step: int, order: dict[str, Any]) -> str:
    """Store the close that is a trade's `step`-th, or find it stored; return its intent. Raises LostRace where another close
    has that step, or the trade has ended without it.
    """
    there = [one for one in desk.store.intents_of(ACCOUNTS, name) if (one.kind, one.step) == ("close", step)]
    if there and there[0].order != plain_json(order):
        raise LostRace(f"trade {name} is closed by another order")
    return plan(desk, name, "close", step, order)


async def lacks_fee(desk: Desk, trade: AccountTrade) -> bool:
    """Whether the wallet cannot pay what a close takes before anything comes back. Raises UNREAD."""
    venue = ostium_of(desk)
    fee, free = await asyncio.gather(venue.oracle_fee(trade.pair), venue.free_usdc(trade.account))
    return free < fee


async def leave_by_stop(
    desk: Desk, trade: AccountTrade, price: Decimal, fence: Fence | None = None
) -> Ending:
    """Set the stop of a trade at the market (`price`, USD), so that a keeper closes it without a fee; the trade is CLOSING from
    then on, and the watch moves its stop after the market until it is closed.
    """
    text = f"{trade.account} cannot pay for a close of {trade.name}: its stop is set at the market instead"
    with desk.store.one_transaction():
        desk.store.accounts.change_trade(
            trade.name, "the wallet cannot pay for a close", fence, state=TradeState.CLOSING
        )
        desk.store.alert(UNPAYABLE, Severity.CRITICAL, text, subject=trade.name)
    if desk.store.unfinished_intents(ACCOUNTS, trade.name):
        return NotDone("a stop is being set already", refused=True)
    stop = way_out_stop(seen(trade), beyond(trade.is_long, price))
    if stop == trade.stop:
        return NotDone("its stop stands at the market: a keeper closes it", refused=True)
    end = await set_stop(desk, trade, stop, fence)
    if isinstance(end, Done):
        return NotDone(
            "the wallet cannot pay for a close: its stop stands at the market instead", refused=True
        )
    return end


async def set_stop(
    desk: Desk, trade: AccountTrade, stop: Decimal, fence: Fence | None = None, *, wait_s: float = 30.0
) -> Ending:
    """Ask for a new stop of an open trade."""
    order = {
        "trader": trade.account,
        "trade_id": int(trade.trade_id or 0),
        "pair": trade.pair,
        "index": trade.place,
        "stop": str(stop),
    }
    intent = plan(desk, trade.name, "stop", next_step(desk, trade.name, "stop"), order, fence)
    return await carry_out(desk, intent, fence, wait_s=wait_s)


async def collect(desk: Desk, charge_id: str, fence: Fence | None = None, *, wait_s: float = 30.0) -> Ending:
    """Pull what one charge owes. One that cannot be pulled now is OUTSTANDING, with why; it is tried again another time."""
    charge = desk.store.accounts.charge(charge_id)
    unfinished = desk.store.unfinished_intents(ACCOUNTS, charge_id)
    if unfinished:
        intent = unfinished[0].intent_id
    else:
        order = {"owner": charge.account, "units": int(charge.usdc.scaleb(UNITS))}
        step = next_step(desk, charge_id, "pull")
        intent = plan(desk, charge_id, "pull", step, order, fence, CHARGES)
    end = await carry_out(desk, intent, fence, wait_s=wait_s)
    if isinstance(end, NotDone):
        desk.store.accounts.move_charge(charge_id, ChargeState.OUTSTANDING, end.reason)
    return end


async def collect_all(desk: Desk) -> int:
    """Pull every charge that is due or outstanding; return how many were paid."""
    return paid(await pull_charges(desk))


async def pull_charges(
    desk: Desk, fence: Fence | None = None, *, again_after_ms: int = 0
) -> dict[str, Ending | str]:
    """Pull every charge that is due, and of those that could not be pulled each whose last try is `again_after_ms` ago: side by
    side, so that no owner waits for another. Return what became of each, or the words of its fault, by its name.
    """
    accounts, now_ms = desk.store.accounts, desk.clock.now_ms()
    to_collect = accounts.charges(ChargeState.DUE, ChargeState.OUTSTANDING)
    last = accounts.last_tries(one.charge_id for one in to_collect if one.state == ChargeState.OUTSTANDING)

    def is_wanted(one: ChargeRow) -> bool:
        tried_ms = last.get(one.charge_id)
        return tried_ms is None or now_ms - tried_ms >= again_after_ms

    names = [one.charge_id for one in to_collect if is_wanted(one)]
    return await side_by_side(names, lambda name: collect(desk, name, fence))


def paid(ends: Mapping[str, Ending | str]) -> int:
    """Return how many charges were paid."""
    return sum(isinstance(one, Done) for one in ends.values())


async def side_by_side(
    names: Sequence[str], doing: Callable[[str], Awaitable[T]], at_once: int = AT_ONCE
) -> dict[str, T | str]:
    """Do the same for each name, some at a time; what fails of one is its fault's words and ends no other."""
    places = asyncio.Semaphore(at_once)

    async def one(name: str) -> T | str:
        async with places:
            try:
                return await doing(name)
            except EvenkeelError as fault:
                return words_of(fault)
            except Exception as bug:  # what is wrong with one must not end the others' watch
                log.exception("%s: a fault of ours", name)
                return f"{type(bug).__name__}: {bug}"

    return dict(zip(names, await asyncio.gather(*(one(name) for name in names)), strict=True))


def seen(row: AccountTrade) -> TradeSeen:
    """Return an open trade as its rules see it."""
    if row.open_price is None:
        raise Bug(f"trade {row.name} is {row.state} and has no price")
    return TradeSeen(
        is_long=row.is_long,
        open_price=row.open_price,
        leverage=row.leverage,
        collateral_usdc=row.collateral_usdc,
        paid_usdc=row.paid_usdc,
        costs_usdc=Decimal(0),
        best_price=row.best_price or row.open_price,
        stop=row.stop,
    )


def ostium_of(desk: Desk) -> OstiumVenue:
    """The adapter of trades. Raises Bug where this desk has another one."""
    venue = desk.venue(OSTIUM)
    if not isinstance(venue, OstiumVenue):
        raise Bug("the desk's venue of trades is another one")
    return venue


def chain_of(desk: Desk) -> str:
    """Return the name under which the ledger keeps the chain."""
    return str(getattr(desk.bookkeeper(ACCOUNTS), "chain", ""))


def next_step(desk: Desk, subject: str, kind: str) -> int:
    """Return which of its kind the next order of a trade or charge is."""
    return sum(one.kind == kind for one in desk.store.intents_of(ACCOUNTS, subject))


def plan(
    desk: Desk,
    subject: str,
    kind: str,
    step: int,
    order: dict[str, Any],
    fence: Fence | None = None,
    venue: str = OSTIUM,
) -> str:
    """Store an intent of a trade or charge, or find it stored; return it."""
    return desk.store.plan_intent(_spec(subject, kind, step, order, venue), fence=fence).intent_id


def _spec(subject: str, kind: str, step: int, order: dict[str, Any], venue: str) -> IntentSpec:
    return IntentSpec(
        intent_id=uuid4().hex,
        business=ACCOUNTS,
        subject=subject,
        venue=venue,
        kind=kind,
        step=step,
        order=order,
    )

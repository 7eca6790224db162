"""A trade in a user's name, opened, closed or guarded by intents of the one machine; and a charge, pulled once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

from evenkeel.errors import Bug, LostRace, OperatorError
from evenkeel.types import IntentSpec, IntentState
from state.accounts.models import AccountTrade, Deployment, DeploymentState, Origin, TradeState
from state.accounts.store import ACCOUNTS
from state.columns import plain_json
from state.models import Fence
from strategy.accounts.share import ChargeState
from tasks.admin import ALL, ENTRIES
from tasks.desk import Desk
from tasks.intents import Done, Ending, NotDone, carry_out
from venues.ostium.venue import OstiumVenue

OSTIUM, CHARGES = "ostium", "charges"
"""Names of a desk's venues: where trades are, and what pulls charges."""
UNITS = 6


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
    return _plan(desk, name, "open", 0, {**order, "trader": deployment.account})


def may_open(desk: Desk, deployment_id: str) -> Deployment:
    """Return the deployment. Raises OperatorError where it is not active, or openings are paused here."""
    deployment = desk.store.accounts.deployment(deployment_id)
    if deployment.state is not DeploymentState.ACTIVE:
        raise OperatorError(f"deployment {deployment_id} is {deployment.state}: nothing is opened for it")
    if found := [one for one in desk.store.active_pauses() if one.scope in (ENTRIES, ALL, OSTIUM)]:
        raise OperatorError(f"openings are paused: {found[0].scope}, {found[0].reason} (`evenkeel resume`)")
    return deployment


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
    """Ask for the close of a trade or a part of it, or go on with what was asked for. Raises LostRace for one that has ended,
    OperatorError for one that is not open.
    """
    trade = desk.store.accounts.trade(name)
    going_on = [one for one in desk.store.unfinished_intents(ACCOUNTS, name) if one.kind == "close"]
    if going_on:
        return await carry_out(desk, going_on[0].intent_id, fence)
    order = close_order(trade, price, slippage_bps, share)
    intent = _plan(desk, name, "close", next_step(desk, name, "close"), order, fence)
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
    return _plan(desk, name, "close", step, order)


async def set_stop(desk: Desk, trade: AccountTrade, stop: Decimal, fence: Fence | None = None) -> Ending:
    """Ask for a new stop of an open trade."""
    order = {
        "trader": trade.account,
        "trade_id": int(trade.trade_id or 0),
        "pair": trade.pair,
        "index": trade.place,
        "stop": str(stop),
    }
    intent = _plan(desk, trade.name, "stop", next_step(desk, trade.name, "stop"), order, fence)
    return await carry_out(desk, intent, fence)


async def collect(desk: Desk, charge_id: str) -> Ending:
    """Pull what one charge owes. One that cannot be pulled now is OUTSTANDING, with why; it is tried again another time."""
    [charge] = [one for one in desk.store.accounts.charges() if one.charge_id == charge_id]
    unfinished = desk.store.unfinished_intents(ACCOUNTS, charge_id)
    if unfinished:
        intent = unfinished[0].intent_id
    else:
        order = {"owner": charge.account, "units": int(charge.usdc.scaleb(UNITS))}
        intent = _plan(desk, charge_id, "pull", next_step(desk, charge_id, "pull"), order, venue=CHARGES)
    end = await carry_out(desk, intent, None)
    if isinstance(end, NotDone):
        desk.store.accounts.move_charge(charge_id, ChargeState.OUTSTANDING, end.reason)
    return end


async def collect_all(desk: Desk) -> int:
    """Pull every charge that is due or outstanding, one after the other; return how many were paid."""
    to_collect = desk.store.accounts.charges(ChargeState.DUE, ChargeState.OUTSTANDING)
    return sum([isinstance(await collect(desk, one.charge_id), Done) for one in to_collect])


def chain_of(desk: Desk) -> str:
    """Return the name under which the ledger keeps the chain."""
    return str(getattr(desk.bookkeeper(ACCOUNTS), "chain", ""))


def next_step(desk: Desk, subject: str, kind: str) -> int:
    """Return which of its kind the next order of a trade or charge is."""
    return sum(one.kind == kind for one in desk.store.intents_of(ACCOUNTS, subject))


def _plan(
    desk: Desk,
    subject: str,
    kind: str,
    step: int,
    order: dict[str, Any],
    fence: Fence | None = None,
    venue: str = OSTIUM,
) -> str:
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

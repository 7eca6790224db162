"""Orders that no keeper has answered yet: limit and stop orders that wait for a price, and orders at the market that are late.

A waiting order is placed by an intent, and that is done. What executes or withdraws it later, whoever caused it, is booked by
the chain's word, as every close is: the slot in which it was placed says which trade it is, in the order of the logs.
"""

from __future__ import annotations

from collections.abc import Mapping

from evenkeel.errors import LostRace, OperatorError
from state.accounts.models import AccountTrade, DeploymentState, Origin, TradeState
from state.accounts.store import ACCOUNTS
from state.models import AttemptOutcome, Fence, Intent
from strategy.accounts.conditions import ALLOWANCE, PAUSED_FOR
from tasks.accounts.booking import owed_by, settled_order
from tasks.accounts.trading import (
    OSTIUM,
    chain_of,
    next_step,
    openings_paused,
    ostium_of,
    plan,
    side_by_side,
)
from tasks.desk import Desk
from tasks.intents import Ending, carry_out
from venues.ostium.moves import Move
from venues.ostium.news import MoveNews, SettledNews
from venues.ostium.orders import CloseOrder, OpenOrder, order_of
from venues.ostium.settlement import Settled

LATE_MS = 60_000
"""After which an order at the market that no keeper has settled is asked back, and again once so long has passed."""
FOLLOW_S = 5.0
"""For one order at one tick."""
WAITING = (TradeState.PENDING, TradeState.STALE)


def is_waiting(row: AccountTrade) -> bool:
    """Whether a trade is an order that waits for its price at the venue, as far as the books know."""
    return row.state in WAITING and row.trade_id is None and row.place is not None


# --- the chain's word ---


def book_move(desk: Desk, news: MoveNews, sent: Mapping[str, str], discovered: list[str]) -> int:
    """Book what an order did in its own transaction, whoever sent it; return how many settlements that made. `sent`: our
    transactions, and of which trade each is.
    """
    accounts, move, chain = desk.store.accounts, news.move, chain_of(desk)
    if accounts.is_settled(chain, move.name):
        return 0
    if move.kind is Settled.PLACED:
        name = sent.get(move.transaction) or _discovered(desk, move, discovered)
        _supersede(desk, move, name)
    else:
        row = _waiting_in(desk, move.trader, move.pair, move.slot, (move.block, move.log_index))
        if move.kind is Settled.TOPPED_UP:
            mine = accounts.trades(account=move.trader)
            row = next((one for one in mine if one.trade_id == str(move.trade_id)), None)
        if row is None:
            return 0  # of what was there before anybody here read
        name = row.name
    return int(accounts.settle(settled_order(chain, name, news.wire), owed_by(accounts)) is not None)


def executed(desk: Desk, news: SettledNews) -> AccountTrade | None:
    """Return the trade whose waiting order a keeper has executed: it was the last that was placed in this slot before, and it
    is of that side and leverage. None for an order at the market, and for one that was placed before anybody here read.
    """
    done = news.settlement
    if done.slot is None or done.trade is None:
        return None
    row = _waiting_in(desk, news.trader, done.trade.pair, done.slot, (done.block, done.log_index))
    if row is None or (row.is_long, row.leverage) != (done.trade.is_long, done.trade.leverage):
        return None
    return row


def _waiting_in(
    desk: Desk, trader: str, pair: int, slot: int | None, before: tuple[int, int]
) -> AccountTrade | None:
    accounts = desk.store.accounts
    rows = [one for one in accounts.trades(*WAITING, account=trader) if is_waiting(one)]
    found = list[tuple[tuple[int, int], AccountTrade]]()
    for row in rows:
        if (row.pair, row.place) == (pair, slot):
            placed = [
                one for one in accounts.settlements(trade=row.name) if one.is_live and one.kind == "placed"
            ]
            found += [((one.block, one.log_index), row) for one in placed]
    earlier = [one for one in found if one[0] < before]
    return max(earlier, key=lambda one: one[0])[1] if earlier else None


def _discovered(desk: Desk, move: Move, discovered: list[str]) -> str:
    """Store an order that a user placed by himself; no deployment is owed for it."""
    now, chain = desk.clock.now_ms(), chain_of(desk)
    assert move.trade is not None
    row = AccountTrade(
        name=f"{chain}-{move.name}",
        chain=chain,
        venue=OSTIUM,
        account=move.trader,
        origin=Origin.USER,
        state=TradeState.PENDING,
        pair=move.pair,
        is_long=move.trade.is_long,
        leverage=move.trade.leverage,
        created_ms=now,
        updated_ms=now,
    )
    discovered.append(row.name)
    return desk.store.accounts.add_trade(row).name


def _supersede(desk: Desk, move: Move, name: str) -> None:
    """What the books still have in the slot of a new order has gone from there without their knowing."""
    other = _waiting_in(desk, move.trader, move.pair, move.slot, (move.block, move.log_index))
    if other is not None and other.name != name and other.state is not TradeState.STALE:
        why = f"another order waits in its slot, placed by {move.transaction}"
        desk.store.accounts.change_trade(other.name, why, state=TradeState.STALE)


# --- orders that are not wanted any more ---


async def withdraw(desk: Desk, name: str, fence: Fence | None = None, *, wait_s: float = 30.0) -> Ending:
    """Cancel the order of a trade that waits for its price, or go on with that. What came back is booked with it. Raises
    OperatorError where none waits.
    """
    row = desk.store.accounts.trade(name)
    under_way = [one for one in desk.store.unfinished_intents(ACCOUNTS, name) if one.kind == "cancel"]
    if under_way:
        return await carry_out(desk, under_way[0].intent_id, fence, wait_s=wait_s)
    intent = plan(desk, name, "cancel", next_step(desk, name, "cancel"), cancel_order(row), fence)
    return await carry_out(desk, intent, fence, wait_s=wait_s)


def cancel_order(row: AccountTrade) -> dict[str, object]:
    """Return the order that cancels what waits. Raises OperatorError where nothing does."""
    if not is_waiting(row):
        raise OperatorError(f"trade {row.name} is {row.state}: no order of it waits for a price")
    return {
        "trader": row.account,
        "pair": row.pair,
        "index": row.place,
        "is_long": row.is_long,
        "collateral_usdc": str(row.paid_usdc),
        "leverage": str(row.leverage),
    }


async def withdraw_unwanted(desk: Desk, fence: Fence | None = None) -> dict[str, str]:
    """Cancel the waiting orders of agents that would open what nobody may open now: openings are paused, or the deployment is.
    One that was paused for what its user allows keeps them: they are paid. Return the words of each fault, by trade.
    """
    paused = openings_paused(desk) is not None
    rows = [one for one in desk.store.accounts.trades(*WAITING) if is_waiting(one)]
    names = [
        one.name for one in rows if _is_unwanted(desk, one, paused) and _may_ask(desk, one.name, "cancel")
    ]

    async def one(name: str) -> None:
        try:
            await withdraw(desk, name, fence, wait_s=FOLLOW_S)
        except LostRace:  # it was executed, or withdrawn, meanwhile
            return

    ends = await side_by_side(names, one)
    return {name: fault for name, fault in ends.items() if fault is not None}


def _is_unwanted(desk: Desk, row: AccountTrade, paused: bool) -> bool:
    if row.deployment_id is None:
        return False
    deployment = desk.store.accounts.deployment(row.deployment_id)
    if deployment.state is DeploymentState.ACTIVE:
        return paused
    by_watch = deployment.seen.get(PAUSED_FOR) == ALLOWANCE and not paused
    return deployment.state is DeploymentState.PAUSED and not by_watch


def _may_ask(desk: Desk, subject: str, kind: str) -> bool:
    """Whether nothing of the kind is under way, or was refused a moment ago."""
    tries = [one for one in desk.store.intents_of(ACCOUNTS, subject) if one.kind == kind]
    return not tries or desk.clock.now_ms() - tries[-1].updated_ms >= LATE_MS


# --- orders at the market that no keeper settles ---


async def take_back_late(desk: Desk, fence: Fence | None = None) -> dict[str, str]:
    """Take back the orders at the market that no keeper has settled in time, as soon as the venue lets them: an opening's
    dollars come back, a close is dropped, and whoever wants it asks anew. Return the words of each fault, by trade.
    """
    now_ms = desk.clock.now_ms()
    late = {
        one.subject: one
        for one in desk.store.unfinished_intents(ACCOUNTS)
        if one.kind in ("open", "close") and now_ms - one.created_ms >= LATE_MS
    }
    names = [name for name, one in late.items() if _may_ask(desk, name, "time_out")]

    async def one(name: str) -> None:
        try:
            await _take_back(desk, late[name], fence)
        except LostRace:
            return

    ends = await side_by_side(names, one)
    return {name: fault for name, fault in ends.items() if fault is not None}


async def _take_back(desk: Desk, intent: Intent, fence: Fence | None) -> None:
    attempt = desk.store.live_attempt(intent.intent_id)
    if attempt is None or attempt.outcome is not AttemptOutcome.WORKING:
        return  # no block holds it yet, as far as anybody knows
    order = order_of(intent.spec)
    assert isinstance(order, OpenOrder | CloseOrder)
    number = await ostium_of(desk).asked_as(order, [one["hash"] for one in attempt.key["copies"]])
    if number is None:
        return
    wanted = {"trader": order.trader, "order_id": number, "of": order.kind}
    step = next_step(desk, intent.subject, "time_out")
    await carry_out(desk, plan(desk, intent.subject, "time_out", step, wanted, fence), fence, wait_s=FOLLOW_S)

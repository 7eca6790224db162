"""One tick over every user's trades: what the chain says anew, booked; orders under way, followed; stops, trailed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

from evenkeel.errors import EvenkeelError, LostRace, Retryable, words_of
from state.accounts.many import OSTIUM
from state.accounts.models import AccountTrade, ChargeRow, DeploymentState, Origin, TradeState
from state.accounts.store import ACCOUNTS, ENDED
from state.models import Fence
from strategy.accounts.stops import StopRules
from tasks.accounts.alerts import alert_taken_back
from tasks.accounts.booking import DESK, USER, owed_by, settled_order
from tasks.accounts.stops import Guarded, OstiumStops, Stops
from tasks.accounts.trading import chain_of, give_up, side_by_side
from tasks.accounts.waiting import book_move, executed, take_back_late, withdraw_unwanted
from tasks.desk import Desk
from tasks.intents import carry_out
from venues.evm.pages import Cutoff, Mark
from venues.evm.rpc import EvmRpc
from venues.ostium.news import MoveNews, News, SettledNews, StopNews, read_news
from venues.ostium.settlement import Settled
from venues.ostium.venue import Contracts

log = logging.getLogger("evenkeel.accounts")
MOST_PAGES = 20
"""Of one tick: after a long silence the rest is read by the next ones."""


_OSTIUM_STOPS = OstiumStops()
FOLLOW_S = 5.0
"""For one order at one tick."""
ABANDONED_MS = 60_000
"""An order that nobody has sent for so long has no process any more that would."""
MOST_NUMBER = 2**63
NEAR = Decimal("0.005")
"""Of the price: a stop that is so near is looked after closely."""


@dataclass(frozen=True)
class Where:
    """The chain of the trades, its contracts, and from which block on and up to where it is read."""

    rpc: EvmRpc
    contracts: Contracts
    start: int
    cutoff: Cutoff


@dataclass
class TickReport:
    """What one tick found and did. `faults`: by account or trade, what went wrong for it alone."""

    settled: int = 0
    discovered: list[str] = field(default_factory=list)
    moved_stops: list[str] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    to_decide: list[ChargeRow] = field(default_factory=list)
    """Charges that were collected for what the chain took back."""
    odd: list[str] = field(default_factory=list)
    is_near: bool = False
    """Some stop is near the market."""
    faults: dict[str, str] = field(default_factory=dict)


async def tick(
    desk: Desk,
    where: Where,
    prices: Mapping[int, Decimal],
    rules: Callable[[str], StopRules],
    fence: Fence | None = None,
) -> TickReport:
    """Read what is new, follow what is under way, and trail stops by these prices (USD by market; one that is missing moves
    nothing). `rules` are a deployment's. `fence`: of the one watch, which every order carries. A fault of one trade delays no
    other. Raises UNREAD where the chain cannot be read.
    """
    report = TickReport()
    await read_chain(desk, where, report)
    await follow(desk, report, fence)
    report.faults |= await take_back_late(desk, fence)
    report.faults |= await withdraw_unwanted(desk, fence)
    await trail(desk, prices, rules, report, fence)
    return report


# --- the chain's word ---


async def read_chain(desk: Desk, where: Where, report: TickReport) -> None:
    """Book every page that is there, each whole before the next; what is booked twice changes nothing."""
    name = f"accounts:{chain_of(desk)}"
    for _ in range(MOST_PAGES):
        stored = desk.store.checkpoint(name)
        marks = [Mark(number, block) for number, block in (stored.detail["marks"] if stored else [])]
        accounts = desk.store.accounts
        owners = partial(accounts.owners, chain_of(desk))
        ours = accounts.deployed()
        news = await read_news(where.rpc, where.contracts, marks, where.start, where.cutoff, owners, ours)
        if news.page.gone_from is not None:
            with desk.store.one_transaction():  # a process that dies in between must not lose the message
                paid = accounts.take_back(chain_of(desk), news.page.gone_from)
                for charge in paid:
                    alert_taken_back(desk.store, charge)
            report.to_decide += paid
        _book(desk, news, report)
        detail = {"marks": [[mark.number, mark.hash] for mark in news.page.marks]}
        desk.store.move_checkpoint(name, desk.clock.now_ms(), detail)
        if not news.page.more:
            return


def _book(desk: Desk, news: News, report: TickReport) -> None:
    report.odd += news.odd
    accounts = desk.store.accounts
    asked = accounts.without_number({trader_of(one) for one in news.money})
    sent = accounts.sent("open", asked)
    for one in news.money:
        try:
            if isinstance(one, MoveNews):
                report.settled += book_move(desk, one, sent, report.discovered)
            elif _book_settled(desk, one, sent, report):
                report.settled += 1
        except Retryable:  # the ledger is busy: the page is read again
            raise
        except EvenkeelError as fault:  # named, and the others are booked
            report.faults[trader_of(one)] = words_of(fault)
    rows = [accounts.trade_of(chain_of(desk), str(stop.trade_id)) for stop in news.stops]
    sent = accounts.sent("stop", {row.name for row in rows if row is not None})
    for stop in news.stops:
        try:
            _book_stop(desk, stop, sent)
        except Retryable:
            raise
        except EvenkeelError as fault:
            report.faults[stop.trader] = words_of(fault)
    for delegate in news.delegates:
        try:
            _book_delegate(desk, delegate.trader, delegate.delegate, report)
        except Retryable:
            raise
        except EvenkeelError as fault:
            report.faults[delegate.trader] = words_of(fault)


def trader_of(one: SettledNews | MoveNews) -> str:
    """Return whose money moved."""
    return one.trader if isinstance(one, SettledNews) else one.move.trader


def _book_settled(desk: Desk, one: SettledNews, sent: Mapping[str, str], report: TickReport) -> bool:
    accounts, done = desk.store.accounts, one.settlement
    row = None if done.trade_id is None else accounts.trade_of(chain_of(desk), str(done.trade_id))
    wire = one.wire
    if row is None and (row := executed(desk, one)) is not None:
        wire = {**wire, "opened": {**wire["opened"], "paid_usdc": str(row.paid_usdc)}}
    name = sent.get(one.asked_by) if row is None else row.name
    if name is None:
        if done.kind is Settled.OPEN_CANCELED:  # his own: it cost him a fee, and opened nothing
            settled = settled_order(chain_of(desk), "", wire, one.trader)
            return accounts.settle(settled, owed_by(accounts)) is not None
        if done.kind is not Settled.OPENED or done.trade is None:
            return False  # of a trade that was over before anybody here report
        name = _discover(desk, one)
        report.discovered.append(name)
    return accounts.settle(settled_order(chain_of(desk), name, wire), owed_by(accounts)) is not None


def _discover(desk: Desk, one: SettledNews) -> str:
    """Store a trade that a user opened by himself; no deployment is owed for it."""
    done, now = one.settlement, desk.clock.now_ms()
    assert done.trade is not None
    row = AccountTrade(
        name=f"{chain_of(desk)}-{done.trade_id}",
        chain=chain_of(desk),
        venue=OSTIUM,
        account=one.trader,
        origin=Origin.USER,
        state=TradeState.PENDING,
        pair=done.trade.pair,
        is_long=done.trade.is_long,
        leverage=done.trade.leverage,
        created_ms=now,
        updated_ms=now,
    )
    return desk.store.accounts.add_trade(row).name


def _book_stop(desk: Desk, news: StopNews, sent: Mapping[str, str]) -> None:
    """A stop that the user moved is his from then on, until he hands it back."""
    row = desk.store.accounts.trade_of(chain_of(desk), str(news.trade_id))
    if row is None or row.account != news.trader or row.state in ENDED:
        return
    by = DESK if news.transaction in sent else USER
    if (row.stop, row.stop_by) != (news.stop, by):
        desk.store.accounts.change_trade(row.name, f"stop by the {by}", stop=news.stop, stop_by=by)


def _book_delegate(desk: Desk, trader: str, delegate: str | None, report: TickReport) -> None:
    accounts = desk.store.accounts
    for one in accounts.deployments(account=trader):
        is_ours = delegate == accounts.agent(one.agent_id).key_address
        if not is_ours and one.state is not DeploymentState.REVOKED:
            accounts.move_deployment(
                one.deployment_id, DeploymentState.REVOKED, f"the delegate is {delegate}"
            )
            report.revoked.append(one.deployment_id)
        elif is_ours and one.state is DeploymentState.REVOKED:
            accounts.move_deployment(one.deployment_id, DeploymentState.PAUSED, "named delegate again")


# --- orders and stops ---


async def follow(desk: Desk, report: TickReport, fence: Fence | None = None) -> None:
    """Go on with every order that is under way, side by side: each is asked about, and what no block holds goes out again."""
    ours = [one for one in desk.store.unfinished_intents(ACCOUNTS) if one.venue in desk.venues]
    under_way = {one.intent_id: one for one in ours}

    async def go_on(intent_id: str) -> None:
        intent = under_way[intent_id]
        try:
            if intent.kind == "open" and not intent.state.may_be_on_the_wire:
                why = f"nobody has sent it within {ABANDONED_MS // 1000} s: its price is of then"
                desk.store.fail_unsent(intent_id, why, fence=fence)
            await carry_out(desk, intent_id, fence, wait_s=FOLLOW_S)
            if intent.kind == "open":
                give_up(desk, intent.subject)
        except LostRace:  # whoever else has it goes on with it
            return

    # What is not sent yet is left for a while to whoever planned it; then an opening is dropped, and a way out is gone on with.
    now_ms = desk.clock.now_ms()
    names = [
        name
        for name, one in under_way.items()
        if one.state.may_be_on_the_wire or now_ms - one.created_ms >= ABANDONED_MS
    ]
    # The lowest number of a key first: whatever was signed later waits behind it.
    numbers = desk.store.accounts.numbers(names)
    names.sort(key=lambda name: numbers.get(name, MOST_NUMBER))
    ends = await side_by_side(names, go_on)
    report.faults |= {under_way[name].subject: fault for name, fault in ends.items() if fault is not None}


async def trail(
    desk: Desk,
    prices: Mapping[int, Decimal],
    rules: Callable[[str], StopRules],
    report: TickReport,
    fence: Fence | None = None,
    stops: Stops[Any] = _OSTIUM_STOPS,
) -> None:
    """Note the best price of each open trade, and move its stop where the rules want it nearer; that of a trade which no order
    can close goes after the market.
    """
    accounts = desk.store.accounts
    moving = {one.subject for one in desk.store.unfinished_intents(ACCOUNTS)}
    best: dict[str, Decimal] = {}
    wanted: dict[str, Decimal | None] = {}
    for row in stops.guarded(accounts):
        price = prices.get(row.pair)
        if price is None or row.open_price is None:
            continue
        if row.stop is not None:
            report.is_near |= abs(row.stop - price) < NEAR * price
        if row.deployment_id is None:
            continue
        try:
            if not stops.may_set(row):
                continue
            its_best = best_of(row, row.open_price, price)
            if its_best != row.best_price:
                best[row.name] = its_best
            if row.name in moving:
                continue
            if row.state is TradeState.CLOSING:
                wanted[row.name] = None
            elif row.stop_by != USER:
                stop = stops.wanted(row, its_best, rules(row.deployment_id))
                if stop is not None:
                    wanted[row.name] = stop
        except Exception as fault:  # of ours or not, it is named, and the others are guarded
            report.faults[row.name] = words_of(fault)
    try:
        accounts.note_best(best)
    except EvenkeelError as fault:  # the stops are moved all the same
        report.faults["best prices"] = words_of(fault)

    async def one_stop(name: str) -> bool:
        stop = wanted[name]
        try:
            trade = accounts.trade(name)
            price = prices[trade.pair]
            if stop is None:
                await stops.leave(desk, trade, price, fence)
                return False
            await stops.set(desk, trade, stop, price, fence)
            return True
        except LostRace:
            return False

    for name, done in (await side_by_side(list(wanted), one_stop)).items():
        if done is True:
            report.moved_stops.append(name)
        elif isinstance(done, str):
            report.faults[name] = done


def best_of(row: Guarded, opened: Decimal, price: Decimal) -> Decimal:
    """Return the best price that an open trade has had by now."""
    best = row.best_price or opened
    return max(best, price) if row.is_long else min(best, price)

"""One tick over every user's trades: what the chain says anew, booked; orders under way, followed; stops, trailed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from evenkeel.errors import EvenkeelError, LostRace, words_of
from state.accounts.models import AccountTrade, ChargeRow, DeploymentState, Origin, TradeState
from state.accounts.store import ACCOUNTS, ENDED
from state.models import Fence
from strategy.accounts.stops import StopRules
from tasks.accounts.alerts import alert_taken_back
from tasks.accounts.booking import DESK, USER, owed_by, settled_order
from tasks.accounts.stops import OstiumStops, Stops
from tasks.accounts.trading import OSTIUM, chain_of, give_up, side_by_side
from tasks.desk import Desk
from tasks.intents import carry_out
from venues.evm.pages import Cutoff, Mark
from venues.evm.rpc import EvmRpc
from venues.ostium.news import News, SettledNews, StopNews, read_news
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
        ours = frozenset(one.account for one in accounts.deployments())
        traders = {int(one.trade_id): one.account for one in accounts.trades() if one.trade_id is not None}
        news = await read_news(where.rpc, where.contracts, marks, where.start, where.cutoff, traders, ours)
        if news.page.gone_from is not None:
            paid = accounts.take_back(chain_of(desk), news.page.gone_from)
            report.to_decide += paid
            for charge in paid:
                alert_taken_back(desk.store, charge)
        _book(desk, news, report)
        detail = {"marks": [[mark.number, mark.hash] for mark in news.page.marks]}
        desk.store.move_checkpoint(name, desk.clock.now_ms(), detail)
        if news.page.last < news.page.first:
            return


def _book(desk: Desk, news: News, report: TickReport) -> None:
    report.odd += news.odd
    sent = _sent(desk) if news.settled or news.stops else {}
    for one in news.settled:
        try:
            if _book_settled(desk, one, sent, report):
                report.settled += 1
        except EvenkeelError as fault:  # named, and the others are booked
            report.faults[one.trader] = words_of(fault)
    for stop in news.stops:
        try:
            _book_stop(desk, stop, sent)
        except EvenkeelError as fault:
            report.faults[stop.trader] = words_of(fault)
    for delegate in news.delegates:
        try:
            _book_delegate(desk, delegate.trader, delegate.delegate, report)
        except EvenkeelError as fault:
            report.faults[delegate.trader] = words_of(fault)


def _book_settled(desk: Desk, one: SettledNews, sent: Mapping[str, str], report: TickReport) -> bool:
    accounts, done = desk.store.accounts, one.settlement
    by_id = {row.trade_id: row for row in accounts.trades(account=one.trader) if row.trade_id is not None}
    row = by_id.get(str(done.trade_id))
    name = sent.get(one.asked_by) if row is None else row.name
    if name is None:
        if done.kind is not Settled.OPENED or done.trade is None:
            return False  # of a trade that was over before anybody here report
        name = _discover(desk, one)
        report.discovered.append(name)
    return accounts.settle(settled_order(chain_of(desk), name, one.wire), owed_by(accounts)) is not None


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
    trades = desk.store.accounts.trades(account=news.trader)
    row = next((one for one in trades if one.trade_id == str(news.trade_id)), None)
    if row is None or row.state in ENDED:
        return
    by = DESK if news.transaction in sent else USER
    if (row.stop, row.stop_by) != (news.stop, by):
        desk.store.accounts.change_trade(row.name, f"stop by the {by}", stop=news.stop, stop_by=by)


def _book_delegate(desk: Desk, trader: str, delegate: str | None, report: TickReport) -> None:
    accounts = desk.store.accounts
    for one in accounts.deployments():
        if one.account != trader:
            continue
        is_ours = delegate == accounts.agent(one.agent_id).key_address
        if not is_ours and one.state is not DeploymentState.REVOKED:
            accounts.move_deployment(
                one.deployment_id, DeploymentState.REVOKED, f"the delegate is {delegate}"
            )
            report.revoked.append(one.deployment_id)
        elif is_ours and one.state is DeploymentState.REVOKED:
            accounts.move_deployment(one.deployment_id, DeploymentState.PAUSED, "named delegate again")


def _sent(desk: Desk) -> dict[str, str]:
    """Our transactions by hash, and of which trade each is: of trades that have not ended, and of orders that failed."""
    found = {}
    for trade in desk.store.accounts.trades():
        if trade.state is TradeState.CLOSED:
            continue
        for intent in desk.store.intents_of(ACCOUNTS, trade.name):
            for attempt in desk.store.attempts_of(intent.intent_id):
                found.update({copy["hash"]: trade.name for copy in attempt.key.get("copies", ())})
    return found


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
    ends = await side_by_side(names, go_on)
    report.faults |= {under_way[name].subject: fault for name, fault in ends.items() if fault is not None}


async def trail(
    desk: Desk,
    prices: Mapping[int, Decimal],
    rules: Callable[[str], StopRules],
    report: TickReport,
    fence: Fence | None = None,
    stops: Stops = _OSTIUM_STOPS,
) -> None:
    """Note the best price of each open trade, and move its stop where the rules want it nearer; that of a trade which no order
    can close goes after the market.
    """
    held = desk.store.accounts.trades(TradeState.OPEN, TradeState.CLOSING, venue=stops.venue)
    rows = {one.name: one for one in held}

    async def one_stop(name: str) -> bool:
        row = rows[name]
        price = prices.get(row.pair)
        if price is None or row.open_price is None or row.deployment_id is None or not stops.may_set(row):
            return False
        try:
            trade = _with_best(desk, row, price)
            if _is_moving(desk, trade):
                return False
            if row.state is TradeState.CLOSING:
                await stops.leave(desk, trade, price, fence)
                return False
            is_his = trade.stop_by == USER
            stop = None if is_his else stops.wanted(trade, price, rules(row.deployment_id))
            if stop is None:
                return False
            await stops.set(desk, trade, stop, price, fence)
            return True
        except LostRace:
            return False

    for name, done in (await side_by_side(list(rows), one_stop)).items():
        if done is True:
            report.moved_stops.append(name)
        elif isinstance(done, str):
            report.faults[name] = done


def _with_best(desk: Desk, row: AccountTrade, price: Decimal) -> AccountTrade:
    best = row.best_price or row.open_price or price
    better = max(best, price) if row.is_long else min(best, price)
    if better == row.best_price:
        return row
    return desk.store.accounts.change_trade(row.name, "", best_price=better)


def _is_moving(desk: Desk, row: AccountTrade) -> bool:
    return bool(desk.store.unfinished_intents(ACCOUNTS, row.name))

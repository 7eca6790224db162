"""One tick over every user's trades: what the chain says anew, booked; orders under way, followed; stops, trailed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from evenkeel.errors import NOT_NOW, EvenkeelError, LostRace, OperatorError, words_of
from evenkeel.types import IntentState
from state.accounts.models import AccountTrade, ChargeRow, DeploymentState, Origin, TradeState
from state.accounts.store import ACCOUNTS, ENDED
from strategy.accounts.stops import StopRules, TradeSeen, wanted_stop
from tasks.accounts.booking import DESK, USER, owed_by, settled_order
from tasks.accounts.trading import OSTIUM, chain_of, give_up, set_stop
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
PRICE_PLACES = Decimal("0.00001")
"""The venue keeps five decimals of a price."""


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
    desk: Desk, where: Where, prices: Mapping[int, Decimal], rules: Callable[[str], StopRules]
) -> TickReport:
    """Read what is new, follow what is under way, and trail stops by these prices (USD by market; one that is missing moves
    nothing). `rules` are a deployment's. A fault of one trade delays no other. Raises UNREAD where the chain cannot be read.
    """
    report = TickReport()
    await read_chain(desk, where, report)
    await follow(desk, report)
    await trail(desk, prices, rules, report)
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
            report.to_decide += accounts.take_back(chain_of(desk), news.page.gone_from)
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
        _book_stop(desk, stop, sent)
    for delegate in news.delegates:
        _book_delegate(desk, delegate.trader, delegate.delegate, report)


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


async def follow(desk: Desk, report: TickReport) -> None:
    """Go on with every order that is under way, without waiting for any."""
    for intent in desk.store.unfinished_intents(ACCOUNTS):
        if intent.state is IntentState.IDLE:
            continue  # whoever planned it begins it
        try:
            await carry_out(desk, intent.intent_id, None, wait_s=0)
            if intent.kind == "open":
                give_up(desk, intent.subject)
        except LostRace:
            continue
        except (*NOT_NOW, OperatorError) as fault:
            report.faults[intent.subject] = words_of(fault)


async def trail(
    desk: Desk, prices: Mapping[int, Decimal], rules: Callable[[str], StopRules], report: TickReport
) -> None:
    """Note the best price of each open trade, and move its stop where the rules want it nearer."""
    for row in desk.store.accounts.trades(TradeState.OPEN):
        price = prices.get(row.pair)
        if price is None or row.open_price is None or row.deployment_id is None:
            continue
        try:
            trade = _with_best(desk, row, price)
            if trade.stop_by == USER or _is_moving(desk, trade):
                continue
            stop = wanted_stop(_seen(trade), rules(row.deployment_id))
            if stop is not None:
                await set_stop(desk, trade, stop.quantize(PRICE_PLACES))
                report.moved_stops.append(row.name)
        except LostRace:
            continue
        except EvenkeelError as fault:
            report.faults[row.name] = words_of(fault)


def _with_best(desk: Desk, row: AccountTrade, price: Decimal) -> AccountTrade:
    best = row.best_price or row.open_price or price
    better = max(best, price) if row.is_long else min(best, price)
    if better == row.best_price:
        return row
    return desk.store.accounts.change_trade(row.name, "", best_price=better)


def _is_moving(desk: Desk, row: AccountTrade) -> bool:
    return bool(desk.store.unfinished_intents(ACCOUNTS, row.name))


def _seen(row: AccountTrade) -> TradeSeen:
    assert row.open_price is not None and row.best_price is not None
    return TradeSeen(
        is_long=row.is_long,
        open_price=row.open_price,
        leverage=row.leverage,
        collateral_usdc=row.collateral_usdc,
        paid_usdc=row.paid_usdc,
        costs_usdc=Decimal(0),
        best_price=row.best_price,
        stop=row.stop,
    )

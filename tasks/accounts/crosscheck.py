"""The subgraph beside our books: what it contradicts is alerted, and nothing is ever booked from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from evenkeel.errors import UNREAD, words_of
from state.accounts.models import AccountTrade, DeploymentState, TradeState
from state.store import Store
from strategy.accounts.conditions import BEHIND_MS, GRAPH_DIFFERS, VENUE, Judged, judge_graph
from tasks.desk import Desk
from venues.ostium.graph import GraphTrade, GraphView, Subgraph

HELD = (TradeState.OPEN, TradeState.CLOSING, TradeState.STALE)


@dataclass
class CrossCheck:
    """One comparison after the other. What differs counts once two in a row have shown it: the subgraph is behind."""

    desk: Desk
    graph: Subgraph
    before: dict[str, str] = field(default_factory=dict)
    """By number of a trade, what differed at the last comparison."""
    is_doubtful: bool = False
    """Something differed for the first time: the next comparison should not be long in coming."""

    async def judge(self, read_to: int) -> Judged:
        """Compare once. `read_to`: the block up to which our books follow the chain. Raises UNREAD where it has no answer."""
        store = self.desk.store
        accounts = sorted({one.account for one in store.accounts.deployments()})
        if not accounts:
            return {}
        view = await self.graph.open_trades(accounts)
        behind_ms = max(0, self.desk.clock.now_ms() - view.at_ms)
        if behind_ms > BEHIND_MS:
            self.before, self.is_doubtful = {}, False
            return judge_graph(behind_ms, ())
        differs = differences(store, view, read_to)
        again = [text for name, text in differs.items() if name in self.before]
        self.is_doubtful = len(again) < len(differs)
        self.before = differs
        judged = judge_graph(behind_ms, again)
        if self.is_doubtful and not again:  # an alert that stands is not over for that
            del judged[GRAPH_DIFFERS, VENUE]
        return judged

    async def judge_if_there(self, read_to: int, faults: dict[str, str]) -> Judged:
        """The same; where there is no answer nothing is judged, and the fault is named."""
        try:
            return await self.judge(read_to)
        except UNREAD as fault:
            faults["subgraph"] = words_of(fault)
            return {}


def differences(store: Store, view: GraphView, read_to: int) -> dict[str, str]:
    """By a trade's number, in what the subgraph contradicts our books. What became of a trade after the subgraph's block, or
    after the block that our books follow, contradicts nothing.
    """
    accounts = store.accounts
    live = {one.account for one in accounts.deployments() if one.state is not DeploymentState.REVOKED}
    ours = {row.trade_id: row for row in accounts.trades(*HELD) if row.trade_id is not None}
    found: dict[str, str] = {}
    for name, there in view.trades.items():
        if name not in ours and there.trader in live and view.block <= read_to:
            row = next((one for one in accounts.trades(account=there.trader) if one.trade_id == name), None)
            if row is None:
                found[name] = f"trade {name} of {there.trader} is open there, and no row of ours is"
            elif not _is_newer(store, row, view):
                found[name] = f"{row.name} is open there and {row.state} here"
    for name, row in ours.items():
        if name not in view.trades:
            if not _is_newer(store, row, view):
                found[name] = f"{row.name} is {row.state} here and not open there"
        elif _holds_other(row, view.trades[name]) and not _is_newer(store, row, view):
            found[name] = (
                f"{row.name} holds {row.collateral_usdc} USDC here and {view.trades[name].collateral_usdc} there"
            )
    return found


def _holds_other(row: AccountTrade, there: GraphTrade) -> bool:
    return abs(row.collateral_usdc - there.collateral_usdc) > 1


def _is_newer(store: Store, row: AccountTrade, view: GraphView) -> bool:
    """Whether our books of a trade know more than the subgraph's block."""
    last = max((one.block for one in store.accounts.settlements(trade=row.name)), default=0)
    return last > view.block

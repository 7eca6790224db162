"""The subgraph beside our books: what it contradicts is alerted, and nothing is ever booked from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from evenkeel.errors import UNREAD, words_of
from state.accounts.many import HeldTrade
from state.store import Store
from strategy.accounts.conditions import BEHIND_MS, GRAPH_DIFFERS, VENUE, Judged, judge_graph
from tasks.desk import Desk
from venues.ostium.graph import GraphTrade, GraphView, Subgraph


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
        accounts, held = sorted(store.accounts.deployed()), store.accounts.held_trades()
        if not accounts:
            return {}
        view = await self.graph.open_trades(accounts, expected=len(held))
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
    live, ours = accounts.deployed(live=True), accounts.held_trades()
    found: dict[str, str] = {}
    for name, there in view.trades.items():
        if name not in ours and there.trader in live and view.block <= read_to:
            rows = accounts.trades(account=there.trader)
            row = next((one for one in rows if one.trade_id == name), None)
            if row is None:
                found[name] = f"trade {name} of {there.trader} is open there, and no row of ours is"
            elif not _is_newer(store, row.name, view):
                found[name] = f"{row.name} is open there and {row.state} here"
    for name, one in ours.items():
        if name not in view.trades:
            if not _is_newer(store, one.name, view):
                found[name] = f"{one.name} is {one.state} here and not open there"
        elif _holds_other(one, view.trades[name]) and not _is_newer(store, one.name, view):
            found[name] = (
                f"{one.name} holds {one.collateral_usdc} USDC here and {view.trades[name].collateral_usdc} there"
            )
    return found


def _holds_other(row: HeldTrade, there: GraphTrade) -> bool:
    return abs(row.collateral_usdc - there.collateral_usdc) > 1


def _is_newer(store: Store, name: str, view: GraphView) -> bool:
    """Whether our books of a trade know more than the subgraph's block."""
    last = store.accounts.last_blocks([name]).get(name, 0)
    return last > view.block

"""One account's turn: its positions, the fills that led there, its stops, and whether its agent may still act."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from evenkeel.errors import UNREAD, LostRace, NotUnderstood, words_of
from evenkeel.types import Forced
from state.accounts.many import HYPERLIQUID
from state.accounts.models import AccountTrade, Deployment, DeploymentState, TradeState
from state.accounts.store import ACCOUNTS
from state.models import Fence
from state.store import Store
from strategy.accounts.fills import Did, FillSeen, changes_of, follow
from tasks.accounts.booking import USER
from tasks.accounts.hyperliquid.booking import (
    Seen,
    adopt,
    book,
    live_by_coin,
    orders_of_ours,
    signed_qty,
)
from tasks.accounts.hyperliquid.stops import HyperliquidStops, follow_stop, generation_of, nearest_stop
from tasks.accounts.hyperliquid.turns import FILLS_WEIGHT, Every, Turn
from tasks.accounts.watching import TickReport
from venues.hyperliquid import models as m
from venues.hyperliquid.account import is_perpetual
from venues.hyperliquid.managed import HyperliquidAgents

HELD = (TradeState.OPEN, TradeState.CLOSING, TradeState.STALE)
OVERLAP_MS = 60_000
"""How far back fills are read again: a server that lags behind may list one late."""
AGAIN_MS = 60_000
"""What could not be read of an agent is asked for again after so long."""
SETTLED_MS = 3_000
"""By the venue's clock, from a fill on, after which all of its match and the funding before it are listed."""


@dataclass
class AccountReader:
    """Reads accounts of users and books what became of them."""

    store: Store
    agents: HyperliquidAgents
    stops: HyperliquidStops
    turns: dict[str, Turn] = field(default_factory=dict)
    left: float = 0.0
    """Weight that this tick may still spend on fills which its readings turn out to need."""
    every: Every = field(default_factory=Every)

    def turn(self, account: str) -> Turn:
        return self.turns.setdefault(account, Turn())

    async def read(self, account: str, report: TickReport, fence: Fence | None) -> None:
        """Read one account whole, or as much of it as its turn asks for. Raises UNREAD, LostRace."""
        turn, now_ms = self.turn(account), self.store.clock.now_ms()
        deployment = self._deployment(account)
        if deployment is not None and now_ms - turn.identity_ms >= self.every.identity_ms:
            try:
                deployment = await self.identify(deployment, report)
                turn.identity_ms = now_ms
            except UNREAD as fault:  # its trades are guarded by what was known
                report.faults[f"{account} agent"] = words_of(fault)
                turn.identity_ms = now_ms - self.every.identity_ms + AGAIN_MS
        state = await self.agents.client.clearinghouse_state(account)
        await self._positions(account, deployment, state, turn, report, now_ms)
        for trade in self._trades(account):
            await self._stop(trade, turn, now_ms, report, fence)
        turn.read_ms = now_ms

    async def begin(self, account: str, report: TickReport) -> None:
        """Follow an account from now on, where nobody does yet: what is opened later was not held before. Raises UNREAD."""
        if self.store.checkpoint(self._cursor(account)) is None:
            state = await self.agents.client.clearinghouse_state(account)
            await self._begin(account, state, self._seen(account, self._deployment(account), state), report)

    # --- who may act ---

    async def identify(self, row: Deployment, report: TickReport) -> Deployment:
        """Read whether the agent may act for an account, until when, and in which mode it is, and note it with the deployment.
        One whose agent is gone is REVOKED; one that is named again is PAUSED until somebody checks it. Raises UNREAD.
        """
        accounts = self.store.accounts
        ours = self.agents.agent_of(row.account, generation_of(self.store, row.deployment_id))
        listed, mode = await asyncio.gather(
            self.agents.client.extra_agents(row.account), self.agents.client.user_abstraction(row.account)
        )
        now_ms = self.agents.clock.now_ms()
        mine = next((one for one in listed if one.address.lower() == ours), None)
        may = mine is not None and (mine.valid_until is None or mine.valid_until > now_ms)
        until = None if mine is None else mine.valid_until
        seen = row.seen | {"agent": ours, "agent_until_ms": until, "mode": mode, "approved": may}
        if seen != row.seen:
            accounts.note_seen(row.deployment_id, seen)
        was_there = bool(row.seen.get("approved"))
        if not may and was_there and row.state is not DeploymentState.REVOKED:
            why = (
                "the agent's approval has ended" if mine is not None else f"{ours} is no agent of it any more"
            )
            report.revoked.append(row.deployment_id)
            return accounts.move_deployment(row.deployment_id, DeploymentState.REVOKED, why)
        if may and row.state is DeploymentState.REVOKED:
            return accounts.move_deployment(
                row.deployment_id, DeploymentState.PAUSED, "the agent is approved again"
            )
        return accounts.deployment(row.deployment_id)

    # --- positions and fills ---

    async def _positions(
        self,
        account: str,
        deployment: Deployment | None,
        state: m.WireClearinghouseState,
        turn: Turn,
        report: TickReport,
        now_ms: int,
    ) -> None:
        seen = self._seen(account, deployment, state)
        stored = self.store.checkpoint(self._cursor(account))
        if stored is None:
            await self._begin(account, state, seen, report)
            turn.whole_ms = now_ms
            return
        trades = live_by_coin(self._trades(account))
        differs = self._differs(trades, state)
        self._note_funding(trades, state)
        closing = any(one.kind == "close" for name in trades.values() for one in self._unfinished(name))
        if not (differs or closing or turn.reads_fills(now_ms, self.every)):
            return
        if not turn.is_paid and not closing:
            if self.left < FILLS_WEIGHT:
                turn.is_behind = True
                return
            self.left -= FILLS_WEIGHT
        turn.is_behind = False
        venue_ms = state.time or self.agents.clock.now_ms()
        to_ms, known = int(stored.detail["to_ms"]), set(stored.detail["ids"])
        rows = await self.agents.client.user_fills_by_time(account, to_ms - OVERLAP_MS)
        new = [
            one
            for one in rows
            if is_perpetual(one.coin) and one.fill_id not in known and one.instead_id not in known
        ]
        late = [one for one in new if one.time > venue_ms - SETTLED_MS]
        doubts = self._book_all(
            account,
            [one for one in new if one not in late],
            seen,
            report,
            await self._money(trades, new, seen),
        )
        turn.whole_ms = now_ms
        await self._compare(account, state, {one.coin for one in late}, doubts, turn, seen, report)

    def _book_all(
        self, account: str, rows: list[m.WireFill], seen: Seen, report: TickReport, money: Any
    ) -> dict[str, str]:
        """Book the fills of each market that follow from its books, with how far they were read, in one transaction. Return by
        coin why some could not be booked.
        """
        seen.funding, seen.ledger, seen.ours = money
        doubts: dict[str, str] = {}
        by_coin: dict[str, list[m.WireFill]] = {}
        for row in rows:
            by_coin.setdefault(row.coin, []).append(row)
        with self.store.one_transaction():
            done: list[m.WireFill] = []
            trades = live_by_coin(self._trades(account))
            for coin, mine in by_coin.items():
                if coin not in seen.markets:
                    doubts[coin] = f"{coin} is not among the venue's markets"
                    continue
                readable = [one for one in mine if one.fee is not None]
                if len(readable) < len(mine):
                    first = next(one for one in mine if one.fee is None)
                    doubts[coin] = f"the fee of the fill {first.fill_id} cannot be read"
                    readable = [one for one in readable if one.time < first.time]
                held = signed_qty(trades[coin]) if coin in trades else Decimal(0)
                following, why = follow(held, [fill_seen(account, one) for one in readable])
                if why:
                    doubts[coin] = why
                settled = book(self.store, changes_of(following), seen)
                report.settled += len(settled)
                report.discovered += [str(one.trade) for one in settled if one.kind == Did.OPENED]
                ids = {one.fill_id for one in following}
                done += [one for one in readable if one.fill_id in ids]
            self._move_cursor(account, done)
        for coin, why in doubts.items():
            report.faults[f"{account} {coin}"] = why
        return doubts

    async def _money(self, trades: dict[str, AccountTrade], rows: list[m.WireFill], seen: Seen) -> Any:
        """Funding and margin that closes count in, and which orders were ours. Nothing is asked where nothing closed."""
        closing = [
            one for one in rows if one.start_position and (one.start_position > 0) != (one.signed_sz > 0)
        ]
        if not closing:
            return (), (), {}
        opened = [one.opened_ms for one in trades.values() if one.opened_ms is not None]
        since_ms = min([*opened, *(one.time for one in rows)]) - 1
        funding = await self.agents.client.user_funding(seen.account, since_ms)
        ledger: list[m.WireLedgerUpdate] = []
        if any(one.forced_on(seen.account) is Forced.BACKSTOP for one in closing):
            ledger = await self.agents.client.non_funding_ledger(seen.account, since_ms)
        return funding, ledger, orders_of_ours(self.store, trades.values())

    async def _begin(
        self, account: str, state: m.WireClearinghouseState, seen: Seen, report: TickReport
    ) -> None:
        """The first reading of an account: what it holds is taken over as it stands, and fills are followed from then on."""
        at_ms = state.time or self.agents.clock.now_ms()
        rows = await self.agents.client.user_fills_by_time(account, at_ms - OVERLAP_MS)
        before = [one for one in rows if one.time <= at_ms]
        with self.store.one_transaction():
            if self.store.checkpoint(self._cursor(account)) is not None:
                return  # another process has begun meanwhile
            for held in (one.position for one in state.asset_positions):
                if held.szi and held.coin in seen.markets and held.entry_px:
                    row = adopt(self.store, held.coin, held.szi, held.entry_px, _leverage(held), at_ms, seen)
                    report.discovered.append(row.name)
                elif held.szi:
                    report.faults[f"{account} {held.coin}"] = "a position that was held before cannot be read"
            detail = {"to_ms": at_ms, "ids": [one.fill_id for one in before]}
            self.store.move_checkpoint(self._cursor(account), self.store.clock.now_ms(), detail)

    async def _compare(
        self,
        account: str,
        state: m.WireClearinghouseState,
        unsettled: set[str],
        doubts: dict[str, str],
        turn: Turn,
        seen: Seen,
        report: TickReport,
    ) -> None:
        """Hold what is booked against what is held. A trade that differs twice is STALE until it agrees; a position without a
        trade is taken over then, as one that was held before.
        """
        trades = live_by_coin(self._trades(account))
        found: dict[str, str] = {}
        for coin in {*trades, *(one.position.coin for one in state.asset_positions)} - unsettled:
            if coin not in seen.markets:
                report.faults[f"{account} {coin}"] = f"{coin} is not among the venue's markets"
                continue
            try:
                szi = state.szi(coin)
            except NotUnderstood as odd:
                report.faults[f"{account} {coin}"] = words_of(odd)
                continue
            booked = signed_qty(trades[coin]) if coin in trades else Decimal(0)
            if szi == booked:
                continue
            found[coin] = doubts.get(coin) or f"the venue shows {szi} {coin}, the books have {booked}"
            if turn.doubts.get(coin) is None:
                continue
            report.faults[f"{account} {coin}"] = found[coin]
            held = state.position(coin)
            if coin in trades:
                self._mark(trades[coin], TradeState.STALE, found[coin])
            elif held is not None and held.entry_px and coin in seen.markets:
                with self.store.one_transaction():
                    row = adopt(
                        self.store, coin, held.szi, held.entry_px, _leverage(held), state.time or 0, seen
                    )
                report.discovered.append(row.name)
        for coin, trade in trades.items():
            if coin not in found and coin not in unsettled and trade.state is TradeState.STALE:
                self._mark(trade, TradeState.OPEN, "the venue shows what is booked again")
        turn.doubts = found

    def _mark(self, trade: AccountTrade, state: TradeState, why: str) -> None:
        if trade.state is not state:
            self.store.accounts.change_trade(trade.name, why, state=state)

    # --- stops ---

    async def _stop(
        self, trade: AccountTrade, turn: Turn, now_ms: int, report: TickReport, fence: Fence | None
    ) -> None:
        try:
            await follow_stop(self.store, self.agents, trade, fence)
            if trade.stop_by == USER and turn.whole_ms == now_ms:
                resting = await self.agents.client.frontend_open_orders(trade.account, whole=False)
                his = nearest_stop(resting, trade)
                if his != trade.stop:
                    self.store.accounts.change_trade(trade.name, "stop by the user", fence, stop=his)
        except LostRace:  # it has ended meanwhile
            return
        except UNREAD as fault:
            report.faults[trade.name] = words_of(fault)

    # --- what is stored and shown ---

    def _seen(self, account: str, deployment: Deployment | None, state: m.WireClearinghouseState) -> Seen:
        may = deployment is not None and deployment.state is not DeploymentState.REVOKED
        leverage = {
            one.position.coin: _leverage(one.position)
            for one in state.asset_positions
            if one.position.leverage
        }
        markets = {name: one.number for name, one in self.stops.markets.items()}
        return Seen(self.agents.chain, account, deployment if may else None, markets, leverage)

    def _note_funding(self, trades: dict[str, AccountTrade], state: m.WireClearinghouseState) -> None:
        for held in (one.position for one in state.asset_positions):
            since = held.cum_funding.since_open if held.cum_funding else None
            if since is not None and held.coin in trades:
                self.stops.funding_paid[trades[held.coin].name] = since

    def _differs(self, trades: dict[str, AccountTrade], state: m.WireClearinghouseState) -> bool:
        """Whether the venue shows another size in any market than the books, as far as it can be read."""
        known = self.stops.markets
        shown = {
            one.position.coin: one.position.szi for one in state.asset_positions if one.position.coin in known
        }
        booked = {coin: signed_qty(one) for coin, one in trades.items()}
        return any(
            shown.get(coin, Decimal(0)) != booked.get(coin, Decimal(0))
            for coin in {*shown, *booked} - {*state.lost}
        )

    def _trades(self, account: str) -> list[AccountTrade]:
        return self.store.accounts.trades(*HELD, account=account, venue=HYPERLIQUID)

    def _unfinished(self, trade: AccountTrade) -> Iterable[Any]:
        return self.store.unfinished_intents(ACCOUNTS, trade.name)

    def _deployment(self, account: str) -> Deployment | None:
        """The deployment that an account's trades are of: one that is not revoked before one that is, the newest first."""
        rows = self.store.accounts.deployments(account=account, venue=HYPERLIQUID)
        rows.sort(key=lambda one: (one.state is not DeploymentState.REVOKED, one.created_ms))
        return rows[-1] if rows else None

    def _cursor(self, account: str) -> str:
        return f"accounts:{self.agents.chain}:{account}"

    def _move_cursor(self, account: str, done: list[m.WireFill]) -> None:
        """Note which fills are booked: those of the last minute by their ids, since they are read again."""
        name = self._cursor(account)
        stored = self.store.checkpoint(name)
        if stored is None or not done:
            return
        to_ms = max(int(stored.detail["to_ms"]), *(one.time for one in done))
        ids = {*stored.detail["ids"], *(one.fill_id for one in done)}
        kept = [one for one in ids if _time_of(one) >= to_ms - OVERLAP_MS]
        self.store.move_checkpoint(name, self.store.clock.now_ms(), {"to_ms": to_ms, "ids": sorted(kept)})


def fill_seen(account: str, row: m.WireFill) -> FillSeen:
    """A fill as the rules of booking see it. A fee in another token than USDC counts as none, as everywhere here; who reads the
    list names it.
    """
    forced = row.forced_on(account)
    return FillSeen(
        fill_id=row.fill_id,
        coin=row.coin,
        signed_qty=row.signed_sz,
        price=row.px,
        start=row.start_position,
        closed_pnl=row.closed_pnl,
        fee=row.fee if row.fee and row.fee_is_known else Decimal(0),
        builder_fee=row.builder_fee or Decimal(0),
        at_ms=row.time,
        order=row.oid,
        cloid=row.cloid or "",
        hash=row.hash,
        forced="" if forced is None else str(forced),
    )


def _leverage(held: m.WirePosition) -> Decimal:
    """What the position is held with, which says how much of the account stands behind it; 1 where that cannot be read."""
    value = held.leverage.value if held.leverage else None
    return Decimal(value) if value else Decimal(1)


def _time_of(fill_id: str) -> int:
    return int(fill_id.partition(":")[0])

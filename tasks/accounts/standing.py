"""What is read at the venue beside the logs: whether it trades, its vault, both keys, and in turns what users allow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from evenkeel.errors import UNREAD, LostRace, words_of
from evenkeel.units import HOUR_MS
from state.accounts.many import OSTIUM
from state.accounts.models import AccountTrade, Deployment, DeploymentState, TradeState
from state.accounts.store import ACCOUNTS
from state.store import Store
from strategy.accounts.conditions import (
    AGENT,
    ALLOWANCE,
    COLLECTOR,
    PAUSED_FOR,
    AccountSeen,
    Finding,
    Judged,
    KeySeen,
    judge_allowance,
    judge_close,
    judge_key,
    judge_vault,
    judge_venue,
)
from strategy.accounts.share import ChargeState
from tasks.accounts.trading import CHARGES, chain_of, ostium_of, side_by_side
from tasks.accounts.watching import Where
from tasks.desk import Desk
from venues.batches import together
from venues.evm.answers import Block
from venues.evm.pulls import TokenPulls
from venues.evm.rpc import EvmRpc
from venues.ostium.venue import OstiumVenue, Waits

Move = Callable[[], None]
"""What follows from a reading in the ledger; it is written with the alerts, in one transaction."""
TURN = 10
"""Accounts that are read at one tick, in one request; a thousand of them come round in less than an hour."""
SEND_GAS = 1_000_000
"""Units of gas that a transaction of ours uses at most, nearly."""
DAY_HOURS = 24
HELD = (TradeState.OPEN, TradeState.CLOSING, TradeState.STALE)


@dataclass
class Standing:
    """Reads it tick by tick, and remembers whose turn is next."""

    desk: Desk
    where: Where
    faults: dict[str, str] = field(default_factory=dict)
    """What of the last reading failed: it judges nothing."""
    next_account: int = 0
    suspects: dict[str, Suspect] = field(default_factory=dict)
    """By a trade that the chain did not show in its place."""
    moves: list[Move] = field(default_factory=list)
    """Of this reading."""

    async def read(self, read_to: int) -> tuple[Judged, list[Move]]:
        """Read everything whose turn it is in one request, judge it, and return what follows. `read_to`: the block up to which
        the books follow the chain. Raises nothing for what a venue answers.
        """
        self.faults, self.moves = {}, []
        with together():
            parts = await asyncio.gather(
                self._part("venue", self._venue()),
                self._part("vault", self._vault()),
                self._part(AGENT, self._key(AGENT, OSTIUM)),
                self._part(COLLECTOR, self._key(COLLECTOR, CHARGES)),
                self._accounts(read_to),
            )
        judged: Judged = {}
        for part in parts:
            judged |= part
        return judged, self.moves

    async def _part(self, name: str, reading: Awaitable[Judged]) -> Judged:
        try:
            return await reading
        except UNREAD as fault:
            self.faults[name] = words_of(fault)
            return {}

    async def _venue(self) -> Judged:
        venue = ostium_of(self.desk)
        return judge_venue(*await asyncio.gather(venue.is_paused(), venue.is_done()))

    async def _vault(self) -> Judged:
        """Held against what it held at each hour of the last day, which the ledger keeps."""
        store, now_ms = self.desk.store, self.desk.clock.now_ms()
        held = await ostium_of(self.desk).holds_usdc(self.where.contracts.vault)
        name, hour = f"accounts vault:{chain_of(self.desk)}", now_ms // HOUR_MS
        stored = store.checkpoint(name)
        by_hour = {
            int(at): Decimal(usdc) for at, usdc in (stored.detail["by_hour"] if stored else {}).items()
        }
        by_hour = {at: usdc for at, usdc in by_hour.items() if hour - DAY_HOURS <= at <= hour}
        if hour not in by_hour:
            by_hour[hour] = held
            store.move_checkpoint(
                name, now_ms, {"by_hour": {str(at): str(usdc) for at, usdc in by_hour.items()}}
            )
        return judge_vault(held, by_hour)

    async def _key(self, name: str, venue: str) -> Judged:
        address = str(getattr(self.desk.venue(venue), "address", ""))
        return judge_key(name, await read_key(self.desk, self.where, venue, address))

    # --- accounts, in turns ---

    async def _accounts(self, read_to: int) -> Judged:
        accounts = self.desk.store.accounts
        names = accounts.watched()
        start = self.next_account if self.next_account < len(names) else 0
        self.next_account = start + TURN
        turn = sorted({*names[start : start + TURN], *(one.account for one in self.suspects.values())})
        live, trades = accounts.deployments_of(turn), accounts.held_by(turn)
        held = {one.name for one in trades}
        self.suspects = {name: one for name, one in self.suspects.items() if name in held}
        once = Once(ostium_of(self.desk), self.where.rpc)
        found: Judged = {}

        async def one(account: str) -> Judged:
            mine = [row for row in live if row.account == account]
            its = [row for row in trades if row.account == account]
            return await self._account(account, mine, its, once, read_to)

        for name, ends in (await side_by_side(turn, one, at_once=len(turn) or 1)).items():
            if isinstance(ends, str):
                self.faults[name] = ends
            else:
                found |= ends
        return found

    async def _account(
        self,
        account: str,
        mine: Sequence[Deployment],
        trades: Sequence[AccountTrade],
        once: Once,
        read_to: int,
    ) -> Judged:
        markets = {row.deployment_id: trades[0].pair if trades else _a_market(row) for row in mine}
        pairs = sorted({*markets.values(), *(one.pair for one in trades)})
        seen, height, there, fees = await asyncio.gather(
            read_account(self.desk, account),
            once.height(),
            asyncio.gather(*(self._there(one) for one in trades)),
            asyncio.gather(*(once.fee(pair) for pair in pairs)),
        )
        for trade, shown in zip(trades, there, strict=True):
            if shown is not None:
                self._place(trade, shown, height, read_to)
        by_pair = dict(zip(pairs, fees, strict=True))
        found: Judged = {}
        for row in mine:
            if not was_active(self.desk.store, row):
                found[ALLOWANCE, row.deployment_id] = None
                continue
            found |= judge_allowance(row.deployment_id, seen, by_pair[markets[row.deployment_id]])
            finding = found[ALLOWANCE, row.deployment_id]
            self.moves.append(partial(follow_allowance, self.desk.store, row, seen, finding))
        for trade in trades:
            if trade.deployment_id is not None and trade.trade_id is not None:
                is_closing = trade.state is TradeState.CLOSING
                found |= judge_close(trade.name, seen, by_pair[trade.pair], is_closing=is_closing)
        return found

    async def _there(self, trade: AccountTrade) -> There | None:
        """Return what the chain has in the place of a trade, or of an order that waits; None where it has no place."""
        venue = ostium_of(self.desk)
        if trade.place is None:
            return None
        if trade.trade_id is None:
            order = await venue.waiting_at(trade.account, trade.pair, trade.place)
            is_there = order == Waits(trade.is_long, trade.paid_usdc, trade.leverage)
            return There(is_there, "nothing" if order is None else "another order")
        number = await venue.trade_at(trade.account, trade.pair, trade.place)
        return There(number == int(trade.trade_id), str(number or "nothing"))

    def _place(self, trade: AccountTrade, there: There, block: int, read_to: int) -> None:
        """Whether the chain has the trade in its place. What it shows now may be newer than our books: it counts once these
        have come to the block at which it was read, and it is shown still.
        """
        if there.is_there:
            self.suspects.pop(trade.name, None)
            if trade.state is TradeState.STALE:
                state = TradeState.PENDING if trade.trade_id is None else TradeState.OPEN
                self.moves.append(partial(self._move, trade.name, "the chain shows it again", state))
            return
        since = self.suspects.setdefault(trade.name, Suspect(trade.account, block)).block
        if trade.state is not TradeState.STALE and since <= read_to:
            why = f"the chain shows {there.shown} in its place"
            self.moves.append(partial(self._move, trade.name, why, TradeState.STALE))

    def _move(self, name: str, why: str, to: TradeState) -> None:
        try:
            self.desk.store.accounts.change_trade(name, why, state=to)
        except LostRace:  # it has ended meanwhile
            self.suspects.pop(name, None)


class There(NamedTuple):
    """Whether the chain has a trade in its place, and what it shows there."""

    is_there: bool
    shown: str


class Suspect(NamedTuple):
    """Whose trade is not where it should be, and at which block it was not."""

    account: str
    block: int


class Once:
    """What all accounts of one reading want alike: asked once for all of them."""

    def __init__(self, venue: OstiumVenue, rpc: EvmRpc) -> None:
        self._venue, self._rpc = venue, rpc
        self._head: asyncio.Task[Block] | None = None
        self._fees: dict[int, asyncio.Task[Decimal]] = {}

    async def height(self) -> int:
        """The chain's. Raises UNREAD."""
        if self._head is None:
            self._head = asyncio.ensure_future(self._rpc.head())
        return (await asyncio.shield(self._head)).number

    async def fee(self, pair: int) -> Decimal:
        """What a close takes of the wallet first in a market, USDC. Raises UNREAD."""
        if pair not in self._fees:
            self._fees[pair] = asyncio.ensure_future(self._venue.oracle_fee(pair))
        return await asyncio.shield(self._fees[pair])


async def read_key(desk: Desk, where: Where, venue: str, address: str) -> KeySeen:
    """Return a key of ours as the chain and the ledger show it: what it can pay, and its oldest number on the wire. Raises
    UNREAD.
    """
    wei, head, used = await asyncio.gather(
        where.rpc.balance(address), where.rpc.head(), where.rpc.transaction_count(address)
    )
    waiting = []
    for intent in desk.store.unfinished_intents(ACCOUNTS):
        attempt = desk.store.live_attempt(intent.intent_id) if intent.venue == venue else None
        if attempt is not None and attempt.key.get("sender") == address and attempt.key["nonce"] >= used:
            waiting.append((int(attempt.key["nonce"]), int(attempt.key["copies"][0]["at_ms"])))
    stuck = None
    if waiting:
        number, since_ms = min(waiting)
        stuck = number, desk.clock.now_ms() - since_ms
    return KeySeen(address=address, wei=wei, send_wei=2 * head.base_fee_wei * SEND_GAS, stuck=stuck)


async def read_account(desk: Desk, account: str) -> AccountSeen:
    """Return a user as the chain shows him. Raises UNREAD."""
    venue, pulls = ostium_of(desk), desk.venue(CHARGES)
    assert isinstance(pulls, TokenPulls)
    holds, allows, may_pull = await asyncio.gather(
        venue.holds_usdc(account), venue.allows_usdc(account), pulls.allows(account)
    )
    to_pay = desk.store.accounts.charges(ChargeState.DUE, ChargeState.OUTSTANDING, account=account)
    return AccountSeen(
        account=account,
        holds_usdc=holds,
        venue_may_usdc=allows,
        collector_may_usdc=pulls.token.amount(may_pull),
        owed_usdc=sum((one.usdc for one in to_pay), Decimal(0)),
    )


def was_active(store: Store, row: Deployment) -> bool:
    """Whether it ever was: a user who has not signed yet has lowered nothing."""
    if row.state is DeploymentState.ACTIVE:
        return True
    moves = store.transitions("deployment", row.deployment_id)
    return any(one.to_state == DeploymentState.ACTIVE for one in moves)


def follow_allowance(store: Store, row: Deployment, seen: AccountSeen, finding: Finding | None) -> None:
    """Pause a deployment whose user allows too little, and let it go on once he allows enough. One that a person paused stays
    paused.
    """
    accounts = store.accounts
    noted = row.seen | {"free_usdc": str(min(seen.holds_usdc, seen.venue_may_usdc))}
    if finding is not None and row.state is DeploymentState.ACTIVE:
        accounts.note_seen(row.deployment_id, noted | {PAUSED_FOR: ALLOWANCE})
        accounts.move_deployment(row.deployment_id, DeploymentState.PAUSED, finding.text)
    elif finding is None and row.state is DeploymentState.PAUSED and row.seen.get(PAUSED_FOR) == ALLOWANCE:
        accounts.move_deployment(row.deployment_id, DeploymentState.ACTIVE, "the user allows enough again")
        accounts.note_seen(row.deployment_id, noted | {PAUSED_FOR: ""})
    elif noted != row.seen:
        accounts.note_seen(row.deployment_id, noted)


def _a_market(row: Deployment) -> int:
    """A market of a deployment: fees of an order are asked of a market."""
    return min(int(one) for one in row.limits["pairs"])

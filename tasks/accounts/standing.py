"""What is read at the venue beside the logs: whether it trades, its vault, both keys, and in turns what users allow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from decimal import Decimal

from evenkeel.errors import UNREAD, LostRace, words_of
from evenkeel.units import HOUR_MS
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
from tasks.accounts.trading import CHARGES, OSTIUM, chain_of, ostium_of, side_by_side
from tasks.accounts.waiting import is_waiting
from tasks.accounts.watching import Where
from tasks.desk import Desk
from venues.evm.pulls import TokenPulls
from venues.ostium.venue import Waits

TURN = 10
"""Accounts that are read at one tick; a thousand of them come round in less than an hour."""
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
    suspects: dict[str, int] = field(default_factory=dict)
    """By a trade that the chain did not show in its place: the block at which it did not."""

    async def read(self, read_to: int) -> Judged:
        """Read everything whose turn it is, and judge it. `read_to`: the block up to which the books follow the chain. Raises
        nothing for what a venue answers.
        """
        self.faults = {}
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
        return judged

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
        live = accounts.deployments(DeploymentState.ACTIVE, DeploymentState.PAUSED)
        names = sorted({one.account for one in live} | {one.account for one in accounts.trades(*HELD)})
        start = self.next_account if self.next_account < len(names) else 0
        turn = names[start : start + TURN]
        self.next_account = start + TURN
        doubted = {one.account for one in accounts.trades(*HELD) if one.name in self.suspects}
        found: Judged = {}

        async def one(account: str) -> Judged:
            mine = [row for row in live if row.account == account]
            rows = accounts.trades(*HELD, TradeState.PENDING, account=account)
            there = [row for row in rows if row.state is not TradeState.PENDING or is_waiting(row)]
            return await self._account(account, mine, there, read_to)

        for name, ends in (await side_by_side(sorted({*turn, *doubted}), one)).items():
            if isinstance(ends, str):
                self.faults[name] = ends
            else:
                found |= ends
        return found

    async def _account(
        self, account: str, mine: list[Deployment], trades: list[AccountTrade], read_to: int
    ) -> Judged:
        venue = ostium_of(self.desk)
        for trade in trades:
            await self._place(trade, read_to)
        seen = await read_account(self.desk, account)
        found: Judged = {}
        for row in mine:
            fee = await venue.oracle_fee(trades[0].pair) if trades else await venue.oracle_fee(_a_market(row))
            found |= judge_allowance(row.deployment_id, seen, fee)
            follow_allowance(self.desk.store, row, seen, found[ALLOWANCE, row.deployment_id])
        for trade in trades:
            if trade.deployment_id is not None and trade.trade_id is not None:
                fee = await venue.oracle_fee(trade.pair)
                found |= judge_close(trade.name, seen, fee, is_closing=trade.state is TradeState.CLOSING)
        return found

    async def _place(self, trade: AccountTrade, read_to: int) -> None:
        """Whether the chain has the trade in its place. What it shows now may be newer than our books: it counts once these
        have come to the block at which it was read, and it is shown still.
        """
        if trade.place is None:
            return
        venue, waits = ostium_of(self.desk), trade.trade_id is None
        if waits:
            order = await venue.waiting_at(trade.account, trade.pair, trade.place)
            is_there = order == Waits(trade.is_long, trade.paid_usdc, trade.leverage)
            there = "nothing" if order is None else "another order"
        else:
            number = await venue.trade_at(trade.account, trade.pair, trade.place)
            is_there, there = number == int(trade.trade_id or 0), str(number or "nothing")
        try:
            if is_there:
                self.suspects.pop(trade.name, None)
                if trade.state is TradeState.STALE:
                    state = TradeState.PENDING if waits else TradeState.OPEN
                    self.desk.store.accounts.change_trade(trade.name, "the chain shows it again", state=state)
                return
            since = self.suspects.setdefault(trade.name, (await self.where.rpc.head()).number)
            if trade.state is not TradeState.STALE and since <= read_to:
                why = f"the chain shows {there} in its place"
                self.desk.store.accounts.change_trade(trade.name, why, state=TradeState.STALE)
        except LostRace:  # it has ended meanwhile
            self.suspects.pop(trade.name, None)


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

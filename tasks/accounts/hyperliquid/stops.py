"""Stops of users' trades on Hyperliquid: where they stand, what became of those that are gone, and how one is placed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from evenkeel.types import IntentState
from state.accounts.many import HYPERLIQUID
from state.accounts.models import AccountTrade, Deployment, DeploymentState, TradeState
from state.accounts.store import ACCOUNTS, AccountsStore
from state.models import Fence, Intent
from state.store import Store
from strategy.accounts.stops import StopRules, TradeSeen, wanted_stop
from tasks.accounts.booking import DESK, USER
from tasks.accounts.hyperliquid.booking import HELD_BEFORE, coin_of
from tasks.accounts.trading import next_step, plan
from tasks.desk import Desk
from tasks.intents import Done, NotDone, carry_out
from venues.hyperliquid.equity import READABLE_MODES
from venues.hyperliquid.managed import CLOSE, STOP, HyperliquidAgents
from venues.hyperliquid.models import WireOrder
from venues.hyperliquid.triggers import on_tick

TAKER_FEE = Decimal("0.00045")
"""Of the notional: what the venue takes of an order that a stop becomes, at its first tier (fact sheet 10)."""
WAIT_S = 5.0
CANCELLED = "canceled"
"""The venue's word for an order that its owner, or an agent of his, took away. What the venue itself cancels has another."""
GRACE_MS = 5_000
FIRED = ("triggered", "filled")
NOTHING_TO_CHANGE = "Cannot modify"
"""How the venue refuses to change an order that was gone already."""
AGAIN_MS = 60_000
"""A move that was refused is not asked for again so soon: the venue counts every request of an account."""


@dataclass
class Market:
    """A perpetual as the last list has it."""

    number: int
    sz_decimals: int


@dataclass
class HyperliquidStops:
    """`tasks.accounts.stops.Stops`. `funding_paid`: by trade, USDC since it was opened, as the account's last reading had it.
    `troubles`: by trade why its stop could not be set, in words, until it is.
    """

    store: Store
    agents: HyperliquidAgents
    slippage: Decimal
    close_slippage_bps: int
    markets: dict[str, Market] = field(default_factory=dict)
    funding_paid: dict[str, Decimal] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)
    refused: dict[str, tuple[Decimal, int]] = field(default_factory=dict)
    """By trade, the stop that was refused last, and when."""
    deployments: dict[str, Deployment] = field(default_factory=dict)
    """As they were when this tick's stops were judged."""
    sizes: dict[str, tuple[Decimal, Decimal]] = field(default_factory=dict)
    """By trade, the stop that stands and its size, as it was placed: asked of the ledger once."""
    venue: str = HYPERLIQUID

    def guarded(self, accounts: AccountsStore) -> Sequence[AccountTrade]:
        """Every trade there that is OPEN or CLOSING."""
        return accounts.trades(TradeState.OPEN, TradeState.CLOSING, venue=HYPERLIQUID)

    def may_set(self, trade: AccountTrade) -> bool:
        """Whether an agent may act for its account, and the account keeps its margin in a way that can be read."""
        if trade.deployment_id is None or coin_of(trade) not in self.markets:
            return False
        row = self.deployments.get(trade.deployment_id)
        return (
            row is not None
            and row.state is not DeploymentState.REVOKED
            and row.seen.get("mode", READABLE_MODES[0]) in READABLE_MODES
        )

    def wanted(self, trade: AccountTrade, best: Decimal, rules: StopRules) -> Decimal | None:
        """Where the rules want it; where it stands, if it is of another size than the trade."""
        stop = wanted_stop(self.seen(trade, best), rules)
        if stop is not None:
            found = on_tick(
                stop, is_buy=not trade.is_long, sz_decimals=self.markets[coin_of(trade)].sz_decimals
            )
            if found != trade.stop:
                return found
        return (
            trade.stop if trade.stop is not None and self._size(trade, trade.stop) < trade.asset_qty else None
        )

    def _size(self, trade: AccountTrade, stop: Decimal) -> Decimal:
        """How much the stop that stands closes; all of the trade where none of ours was ever placed."""
        known = self.sizes.get(trade.name)
        if known is None or known[0] != stop:
            last = last_stop(self.store, trade)
            size = trade.asset_qty if last is None else Decimal(str(last.order["size"]))
            known = self.sizes[trade.name] = stop, size
        return known[1]

    def seen(self, trade: AccountTrade, best: Decimal | None = None) -> TradeSeen:
        """The trade as its rules see it: costs are the fee of its close, and the funding that it has paid."""
        price = trade.open_price or Decimal(0)
        costs = trade.asset_qty * price * TAKER_FEE + self.funding_paid.get(trade.name, Decimal(0))
        return TradeSeen(
            is_long=trade.is_long,
            open_price=price,
            leverage=trade.leverage,
            collateral_usdc=trade.collateral_usdc,
            paid_usdc=trade.paid_usdc,
            costs_usdc=costs,
            best_price=best or trade.best_price or price,
            stop=trade.stop,
            most_stop_loss=Decimal(1),
        )

    async def set(
        self, desk: Desk, trade: AccountTrade, stop: Decimal, price: Decimal, fence: Fence | None
    ) -> None:
        """Place it, or put it in the place of the one that rests. Where the market has passed it, the trade is closed at the
        market, as it would have done; one that was held before its account came to us is not, and a person hears of it.
        """
        refused, now_ms = self.refused.get(trade.name), desk.clock.now_ms()
        is_same = refused is not None and refused[0] == stop and 0 <= now_ms - refused[1] < AGAIN_MS
        if is_same and trade.stop is not None:
            return
        is_passed = price <= stop if trade.is_long else price >= stop
        if is_passed and (trade.trade_id or "").startswith(f"{HELD_BEFORE}:"):
            self.troubles[trade.name] = (
                f"the market ({price}) had passed the stop at {stop} before we guarded it"
            )
            return
        if is_passed:
            end = await close(desk, trade, Decimal(1), self.close_slippage_bps, fence)
        else:
            end = await carry_out(desk, self._plan(desk, trade, stop, fence), fence, wait_s=WAIT_S)
        self.sizes.pop(trade.name, None)
        if isinstance(end, Done):
            self.troubles.pop(trade.name, None)
            self.refused.pop(trade.name, None)
        elif isinstance(end, NotDone):
            self.troubles[trade.name] = end.reason
            self.refused[trade.name] = stop, now_ms

    async def leave(self, desk: Desk, trade: AccountTrade, price: Decimal, fence: Fence | None) -> None:
        """Nothing: a close is an order of its own here."""

    def _plan(self, desk: Desk, trade: AccountTrade, stop: Decimal, fence: Fence | None) -> str:
        last = last_stop(desk.store, trade) if trade.stop is not None else None
        order = {
            **_whose(desk.store, trade),
            "coin": coin_of(trade),
            "is_buy": not trade.is_long,
            "size": str(trade.asset_qty),
            "stop": str(stop),
            "slippage": str(self.slippage),
            "replaces": None if last is None or last.result is None else int(last.result["detail"]["oid"]),
            "was": None if trade.stop is None else str(trade.stop),
        }
        return plan(desk, trade.name, STOP, next_step(desk, trade.name, STOP), order, fence, HYPERLIQUID)


async def close(
    desk: Desk,
    trade: AccountTrade,
    share: Decimal,
    slippage_bps: int,
    fence: Fence | None = None,
    *,
    wait_s: float = 15.0,
) -> Any:
    """Ask for the close of a share of a trade at the market, or go on with what was asked for; how the order ended. What it
    gave is booked by its fills.
    """
    going_on = [one for one in desk.store.unfinished_intents(ACCOUNTS, trade.name) if one.kind == CLOSE]
    if going_on:
        return await carry_out(desk, going_on[0].intent_id, fence, wait_s=wait_s)
    order = {
        **_whose(desk.store, trade),
        "coin": coin_of(trade),
        "is_buy": not trade.is_long,
        "size": str(trade.asset_qty * share),
        "reduce_only": True,
        "slippage_bps": str(Decimal(slippage_bps)),
    }
    intent = plan(desk, trade.name, CLOSE, next_step(desk, trade.name, CLOSE), order, fence, HYPERLIQUID)
    return await carry_out(desk, intent, fence, wait_s=wait_s)


def _whose(store: Store, trade: AccountTrade) -> dict[str, Any]:
    return {"account": trade.account, "generation": generation_of(store, trade.deployment_id or "")}


def generation_of(store: Store, deployment_id: str) -> int:
    """Which agent of an account is the present one."""
    return int(store.accounts.deployment(deployment_id).limits.get("generation", 1))


def last_stop(store: Store, trade: AccountTrade) -> Intent | None:
    """The intent of the stop that an agent placed last, with the venue's number of its order; None where there is none."""
    placed = [
        one
        for one in store.intents_of(ACCOUNTS, trade.name)
        if one.kind == STOP and one.state is IntentState.CONFIRMED and one.result is not None
    ]
    return placed[-1] if placed else None


async def follow_stop(
    store: Store, agents: HyperliquidAgents, trade: AccountTrade, fence: Fence | None
) -> None:
    """Ask what became of the stop that stands by the books, and note it: one that the user moved or took away is his from then
    on; one that is gone for another reason is to be placed again. Raises UNREAD, LostRace.
    """
    last = last_stop(store, trade)
    if trade.stop is None or trade.stop_by != DESK or last is None or last.result is None:
        return
    if any(one.kind == STOP for one in store.unfinished_intents(ACCOUNTS, trade.name)):
        return
    record = (await agents.client.order_status(trade.account, int(last.result["detail"]["oid"]))).order
    accounts = store.accounts
    if record is not None and record.status == "open":
        moved = record.order.trigger_px
        if record.order.is_trigger and moved and moved != trade.stop:
            accounts.change_trade(trade.name, "stop by the user", fence, stop=moved, stop_by=USER)
        return
    if record is not None and record.status in FIRED:
        return  # its fills say what it did
    resting = await agents.client.frontend_open_orders(trade.account, whole=False)
    if record is None and any(one.oid == int(last.result["detail"]["oid"]) for one in resting):
        return  # the record alone is gone
    # One that fired and found nobody to trade with waits for no trigger any more: that was not the user.
    by_hand = record is not None and record.status == CANCELLED and record.order.is_trigger is not False
    if record is not None and by_hand and not _by_us(store, trade, last, record.status_timestamp):
        his = nearest_stop(resting, trade)
        why = "the user took the stop away" if his is None else "stop by the user"
        accounts.change_trade(trade.name, why, fence, stop=his, stop_by=USER)
        return
    word = "no record" if record is None else record.status
    accounts.change_trade(trade.name, f"the stop is gone ({word}): it is placed again", fence, stop=None)


def nearest_stop(resting: list[WireOrder], trade: AccountTrade) -> Decimal | None:
    """The trigger of the stop nearest to the market that rests for a trade; None where there is none."""
    side = "A" if trade.is_long else "B"
    found = [
        one.trigger_px
        for one in resting
        if one.coin == coin_of(trade)
        and one.side == side
        and one.is_trigger
        and one.order_type.startswith("Stop")
        and one.reduce_only
        and one.trigger_px
    ]
    return (max(found) if trade.is_long else min(found)) if found else None


def _by_us(store: Store, trade: AccountTrade, last: Intent, at_ms: int) -> bool:
    """Whether a change of ours took it away: one that the venue refused cancels what it was to replace all the same."""
    for intent in store.intents_of(ACCOUNTS, trade.name):
        if (
            intent.kind != STOP
            or intent.step <= last.step
            or (intent.failure or "").startswith(NOTHING_TO_CHANGE)
        ):
            continue
        for attempt in store.attempts_of(intent.intent_id):
            began, ends = attempt.key.get("built_at_ms"), attempt.key.get("expires_after")
            if began is not None and ends is not None and began - GRACE_MS <= at_ms <= ends + GRACE_MS:
                return True
    return False

"""What the account of a position is built from: its rows in our ledger, and what both venues say of the same life."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from evenkeel.clock import Clock
from evenkeel.errors import NotUnderstood
from evenkeel.legs import CARRY, FundingPayment, LegSide, LegView
from evenkeel.types import Fill, VenueName
from evenkeel.units import HOUR_MS
from state.carry.liquidation_models import Liquidation
from state.carry.models import Position, PositionSnapshot
from state.ledger_models import Fee, FillRow
from state.models import Attempt, Intent, Transition
from state.store import Store
from tasks.carry.books.collect import prices_at_fills
from tasks.carry.books.movements import Movements, movements
from tasks.carry.desk import CarryDesk
from tasks.carry.mark import Mark
from tasks.carry.watching.needs import MODE_AT_ENTRY
from tasks.step import step

LISTS = ("hyperliquid userNonFundingLedgerUpdates", "hyperliquid userFunding", "hyperliquid userFillsByTime")
"""Sources of `desk.oddities` that an account is built from."""
LATE_STAMP_MS = 2 * HOUR_MS
"""A settlement may be stamped minutes after its hour: whose it is goes by the hour."""


@dataclass(frozen=True)
class Booked:
    """What our ledger says of a position at `now_ms`, each list in order of time."""

    position: Position
    now_ms: int
    intents: list[Intent]
    attempts: dict[str, list[Attempt]]
    """By intent."""
    short_fills: list[FillRow]
    foreign_fill_ids: frozenset[str]
    """Fills of the same time that no order of ours explains."""
    fees: list[Fee]
    funding: list[FundingPayment]
    liquidations: list[Liquidation]
    snapshots: list[PositionSnapshot]
    leg_moves: list[Transition]
    prices_at_fills: dict[int, Decimal] = field(default_factory=dict)
    """USD per SOL by the time of a fill that no order of ours explains."""

    @property
    def opened_ms(self) -> int:
        """When it was open, or when its entry began where it never was."""
        return self.position.opened_ms or self.position.created_ms

    @property
    def ended_ms(self) -> int:
        """When it ended; now while it lives."""
        return self.position.closed_ms or self.now_ms


@dataclass(frozen=True)
class Balances:
    """Money on both venues at one moment."""

    hyperliquid_usd: Decimal
    wallet_usdc: Decimal
    wallet_lamports: int
    at_ms: int

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Balances:
        """Return what was kept with the position."""
        return cls(
            hyperliquid_usd=Decimal(str(facts["hyperliquid_usd"])),
            wallet_usdc=Decimal(str(facts["wallet_usdc"])),
            wallet_lamports=int(facts["wallet_lamports"]),
            at_ms=int(facts["at_ms"]),
        )


@dataclass(frozen=True)
class Held:
    """What the venues say of money and prices. `open_long` is the long leg where it still stands."""

    before: Balances
    after: Balances
    mark: Mark
    short_mark_usd: Decimal
    open_long: LegView | None
    moved: Movements
    unread: str
    """Rows of Hyperliquid's ledgers that could not be read, in words; "" where all could."""
    lamports_taken: dict[str, int]
    """By intent of the long leg: what all its transactions on the chain took from the wallet."""


@dataclass(frozen=True)
class Listed:
    """Rows of Hyperliquid's own ledger over the position's life, ours or not."""

    funding: list[FundingPayment]
    fills: list[Fill]


class LedgerReader(Protocol):
    """Who has the ledger and a clock: a desk, or a process that has no venue."""

    @property
    def store(self) -> Store: ...

    @property
    def clock(self) -> Clock: ...


def read_booked(desk: LedgerReader, position: Position) -> Booked:
    """Return everything that our ledger holds of a position."""
    position_id, store, now_ms = position.position_id, desk.store, desk.clock.now_ms()
    intents = store.intents_of(CARRY, position_id)
    nearby = store.fills(position.created_ms, (position.closed_ms or now_ms) + 1)
    return Booked(
        position=position,
        now_ms=now_ms,
        intents=intents,
        attempts={one.intent_id: store.attempts_of(one.intent_id) for one in intents},
        short_fills=[row for row in store.fills_of(CARRY, position_id) if row.venue == VenueName.HYPERLIQUID],
        foreign_fill_ids=frozenset(row.fill_id for row in nearby if row.subject is None),
        fees=store.fees(CARRY, position_id),
        funding=store.carry.funding_payments(position_id=position_id),
        liquidations=store.carry.liquidations(position_id),
        snapshots=store.carry.snapshots(position_id),
        leg_moves=store.transitions("leg", *(f"{position_id}/{side.value}" for side in LegSide)),
        prices_at_fills=prices_at_fills(store, position),
    )


@step("read what both venues hold", tags=("report",))
async def read_held(desk: CarryDesk, position: Position) -> Held:
    """Return balances and prices as the venues state them, never as the books do."""
    before = Balances.of(position.facts["before"])
    mark = await desk.books.read_mark(position.asset, position.underlying)
    open_long = None
    if kept := position.facts.get("after"):
        after = Balances.of(kept)
    else:
        after, open_long = await _balances(desk), await _open_long(desk, position)
    return Held(
        before=before,
        after=after,
        mark=mark,
        short_mark_usd=(await desk.short.market.context(position.underlying)).mark_px,
        open_long=open_long,
        moved=movements(
            await desk.short.non_funding_ledger(before.at_ms, after.at_ms),
            desk.short.address,
            position.facts.get(MODE_AT_ENTRY),
        ),
        unread=_unread(desk),
        lamports_taken=await _lamports_taken(desk, position.position_id),
    )


def _unread(desk: CarryDesk) -> str:
    """What of the venue's lists of payments, fills and movements could not be read when they were last asked for."""
    words = desk.oddities.words()
    return "; ".join(words[one] for one in LISTS if words.get(one))


async def _balances(desk: CarryDesk) -> Balances:
    wallet, account = await desk.long.wallet_balances(), await desk.short.account()
    return Balances(account.account_value_usd, wallet.usdc, wallet.sol_lamports, desk.clock.now_ms())


async def _open_long(desk: CarryDesk, position: Position) -> LegView | None:
    leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
    if leg is None:
        return None
    views = await desk.long.legs(known_pdas=[(int(leg.protocol or 0), leg.ref)])
    return next((one for one in views if one.ref == leg.ref), None)


async def _lamports_taken(desk: CarryDesk, position_id: str) -> dict[str, int]:
    taken: dict[str, int] = {}
    for intent in desk.store.intents_of(CARRY, position_id):
        if intent.part != LegSide.LONG:
            continue
        taken[intent.intent_id] = 0
        for attempt in desk.store.attempts_of(intent.intent_id):
            for signature in attempt.key.get("signatures", []) if attempt.sent_ms is not None else []:
                landed = await desk.long.rpc.get_transaction(signature)
                if landed is not None:
                    taken[intent.intent_id] += _taken(signature, landed)
    return taken


def _taken(signature: str, landed: dict[str, Any]) -> int:
    """Lamports that a landed transaction took from its payer, who stands first. Raises NotUnderstood."""
    try:
        meta = landed["meta"]
        return int(meta["preBalances"][0]) - int(meta["postBalances"][0])
    except (LookupError, TypeError, ValueError, ArithmeticError):
        raise NotUnderstood("solana rpc", f"getTransaction {signature}: the balances of its payer") from None


@step("read Hyperliquid's ledger row by row", tags=("report",), retries=2)
async def read_listed(desk: CarryDesk, start_ms: int, end_ms: int) -> Listed:
    """Return the venue's own funding payments and fills of that time, on every coin."""
    return Listed(
        funding=await desk.short.funding_payments(start_ms, end_ms + LATE_STAMP_MS),
        fills=await desk.short.fills(start_ms, end_ms),
    )
